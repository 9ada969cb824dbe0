"""The ESP's files: names and texts as NixOS' own systemd-boot builder makes them."""

import json
import pathlib

import pytest

from orchestrator.image import bootloader
from orchestrator.image.spec import Bootspec, ImageSpec, SpecError, read_spec

HASH = "0c7zvwjrlhqirf3z3q1k0l0r8bq9m5yd"


@pytest.fixture
def store(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    store = tmp_path / "nix/store"
    for name, text in (
        ("linux-6.12/Image", "kernel"),
        ("initrd/initrd", "initrd"),
        ("boot/systemd-bootaa64.efi", "loader"),
    ):
        path = store / f"{HASH}-{name}"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    top = store / f"{HASH}-toplevel"
    top.mkdir()
    (top / "kernel").symlink_to(store / f"{HASH}-linux-6.12/Image")
    monkeypatch.setattr(bootloader, "_STORE", store)
    return store


def spec_of(store: pathlib.Path) -> ImageSpec:
    loader = {
        "type": "systemd-boot",
        "source": str(store / f"{HASH}-boot/systemd-bootaa64.efi"),
        "timeout": 3,
    }
    return read_spec(
        json.dumps(
            {
                "schema": 1,
                "name": "demo",
                "system": "aarch64-linux",
                "toplevel": "/nix/store/x",
                "format": "raw-efi",
                "partitionTable": "efi",
                "bootLoader": loader,
                "esp": {"label": "ESP", "sizeMiB": 96},
                "root": {"fsType": "ext4", "label": "nixos", "additionalSpaceMiB": 0},
            }
        )
    )


def boot_of(
    store: pathlib.Path, *, system: str = "aarch64-linux", kernel: str | None = None
) -> Bootspec:
    return Bootspec(
        system=system,
        label="NixOS demo",
        kernel=kernel or str(store / f"{HASH}-toplevel/kernel"),
        initrd=str(store / f"{HASH}-initrd/initrd"),
        init="/nix/store/t/init",
        toplevel="/nix/store/t",
        kernel_params=("console=ttyAMA0", "loglevel=4"),
    )


def test_the_files_are_exactly_these(store: pathlib.Path, tmp_path: pathlib.Path) -> None:
    esp = tmp_path / "esp"
    esp.mkdir()
    bootloader.write_esp(spec_of(store), boot_of(store), esp)
    found = {
        path.relative_to(esp).as_posix(): path.read_text()
        for path in esp.rglob("*")
        if path.is_file()
    }
    kernel = f"EFI/nixos/{HASH}-linux-6.12-Image.efi"
    initrd = f"EFI/nixos/{HASH}-initrd-initrd.efi"
    assert found == {
        "EFI/BOOT/BOOTAA64.EFI": "loader",
        "EFI/systemd/systemd-bootaa64.efi": "loader",
        kernel: "kernel",
        initrd: "initrd",
        "loader/loader.conf": "timeout 3\ndefault nixos-*\n",
        "loader/entries/nixos-generation-1.conf": (
            "title NixOS\n"
            "sort-key nixos\n"
            "version Generation 1 NixOS demo\n"
            f"linux /{kernel}\n"
            f"initrd /{initrd}\n"
            "options init=/nix/store/t/init console=ttyAMA0 loglevel=4\n"
        ),
    }


@pytest.mark.parametrize(
    ("system", "name"), [("x86_64-linux", "BOOTX64.EFI"), ("riscv64-linux", "BOOTRISCV64.EFI")]
)
def test_the_removable_medias_name_is_the_systems(
    system: str, name: str, store: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    bootloader.write_esp(spec_of(store), boot_of(store, system=system), tmp_path / "esp")
    assert [path.name for path in (tmp_path / "esp/EFI/BOOT").iterdir()] == [name]


def test_a_system_without_efi_is_refused(store: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(SpecError, match="armv7l-linux"):
        bootloader.write_esp(
            spec_of(store), boot_of(store, system="armv7l-linux"), tmp_path / "esp"
        )


@pytest.mark.parametrize(
    "place", ["outside", "nix/store/not-a-hash/Image", f"nix/store/{HASH}-gone/Image"]
)
def test_a_kernel_that_is_not_in_the_store_is_refused(
    place: str, store: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / place
    if "gone" not in place:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("kernel")
    with pytest.raises(SpecError):
        bootloader.write_esp(spec_of(store), boot_of(store, kernel=str(path)), tmp_path / "esp")
