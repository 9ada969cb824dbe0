"""Files of systemd-boot are those that NixOS' own program writes, byte for byte."""

import json
import pathlib

import pytest

from orchestrator.image.loaders import bootloader, systemd_boot
from orchestrator.shared.spec import BootLoader, SpecError
from tests.unit.boot_systems import (
    CASES,
    HASH,
    INITRD,
    KERNEL,
    LIMINE_CASES,
    boot_of,
    our_files,
    own_store,
    texts,
)

RECORDS = pathlib.Path(__file__).parents[1] / "nixos/esp"


@pytest.fixture
def store(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    return own_store(tmp_path, monkeypatch)


@pytest.mark.parametrize("case", CASES)
def test_the_files_are_those_that_nixos_wrote(
    case: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootloader, "STORE", tmp_path / "nix/store")
    recorded = json.loads((RECORDS / f"{case}.json").read_text())
    assert our_files(case, "content", tmp_path) == recorded


def test_there_is_a_record_for_each_case() -> None:
    assert {path.stem for path in RECORDS.iterdir()} == {*CASES, *LIMINE_CASES}


def test_before_26_11_entries_had_the_generations_number(store: pathlib.Path) -> None:
    special = boot_of(store, label="other", sort_key="special")
    tree = str(store / f"{HASH}-tree/vendor/board.dtb")
    boot = boot_of(store, specialisations=(("fast", special),), device_tree=tree)
    loader = BootLoader(timeout=3, systemdBoot="/x/systemd-bootaa64.efi")
    entries = systemd_boot.named(bootloader.boot_entries(boot), loader)
    files = texts(systemd_boot.entry_files(entries, loader))
    init = store / f"{HASH}-toplevel/init"
    assert files["loader/entries/nixos-generation-1.conf"] == (
        "title NixOS\n"
        "sort-key nixos\n"
        "version Generation 1 NixOS demo, built on 1970-01-01\n"
        f"linux /EFI/nixos/{KERNEL}.efi\n"
        f"initrd /EFI/nixos/{INITRD}.efi\n"
        f"options init={init} console=ttyAMA0 loglevel=4\n"
        f"devicetree /EFI/nixos/{HASH}-tree-board.dtb.efi\n"
    )
    second = files["loader/entries/nixos-generation-1-specialisation-fast.conf"].splitlines()
    assert second[:2] == ["title NixOS (fast)", "sort-key special"]
    settings = systemd_boot.loader_files("aarch64-linux", loader, entries)["loader/loader.conf"]
    assert settings == "timeout 3\ndefault nixos-generation-1.conf\nconsole-mode keep\n"


def test_a_file_of_the_boot_loaders_own_is_not_replaced() -> None:
    taken = BootLoader(0, extraFiles={"efi/boot/bootx64.efi": "/x"})
    with pytest.raises(SpecError, match="the boot loader's own"):
        systemd_boot.add_extra_files(taken, [], {"EFI/BOOT/BOOTX64.EFI": ""})


def test_an_initrd_that_is_not_on_the_partition_is_refused(store: pathlib.Path) -> None:
    entries = bootloader.boot_entries(boot_of(store, extra_initrds=("EFI/more.cpio",)))
    with pytest.raises(SpecError, match=r"EFI/more\.cpio is not on the boot partition"):
        systemd_boot.add_extra_files(BootLoader(0), entries, {})
    there = BootLoader(0, extraFiles={"efi/more.cpio": "/x"})
    systemd_boot.add_extra_files(there, entries, {"EFI/BOOT/BOOTX64.EFI": ""})


@pytest.mark.parametrize(
    ("system", "name"), [("x86_64-linux", "BOOTX64.EFI"), ("riscv64-linux", "BOOTRISCV64.EFI")]
)
def test_the_removable_medias_name_is_the_systems(
    system: str, name: str, store: pathlib.Path
) -> None:
    entries = bootloader.boot_entries(boot_of(store))
    files = systemd_boot.loader_files(system, BootLoader(0, systemdBoot="/x/sd.efi"), entries)
    assert [path for path in files if path.startswith("EFI/BOOT/")] == [f"EFI/BOOT/{name}"]


def test_a_system_without_efi_is_refused() -> None:
    with pytest.raises(SpecError, match="powerpc64le-linux"):
        systemd_boot.loader_files("powerpc64le-linux", BootLoader(0, systemdBoot="/x"), [])
