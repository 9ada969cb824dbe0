"""Tests GRUB's menus; tests/tools/test_grub_menus.py compares them with those of the device."""

import pathlib

import pytest

from orchestrator.image.loaders import bootloader, grub_menu
from orchestrator.shared.spec import BootLoader, SpecError
from tests.unit.boot_systems import HASH, INITRD, KERNEL, boot_of, own_store, whole_menu


@pytest.fixture
def store(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    return own_store(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("kernels", "kernel"),
    [("kernels", f"/kernels/{KERNEL}"), ("", f"{{store}}/{HASH}-linux-6.18/bzImage")],
)
def test_grub_has_the_entries(kernels: str, kernel: str, store: pathlib.Path) -> None:
    boot = boot_of(store, kernel_params=("root=LABEL=nixos", "x=a b;c'"))
    files = grub_menu.alone(bootloader.boot_entries(boot), BootLoader(5), kernels=kernels)
    config = str(files["grub/grub.cfg"])
    assert "set timeout=5\n" in config
    entry = 'menuentry "NixOS - Generation 1 NixOS demo" --id "nixos-generation-1"'
    assert f"{entry} --class nixos --unrestricted {{\n" in config
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
        grub_menu.alone(entries, BootLoader(5), kernels="")


def test_the_menu_is_as_the_configuration_wants_it(
    store: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    menu = whole_menu(tmp_path, "fonts/a.pf2", "memtest.bin")
    boot = boot_of(store, specialisations=(("fast", boot_of(store)),))
    entries = bootloader.boot_entries(boot)
    files = grub_menu.alone(entries, BootLoader(5, grubMenu=menu), kernels="")
    kernel = f"  linux {store}/{HASH}-linux-6.18/bzImage init={store}/{HASH}-toplevel/init"
    kernel += " console=ttyAMA0 loglevel=4"
    initrd = f"  initrd {store}/{HASH}-initrd/initrd"
    name = "Generation 1 NixOS demo"
    assert str(files["grub/grub.cfg"]).splitlines()[3:] == [
        "set timeout=5",
        "password me secret",
        'set superusers="me"',
        "set theme=/boot/theme/theme.txt",
        "export theme",
        "loadfont /boot/theme/fonts/a.pf2",
        "loadfont /boot/theme/fonts/b.PF2",
        "play 480 440 1",
        "menuentry before { }",
        f'menuentry "NixOS - {name}" --id "nixos-generation-1" --class mine {{',
        *("echo one", "echo two", kernel, initrd, "}"),
        # A specialisation asks for a password, as in NixOS' own menu.
        f'menuentry "NixOS (fast) - {name}" --id "nixos-generation-1-specialisation-fast" {{',
        *("echo one", "echo two", kernel, initrd, "}"),
        "menuentry after { }",
    ]
    assert files["theme/fonts/b.PF2"] == tmp_path / "theme/fonts/b.PF2"
    assert files["memtest.bin"] == tmp_path / "theme/theme.txt"
    on_a_partition = grub_menu.alone(entries, BootLoader(5, grubMenu=menu), kernels="kernels")
    assert "set theme=/theme/theme.txt\n" in str(on_a_partition["grub/grub.cfg"])
