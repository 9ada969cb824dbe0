"""Writes GRUB's menus, as `grub-menu.sh` and `bls-to-grub.awk` of nix/modules do on a device."""

import dataclasses
import pathlib
import re

from orchestrator.image.loaders import bootloader
from orchestrator.image.loaders.bootloader import BootEntry, Files
from orchestrator.image.loaders.systemd_boot import KERNELS
from orchestrator.shared.spec import BootLoader, SpecError

#: The menu's path below the folder that GRUB was started from.
MENU = "grub/grub.cfg"

#: Folder of kernels and initrds on a boot partition, as NixOS' GRUB module names it.
OWN_KERNELS = "kernels"


def beside_systemd_boot(entries: list[BootEntry], timeout: int, *, editor: bool) -> Files:
    """Return the menu of systemd-boot's entries, whose kernels it shares.

    Without `editor` nobody is a superuser, and GRUB lets only superusers edit an entry or use its
    command line (GRUB's manual, "Authentication and authorisation").
    """
    lines = [
        *_head(timeout),
        *([] if editor else ['set superusers=""']),
        f'set default="{entries[0].identifier}"',
    ]
    for entry in entries:
        initrds = [f"/{KERNELS}/{bootloader.efi_name(entry.initrd)}"] if entry.initrd else []
        initrds += [f"/{path}" for path in entry.extra_initrds]
        kernel = f"/{KERNELS}/{bootloader.efi_name(entry.kernel)}"
        lines += _entry(entry, "" if editor else " --unrestricted", kernel, initrds)
    return {MENU: bootloader.text(lines)}


def alone(entries: list[BootEntry], loader: BootLoader, *, kernels: str) -> Files:
    """Return the menu and the files that it names, for the folder that GRUB was started from.

    `kernels` is the folder of kernels and initrds on a boot partition of their own; if it is empty,
    GRUB reads them from the store, and /boot is on the same file system.
    """
    menu = loader.grubMenu
    files: Files = {name: pathlib.Path(source) for name, source in menu.files.items()}

    def place(path: pathlib.Path) -> str:
        if not kernels:
            return str(path)
        files[f"{kernels}/{bootloader.clean_name(path)}"] = path
        return f"/{kernels}/{bootloader.clean_name(path)}"

    root = "" if kernels else "/boot"
    theme = _theme(pathlib.Path(menu.theme), root, files) if menu.theme else []
    lines: list[str] = []
    for one in entries:
        entry = dataclasses.replace(
            one, version=f"Generation {bootloader.GENERATION} {one.release}"
        )
        if entry.extra_initrds:
            raise SpecError("GRUB: system.boot.extraInitrd is read by systemd-boot alone")
        initrds = [place(entry.initrd)] if entry.initrd else []
        options = f" {menu.entryOptions}" if menu.entryOptions and not entry.name else ""
        lines += _entry(entry, options, place(entry.kernel), initrds, menu.perEntry)
    files[MENU] = (
        f"{bootloader.text(_head(loader.timeout))}{menu.head}{bootloader.text(theme)}{menu.settings}"
        f"{menu.before}{bootloader.text(lines)}{menu.after}"
    )
    return files


def _head(timeout: int) -> list[str]:
    return [
        "serial --unit=0 --speed=115200",
        "terminal_input console serial",
        "terminal_output console serial",
        f"set timeout={timeout}",
    ]


def _theme(theme: pathlib.Path, root: str, files: Files) -> list[str]:
    """Add the theme's files to `files`, and return the commands that load it."""
    found = sorted((path for path in theme.rglob("*") if path.is_file()), key=pathlib.Path.as_posix)
    for path in found:
        files[f"theme/{path.relative_to(theme).as_posix()}"] = path
    fonts = [path.relative_to(theme) for path in found if path.suffix.lower() == ".pf2"]
    return [
        f"set theme={root}/theme/theme.txt",
        "export theme",
        *(f"loadfont {root}/theme/{font.as_posix()}" for font in fonts),
    ]


def _entry(
    entry: BootEntry, options: str, kernel: str, initrds: list[str], first: str = ""
) -> list[str]:
    return [
        f'menuentry "{entry.title} - {entry.version}" --id "{entry.identifier}"{options} {{',
        *first.splitlines(),
        f"  linux {kernel} {_quote(entry.options)}",
        *([f"  initrd {' '.join(initrds)}"] if initrds else []),
        "}",
    ]


def _quote(options: str) -> str:
    """Quote the kernel command line for GRUB's script language."""
    return " ".join(
        word
        if re.fullmatch(r"[A-Za-z0-9_./:,=@%+-]+", word)
        else "'" + word.replace("'", "'\\''") + "'"
        for word in options.split()
    )
