"""Writes GRUB's menus, as `grub-menu.sh` and `bls-to-grub.awk` of nix/modules do on a device."""

import pathlib
import re

from orchestrator.image.loaders import bootloader
from orchestrator.image.loaders.bootloader import BootEntry, Files
from orchestrator.image.loaders.systemd_boot import KERNELS
from orchestrator.shared.spec import SpecError

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
    return {"grub/grub.cfg": bootloader.text(lines)}


def alone(entries: list[BootEntry], timeout: int, *, kernels: str) -> Files:
    """Return `grub/grub.cfg` and the kernels and initrds that it names.

    `kernels` is their folder on the boot partition; if it is empty, GRUB reads them from the store.
    """
    files: Files = {}

    def place(path: pathlib.Path) -> str:
        if not kernels:
            return str(path)
        files[f"{kernels}/{bootloader.clean_name(path)}"] = path
        return f"/{kernels}/{bootloader.clean_name(path)}"

    lines = _head(timeout)
    for entry in entries:
        if entry.extra_initrds:
            raise SpecError("GRUB: system.boot.extraInitrd is read by systemd-boot alone")
        initrds = [place(entry.initrd)] if entry.initrd else []
        lines += _entry(entry, "", place(entry.kernel), initrds)
    files["grub/grub.cfg"] = bootloader.text(lines)
    return files


def _head(timeout: int) -> list[str]:
    return [
        "serial --unit=0 --speed=115200",
        "terminal_input console serial",
        "terminal_output console serial",
        f"set timeout={timeout}",
    ]


def _entry(entry: BootEntry, options: str, kernel: str, initrds: list[str]) -> list[str]:
    return [
        f'menuentry "{entry.title} - {entry.version}" --id "{entry.identifier}"{options} {{',
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
