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
from orchestrator.shared.spec import BootLoader

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
        label=(top / "nixos-version").read_text(),
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
    for name in ("grub", "kernels"):
        shutil.rmtree(f"/boot/{name}", ignore_errors=True)


def install(top: pathlib.Path, kernels: str = "") -> str:
    """Run the hook as nixos-rebuild does; returns the menu."""
    variables = {**os.environ, "TIMEOUT": "5", "LIMIT": "3", "KERNELS": kernels}
    subprocess.run(["sh", MODULES / "grub-menu.sh", top], env=variables, check=True)
    return pathlib.Path("/boot/grub/grub.cfg").read_text()


@pytest.mark.parametrize("kernels", ["", "kernels"])
def test_the_hook_writes_the_menu_that_the_image_had(kernels: str, device: pathlib.Path) -> None:
    top = system("one")
    (device / "system-1-link").symlink_to(top)
    menu = install(top, kernels)
    entries = bootloader.boot_entries(bootspec(top))
    files = grub_menu.alone(entries, 5, kernels=kernels)
    assert menu == files["grub/grub.cfg"]
    for name in files.keys() - {"grub/grub.cfg"}:
        content = files[name]
        assert isinstance(content, pathlib.Path)
        assert pathlib.Path("/boot", name).read_bytes() == content.read_bytes()


def test_generations_follow_newest_first_and_old_kernels_go(device: pathlib.Path) -> None:
    tops = [system(str(number)) for number in range(5)]
    for number, top in enumerate(tops, 1):
        (device / f"system-{number}-link").symlink_to(top)
        install(top, "kernels")
    menu = pathlib.Path("/boot/grub/grub.cfg").read_text()
    assert re.findall(r'--id "nixos-generation-(\d+)"', menu) == ["5", "4", "3"]
    assert len(list(pathlib.Path("/boot/kernels").iterdir())) == 6
    menu = install(tops[3], "kernels")  # after a rollback, the current system is the default
    assert re.findall(r'--id "nixos-generation-(\d+)"', menu) == ["4", "5", "3"]


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
