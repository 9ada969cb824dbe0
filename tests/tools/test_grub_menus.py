"""Tests GRUB's menus on the device: nixos-rebuild makes the same entries as the assembler."""

import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import typing
from collections.abc import Iterator

import pytest

from orchestrator.image.bootspec import Bootspec
from orchestrator.image.loaders import bootloader, grub_menu, systemd_boot
from orchestrator.shared.spec import BootLoader, GrubMenu
from tests.unit.boot_systems import whole_menu

MODULES = pathlib.Path(__file__).parents[2] / "nix/modules"
HASH = "0c7zvwjrlhqirf3z3q1k0l0r8bq9m5yd"
STORE = pathlib.Path("/nix/store")
PARAMS = ("console=ttyS0,115200", "weird=a;b", "loglevel=4")

pytestmark = pytest.mark.own_store


def system(name: str) -> pathlib.Path:
    """Make the files of a NixOS system that boot loader installers read."""
    top = STORE / f"{HASH}-{name}"
    for part in ("linux", "initrd"):
        (STORE / f"{HASH}-{part}-{name}").mkdir(parents=True)
        (STORE / f"{HASH}-{part}-{name}" / part).write_text(f"{part} of {name}")
    top.mkdir()
    (top / "kernel").symlink_to(STORE / f"{HASH}-linux-{name}/linux")
    (top / "initrd").symlink_to(STORE / f"{HASH}-initrd-{name}/initrd")
    (top / "init").write_text("init")
    (top / "kernel-params").write_text(" ".join(PARAMS))
    (top / "nixos-version").write_text(f"26.05.{name}")
    return top


def bootspec(top: pathlib.Path) -> Bootspec:
    return Bootspec(
        system="x86_64-linux",
        label=f"NixOS {(top / 'nixos-version').read_text()} (Linux 6.18)",
        kernel=str(top / "kernel"),
        initrd=str(top / "initrd"),
        init=str(top / "init"),
        toplevel=str(top),
        kernel_params=PARAMS,
    )


@pytest.fixture
def device() -> Iterator[pathlib.Path]:
    """Use this container's empty /nix and /boot as a device's."""
    profiles = pathlib.Path("/nix/var/nix/profiles")
    there = set(STORE.iterdir()) if STORE.exists() else set()
    profiles.mkdir(parents=True, exist_ok=True)
    yield profiles
    for link in profiles.glob("system*"):
        link.unlink()
    for path in set(STORE.iterdir()) - there:
        shutil.rmtree(path)
    for name in ("grub", "kernels", "theme", "EFI"):
        shutil.rmtree(f"/boot/{name}", ignore_errors=True)


def settings_of(menu: GrubMenu, folder: pathlib.Path) -> pathlib.Path:
    """Write a menu's settings as nix/modules/disk.nix does, for the hook."""
    settings = folder / "settings"
    (settings / "files").mkdir(parents=True)
    texts = ("head", "settings", "before", "after", "perEntry", "entryOptions")
    for name in texts:
        if text := getattr(menu, name):
            (settings / name).write_text(text)
    (settings / "subEntryOptions").write_text("--class nixos")
    if menu.theme:
        (settings / "theme").symlink_to(menu.theme)
    for name, source in menu.files.items():
        (settings / "files" / name).parent.mkdir(exist_ok=True)
        (settings / "files" / name).symlink_to(source)
    return settings


def install(top: pathlib.Path, settings: pathlib.Path, kernels: str = "") -> str:
    """Run the hook as nixos-rebuild does; returns the menu."""
    variables = {"TIMEOUT": "5", "LIMIT": "3", "KERNELS": kernels, "DISTRO": "Mine"}
    variables |= {**os.environ, "SETTINGS": str(settings)}
    subprocess.run(["sh", MODULES / "grub-menu.sh", top], env=variables, check=True)
    return pathlib.Path("/boot/grub/grub.cfg").read_text()


@pytest.mark.parametrize("kernels", ["", "kernels"])
@pytest.mark.parametrize("whole", [False, True])
def test_the_hook_writes_the_menu_that_the_image_had(
    kernels: str, whole: bool, device: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    top, special = system("one"), system("fast")
    (top / "specialisation").mkdir()
    (top / "specialisation/fast").symlink_to(special)
    (device / "system-1-link").symlink_to(top)
    own = whole_menu(tmp_path, "fonts/a b.pf2", "EFI/memtest.bin") if whole else GrubMenu()
    if whole:
        (tmp_path / "theme/fonts.pf2").write_text("a font beside its folder")
    menu = install(top, settings_of(own, tmp_path), kernels)
    boot = dataclasses.replace(bootspec(top), specialisations=(("fast", bootspec(special)),))
    entries = bootloader.boot_entries(boot, "Mine")
    files = grub_menu.alone(entries, BootLoader(5, grubMenu=own), kernels=kernels)
    assert menu == files["grub/grub.cfg"]
    assert pathlib.Path("/boot/grub/grub.cfg").stat().st_mode & 0o777 == 0o600
    for name in files.keys() - {"grub/grub.cfg"}:
        content = files[name]
        assert isinstance(content, pathlib.Path)
        assert pathlib.Path("/boot", name).read_bytes() == content.read_bytes()


def test_generations_follow_newest_first_and_old_kernels_go(
    device: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    settings = settings_of(GrubMenu(after="menuentry after { }\n"), tmp_path)
    tops = [system(str(number)) for number in range(5)]
    for number, top in enumerate(tops, 1):
        (device / f"system-{number}-link").symlink_to(top)
        install(top, settings, "kernels")
    menu = pathlib.Path("/boot/grub/grub.cfg").read_text()
    assert re.findall(r'--id "nixos-generation-(\d+)"', menu) == ["5", "4", "3"]
    assert len(list(pathlib.Path("/boot/kernels").iterdir())) == 6
    menu = install(
        tops[3], settings, "kernels"
    )  # after a rollback, the current system is the default
    assert re.findall(r'--id "nixos-generation-(\d+)"', menu) == ["4", "5", "3"]
    kinds = re.findall(r'^menuentry (after|"Mine).*?(--unrestricted|) ?{', menu, re.MULTILINE)
    assert kinds == [
        ('"Mine', "--unrestricted"),
        ("after", ""),
        ('"Mine', ""),
        ('"Mine', ""),
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"editor": False},
        {"entryNames": "content"},
        {"entryNames": "content", "tries": 3},
    ],
    ids=["generation", "no-editor", "content", "counting"],
)
def test_the_menu_of_systemd_boots_entries_is_the_images_own(
    settings: dict[str, typing.Any],
    device: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    assert device.exists()
    loader = BootLoader(timeout=5, systemdBoot="/x/systemd-bootx64.efi", **settings)
    boot = bootspec(system("one"))
    special = tuple((name, bootspec(system(name))) for name in ("fast", "quiet", "rescue"))
    boot = dataclasses.replace(boot, specialisations=special)
    entries = systemd_boot.named(bootloader.boot_entries(boot), loader)
    files = systemd_boot.loader_files("x86_64-linux", loader, entries)
    files |= systemd_boot.entry_files(entries, loader)
    names = sorted(name for name in files if name.endswith(".conf"))
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = files[name]
        assert isinstance(text, str)
        path.write_text(text)
    command: list[str | pathlib.Path] = ["awk", "-f", MODULES / "bls-to-grub.awk", *reversed(names)]
    menu = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    ours = grub_menu.beside_systemd_boot(entries, 5, editor=loader.editor)
    assert menu == ours["grub/grub.cfg"]
    assert ("superusers" in menu) is not loader.editor
