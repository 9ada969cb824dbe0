"""Tests GRUB's menus; tests/tools/test_grub_menus.py compares them with those of the device."""

import pathlib

import pytest

from orchestrator.image.loaders import bootloader, grub_menu
from orchestrator.shared.spec import SpecError
from tests.unit.boot_systems import HASH, INITRD, KERNEL, boot_of, own_store


@pytest.fixture
def store(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    return own_store(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("kernels", "kernel"),
    [("kernels", f"/kernels/{KERNEL}"), ("", f"{{store}}/{HASH}-linux-6.18/bzImage")],
)
def test_grub_has_the_entries(kernels: str, kernel: str, store: pathlib.Path) -> None:
    boot = boot_of(store, kernel_params=("root=LABEL=nixos", "x=a b;c'"))
    files = grub_menu.alone(bootloader.boot_entries(boot), 5, kernels=kernels)
    config = str(files["grub/grub.cfg"])
    assert "set timeout=5\n" in config
    assert 'menuentry "NixOS - Generation 1 NixOS demo" --id "nixos-generation-1" {\n' in config
    line = next(line for line in config.splitlines() if line.startswith("  linux "))
    assert line.split()[1] == kernel.format(store=store)
    assert line.endswith(" root=LABEL=nixos x=a 'b;c'\\'''")
    if kernels:
        assert kernel.removeprefix("/") in files


def test_beside_systemd_boot_the_kernels_are_its_own(store: pathlib.Path) -> None:
    entries = bootloader.boot_entries(boot_of(store, extra_initrds=("more.cpio",)))
    files = grub_menu.beside_systemd_boot(entries, 5, editor=True)
    assert list(files) == ["grub/grub.cfg"]
    config = str(files["grub/grub.cfg"])
    assert f"  linux /EFI/nixos/{KERNEL}.efi init=" in config
    assert f"  initrd /EFI/nixos/{INITRD}.efi /more.cpio\n" in config
    assert 'set default="nixos-generation-1"\n' in config


def test_grub_alone_has_no_further_initrd(store: pathlib.Path) -> None:
    entries = bootloader.boot_entries(boot_of(store, extra_initrds=("more.cpio",)))
    with pytest.raises(SpecError, match=r"extraInitrd"):
        grub_menu.alone(entries, 5, kernels="")
