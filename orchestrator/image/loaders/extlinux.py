"""Writes U-Boot's menu, with the names and texts of NixOS' own `extlinux-conf-builder.sh`.

So the first `nixos-rebuild switch` on the device finds generation 1 and reuses its kernel.
"""

import datetime
import pathlib

from orchestrator.image.loaders import bootloader
from orchestrator.image.loaders.bootloader import BootEntry, Files
from orchestrator.image.tree import STORE_TIME
from orchestrator.shared.spec import Extlinux, SpecError

#: The time that NixOS' builder finds for the system of an image: when its store path was made.
BUILT = datetime.datetime.fromtimestamp(STORE_TIME, datetime.UTC).strftime("%Y-%m-%d %H:%M")


def menu_files(entries: list[BootEntry], extlinux: Extlinux, timeout: int) -> Files:
    """Return `extlinux/extlinux.conf` and the files that it names, for /boot.

    U-Boot reads extlinux.conf from the first partition that is marked active.
    """
    files: Files = {}
    # TIMEOUT is in tenths of a second, and 0 waits for ever. For 0 seconds NixOS shows no menu.
    tenths = 0 if timeout < 0 else max(1, 10 * timeout)
    lines = [
        "# Generated file, all changes will be lost on nixos-rebuild!",
        "",
        "# Change this to e.g. nixos-42 to temporarily boot to an older configuration.",
        "DEFAULT nixos-default",
        "",
        f"TIMEOUT {tenths}",
    ]
    if timeout:
        lines.append("MENU TITLE ------------------------------------------------------------")
    system, *special = entries
    # Menu entries as NixOS writes them: the default, the same system as a generation, its
    # specialisations.
    lines += _label(system, "default", "Default", extlinux, files)
    for entry in (system, *sorted(special, key=_rank, reverse=True)):
        tag = f"{bootloader.GENERATION}-{entry.name or 'default'}"
        menu = f"Configuration {tag} ({BUILT} - {entry.release})"
        lines += _label(entry, tag, menu, extlinux, files)
    files["extlinux/extlinux.conf"] = bootloader.text(lines)
    return files


def _rank(entry: BootEntry) -> tuple[int, str, str]:
    """Order of specialisations, largest first: by the number that a name begins with (sort -n)."""
    digits = entry.name[: len(entry.name) - len(entry.name.lstrip("0123456789"))].lstrip("0")
    return len(digits), digits, entry.name


def _label(entry: BootEntry, tag: str, menu: str, extlinux: Extlinux, files: Files) -> list[str]:
    if entry.extra_initrds:
        raise SpecError("extlinux: U-Boot loads one initrd, system.boot.extraInitrd has more")
    return [
        "",
        f"LABEL nixos-{tag}",
        f"  MENU LABEL NixOS - {menu}",
        f"  LINUX ../nixos/{_copy(entry.kernel, files)}",
        *([f"  INITRD ../nixos/{_copy(entry.initrd, files)}"] if entry.initrd else []),
        f"  APPEND {entry.options}",
        *(_device_trees(entry, extlinux.deviceTreeName, files) if extlinux.deviceTree else []),
    ]


def _device_trees(entry: BootEntry, name: str, files: Files) -> list[str]:
    """Return the extlinux lines for the kernel's device trees, and add those trees to `files`."""
    toplevel = pathlib.Path(entry.options.split()[0].removeprefix("init=")).parent
    folder = toplevel / "dtbs"
    if not folder.exists():
        if name:
            raise SpecError(f"{toplevel}: has no device trees, {name} is wanted")
        return []
    trees = bootloader.resolve(str(folder))
    for file in sorted(trees.rglob("*")):
        if file.is_file():
            inner = file.relative_to(trees).as_posix()
            files[f"nixos/{bootloader.clean_name(trees)}/{inner}"] = file
    if name and not (trees / name).is_file():
        raise SpecError(f"{trees}: has no device tree {name}")
    return (
        [f"  FDT ../nixos/{bootloader.clean_name(trees)}/{name}"]
        if name
        else [f"  FDTDIR ../nixos/{bootloader.clean_name(trees)}"]
    )


def _copy(source: pathlib.Path, files: Files) -> str:
    files[f"nixos/{bootloader.clean_name(source)}"] = source
    return bootloader.clean_name(source)
