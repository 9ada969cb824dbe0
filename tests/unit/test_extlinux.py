"""U-Boot's menu is the one that NixOS' own extlinux-conf-builder.sh writes."""

import pathlib

import pytest

from orchestrator.image.loaders import bootloader, extlinux
from orchestrator.shared.spec import Extlinux, SpecError
from tests.unit.boot_systems import HASH, INITRD, KERNEL, boot_of, own_store, texts


@pytest.fixture
def store(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    return own_store(tmp_path, monkeypatch)


def test_extlinux_is_what_nixos_writes(store: pathlib.Path) -> None:
    entries = bootloader.boot_entries(boot_of(store))
    files = texts(extlinux.menu_files(entries, Extlinux(), 5))
    init = store / f"{HASH}-toplevel/init"
    assert files == {
        f"nixos/{KERNEL}": "kernel",
        f"nixos/{INITRD}": "initrd",
        f"nixos/{HASH}-linux-6.18-dtbs/vendor/board.dtb": "tree",
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
            f"  FDTDIR ../nixos/{HASH}-linux-6.18-dtbs\n"
            "\n"
            "LABEL nixos-1-default\n"
            "  MENU LABEL NixOS - Configuration 1-default (1970-01-01 00:00 - NixOS demo)\n"
            f"  LINUX ../nixos/{KERNEL}\n"
            f"  INITRD ../nixos/{INITRD}\n"
            f"  APPEND init={init} console=ttyAMA0 loglevel=4\n"
            f"  FDTDIR ../nixos/{HASH}-linux-6.18-dtbs\n"
        ),
    }


@pytest.mark.parametrize(("timeout", "tenths", "menu"), [(0, 1, False), (-1, 0, True)])
def test_extlinux_knows_no_menu_and_no_end(
    timeout: int, tenths: int, menu: bool, store: pathlib.Path
) -> None:
    entries = bootloader.boot_entries(boot_of(store))
    config = str(extlinux.menu_files(entries, Extlinux(), timeout)["extlinux/extlinux.conf"])
    assert f"TIMEOUT {tenths}\n" in config
    assert ("MENU TITLE" in config) == menu


def test_a_named_device_tree_is_taken_or_refused(store: pathlib.Path) -> None:
    entries = bootloader.boot_entries(boot_of(store))
    named = Extlinux(deviceTreeName="vendor/board.dtb")
    config = str(extlinux.menu_files(entries, named, 1)["extlinux/extlinux.conf"])
    assert f"  FDT ../nixos/{HASH}-linux-6.18-dtbs/vendor/board.dtb\n" in config
    with pytest.raises(SpecError, match=r"no device tree other\.dtb"):
        extlinux.menu_files(entries, Extlinux(deviceTreeName="other.dtb"), 1)
    none = extlinux.menu_files(entries, Extlinux(deviceTree=False), 1)
    assert "FDT" not in str(none["extlinux/extlinux.conf"])


def test_a_second_initrd_is_refused(store: pathlib.Path) -> None:
    entries = bootloader.boot_entries(boot_of(store, extra_initrds=("more.cpio",)))
    with pytest.raises(SpecError, match=r"extraInitrd"):
        extlinux.menu_files(entries, Extlinux(), 1)


def test_specialisations_follow_as_the_device_sorts_them(store: pathlib.Path) -> None:
    long = "9" * 5000
    special = tuple((name, boot_of(store)) for name in ("10", "0009", long, "fast", "quiet"))
    entries = bootloader.boot_entries(boot_of(store, specialisations=special))
    menu = str(extlinux.menu_files(entries, Extlinux(), 1)["extlinux/extlinux.conf"])
    labels = [line.partition("nixos-")[2] for line in menu.splitlines() if line[:6] == "LABEL "]
    assert labels == ["default", "1-default", f"1-{long}", "1-10", "1-0009", "1-quiet", "1-fast"]
