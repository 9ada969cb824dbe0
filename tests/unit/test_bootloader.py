"""Tests boot loader files: names and texts equal those of NixOS' own builders."""

import dataclasses
import pathlib

import pytest

from orchestrator.image.bootspec import Bootspec
from orchestrator.image.loaders import bootloader
from orchestrator.shared.spec import BootLoader, Extlinux, SpecError

HASH = "0c7zvwjrlhqirf3z3q1k0l0r8bq9m5yd"
KERNEL, INITRD = f"{HASH}-linux-6.12-Image", f"{HASH}-initrd-initrd"


@pytest.fixture
def store(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    store = tmp_path / "nix/store"
    for name, text in (
        ("linux-6.12/Image", "kernel"),
        ("linux-6.12/dtbs/vendor/board.dtb", "tree"),
        ("initrd/initrd", "initrd"),
        ("microcode.img", "microcode"),
    ):
        path = store / f"{HASH}-{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    top = store / f"{HASH}-toplevel"
    top.mkdir()
    (top / "kernel").symlink_to(store / f"{HASH}-linux-6.12/Image")
    (top / "dtbs").symlink_to(store / f"{HASH}-linux-6.12/dtbs")
    monkeypatch.setattr(bootloader, "_STORE", store)
    return store


def boot_of(store: pathlib.Path, **changes: object) -> Bootspec:
    boot = Bootspec(
        system="aarch64-linux",
        label="NixOS demo",
        kernel=str(store / f"{HASH}-toplevel/kernel"),
        initrds=(str(store / f"{HASH}-initrd/initrd"),),
        init=str(store / f"{HASH}-toplevel/init"),
        toplevel=str(store / f"{HASH}-toplevel"),
        kernel_params=("console=ttyAMA0", "loglevel=4"),
    )
    return dataclasses.replace(boot, **changes)  # type: ignore[arg-type]


def texts(files: bootloader.Files) -> dict[str, str]:
    """Return the content of each file."""
    return {
        name: content if isinstance(content, str) else content.read_text()
        for name, content in files.items()
    }


def test_the_esp_has_the_loader_twice_and_its_settings(tmp_path: pathlib.Path) -> None:
    program = tmp_path / "systemd-bootaa64.efi"
    program.write_text("loader")
    loader = BootLoader(timeout=3, systemdBoot=str(program))
    assert texts(bootloader.systemd_boot_files("aarch64-linux", loader)) == {
        "EFI/BOOT/BOOTAA64.EFI": "loader",
        "EFI/systemd/systemd-bootaa64.efi": "loader",
        "loader/loader.conf": "timeout 3\ndefault nixos-*\n",
    }
    forever = dataclasses.replace(loader, timeout=-1)
    files = bootloader.systemd_boot_files("aarch64-linux", forever)
    assert files["loader/loader.conf"] == "timeout menu-force\ndefault nixos-*\n"
    strict = dataclasses.replace(loader, editor=False, consoleMode="max")
    files = bootloader.systemd_boot_files("aarch64-linux", strict)
    expected = "timeout 3\ndefault nixos-*\neditor 0\nconsole-mode max\n"
    assert files["loader/loader.conf"] == expected


def test_the_configurations_own_files_are_beside_the_loaders(tmp_path: pathlib.Path) -> None:
    program = tmp_path / "memtest.efi"
    loader = BootLoader(
        0,
        extraEntries={"memtest86.conf": "title Memtest86+\n"},
        extraFiles={"efi/memtest86/memtest.efi": str(program)},
    )
    files: bootloader.Files = {"EFI/BOOT/BOOTX64.EFI": program}
    bootloader.add_extra_files(loader, files)
    assert files == {
        "EFI/BOOT/BOOTX64.EFI": program,
        "EFI/memtest86/memtest.efi": program,
        "EFI/nixos/.extra-files/efi/memtest86/memtest.efi": "",
        "loader/entries/memtest86.conf": "title Memtest86+\n",
        "EFI/nixos/.extra-files/loader/entries/memtest86.conf": "",
    }
    taken = BootLoader(0, extraFiles={"efi/boot/bootx64.efi": str(program)})
    with pytest.raises(SpecError, match="the boot loader's own"):
        bootloader.add_extra_files(taken, files)


@pytest.mark.parametrize(
    ("system", "name"), [("x86_64-linux", "BOOTX64.EFI"), ("riscv64-linux", "BOOTRISCV64.EFI")]
)
def test_the_removable_medias_name_is_the_systems(system: str, name: str) -> None:
    files = bootloader.systemd_boot_files(system, BootLoader(0, systemdBoot="/x/sd.efi"))
    assert [path for path in files if path.startswith("EFI/BOOT/")] == [f"EFI/BOOT/{name}"]


def test_a_system_without_efi_is_refused() -> None:
    with pytest.raises(SpecError, match="powerpc64le-linux"):
        bootloader.systemd_boot_files("powerpc64le-linux", BootLoader(0, systemdBoot="/x"))


def test_an_entry_of_systemd_boot_is_exactly_this(store: pathlib.Path) -> None:
    entries = bootloader.boot_entries(boot_of(store))
    init = store / f"{HASH}-toplevel/init"
    assert texts(bootloader.bls_files(entries)) == {
        f"EFI/nixos/{KERNEL}.efi": "kernel",
        f"EFI/nixos/{INITRD}.efi": "initrd",
        "loader/entries/nixos-generation-1.conf": (
            "title NixOS\n"
            "version Generation 1 NixOS demo\n"
            f"linux /EFI/nixos/{KERNEL}.efi\n"
            f"initrd /EFI/nixos/{INITRD}.efi\n"
            f"options init={init} console=ttyAMA0 loglevel=4\n"
            "sort-key nixos\n"
        ),
    }


def test_specialisations_device_trees_and_further_initrds_get_their_lines(
    store: pathlib.Path,
) -> None:
    special = boot_of(store, label="other", sort_key="special")
    boot = boot_of(
        store,
        specialisations=(("fast", special),),
        device_tree=str(store / f"{HASH}-linux-6.12/dtbs/vendor/board.dtb"),
        initrds=(str(store / f"{HASH}-microcode.img"), str(store / f"{HASH}-initrd/initrd")),
    )
    files = texts(bootloader.bls_files(bootloader.boot_entries(boot)))
    first = files["loader/entries/nixos-generation-1.conf"].splitlines()
    assert [line for line in first if line.startswith("initrd")] == [
        f"initrd /EFI/nixos/{HASH}-microcode.img.efi",
        f"initrd /EFI/nixos/{INITRD}.efi",
    ]
    assert f"devicetree /EFI/nixos/{HASH}-linux-6.12-board.dtb.efi" in first
    second = files["loader/entries/nixos-generation-1-specialisation-fast.conf"].splitlines()
    assert second[:2] == ["title NixOS (fast)", "version Generation 1 other"]
    assert second[-1] == "sort-key special"


@pytest.mark.parametrize(
    ("kernels", "kernel"),
    [
        ("EFI/nixos", f"/EFI/nixos/{KERNEL}.efi"),
        ("kernels", f"/kernels/{KERNEL}"),
        (None, f"{{store}}/{HASH}-linux-6.12/Image"),
    ],
)
def test_grub_reads_the_same_entries(kernels: str | None, kernel: str, store: pathlib.Path) -> None:
    boot = boot_of(store, kernel_params=("root=LABEL=nixos", "x=a b;c'"))
    files = bootloader.grub_files(bootloader.boot_entries(boot), 5, kernels=kernels)
    config = str(files["grub/grub.cfg"])
    assert "set timeout=5\n" in config
    assert 'menuentry "NixOS - Generation 1 NixOS demo" --id "nixos-generation-1" {\n' in config
    line = next(line for line in config.splitlines() if line.startswith("  linux "))
    assert line.split()[1] == kernel.format(store=store)
    assert line.endswith(" root=LABEL=nixos x=a 'b;c'\\'''")
    if kernels:
        assert kernel.removeprefix("/") in files


def test_extlinux_is_what_nixos_writes(store: pathlib.Path) -> None:
    entries = bootloader.boot_entries(boot_of(store))
    files = texts(bootloader.extlinux_files(entries, Extlinux(), 5))
    init = store / f"{HASH}-toplevel/init"
    assert files == {
        f"nixos/{KERNEL}": "kernel",
        f"nixos/{INITRD}": "initrd",
        f"nixos/{HASH}-linux-6.12-dtbs/vendor/board.dtb": "tree",
        "extlinux/extlinux.conf": (
            "# Generated file, all changes will be lost on nixos-rebuild!\n"
            "\n"
            "# Change this to e.g. nixos-42 to temporarily boot to an older configuration.\n"
            "DEFAULT nixos-default\n"
            "\n"
            "TIMEOUT 50\n"
            "MENU TITLE ------------------------------------------------------------\n"
            "\n"
            "LABEL nixos-default\n"
            "  MENU LABEL NixOS - Default\n"
            f"  LINUX ../nixos/{KERNEL}\n"
            f"  INITRD ../nixos/{INITRD}\n"
            f"  APPEND init={init} console=ttyAMA0 loglevel=4\n"
            f"  FDTDIR ../nixos/{HASH}-linux-6.12-dtbs\n"
        ),
    }


@pytest.mark.parametrize(("timeout", "tenths", "menu"), [(0, 1, False), (-1, 0, True)])
def test_extlinux_knows_no_menu_and_no_end(
    timeout: int, tenths: int, menu: bool, store: pathlib.Path
) -> None:
    entries = bootloader.boot_entries(boot_of(store))
    config = str(bootloader.extlinux_files(entries, Extlinux(), timeout)["extlinux/extlinux.conf"])
    assert f"TIMEOUT {tenths}\n" in config
    assert ("MENU TITLE" in config) == menu


def test_a_named_device_tree_is_taken_or_refused(store: pathlib.Path) -> None:
    entries = bootloader.boot_entries(boot_of(store))
    named = Extlinux(deviceTreeName="vendor/board.dtb")
    config = str(bootloader.extlinux_files(entries, named, 1)["extlinux/extlinux.conf"])
    assert f"  FDT ../nixos/{HASH}-linux-6.12-dtbs/vendor/board.dtb\n" in config
    with pytest.raises(SpecError, match=r"no device tree other\.dtb"):
        bootloader.extlinux_files(entries, Extlinux(deviceTreeName="other.dtb"), 1)
    none = bootloader.extlinux_files(entries, Extlinux(deviceTree=False), 1)
    assert "FDT" not in str(none["extlinux/extlinux.conf"])


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
        bootloader.boot_entries(boot_of(store, kernel=str(path)))
