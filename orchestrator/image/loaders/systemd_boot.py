"""Writes what is on the ESP and the XBOOTLDR partition, as NixOS' `systemd-boot-builder.py` does.

Names and texts are that program's, byte for byte (`tests/nixos/loaders.py` runs it), so that the
first `nixos-rebuild switch` on the device takes the entries for its own and reuses the kernels.
"""

import dataclasses
import datetime
import hashlib
import pathlib

from orchestrator.image.loaders import bootloader
from orchestrator.image.loaders.bootloader import BootEntry, Files
from orchestrator.image.tree import STORE_TIME
from orchestrator.shared.architectures import SYSTEMS
from orchestrator.shared.spec import BootLoader, SpecError

#: Folder of kernels, initrds and device trees.
KERNELS = "EFI/nixos"

#: The day that the builder finds for the system of an image: when its store path was made.
BUILT = datetime.datetime.fromtimestamp(STORE_TIME, datetime.UTC).strftime("%F")


def named(entries: list[BootEntry], loader: BootLoader) -> list[BootEntry]:
    """Return the entries with the version that systemd-boot's menu shows, and the names of files.

    Since NixOS 26.11 the name is a hash of the entry's text, before it had the generation's number.
    """
    dated = [
        dataclasses.replace(entry, version=f"{entry.version}, built on {BUILT}")
        for entry in entries
    ]
    if loader.entryNames == "generation":
        return dated
    return [
        dataclasses.replace(
            entry,
            identifier=f"nixos-{hashlib.sha256(_entry_text(entry, loader).encode()).hexdigest()}",
        )
        for entry in dated
    ]


def loader_files(system: str, loader: BootLoader, entries: list[BootEntry]) -> Files:
    """Return the ESP's files: systemd-boot under both its names, and loader.conf.

    `entries` are those of `named`; the first one is the default.
    """
    if system not in SYSTEMS:
        raise SpecError(f"bootspec.system: no EFI boot loader is known for {system}")
    program = pathlib.Path(loader.systemdBoot)
    default = f"{entries[0].identifier}.conf"
    lines = [
        f"timeout {'menu-force' if loader.timeout < 0 else loader.timeout}",
        # An entry that has used up its tries is passed over if it is only preferred.
        *([f"preferred {default}", "default nixos-*"] if loader.tries else [f"default {default}"]),
        *([] if loader.editor else ["editor 0"]),
        *(["reboot-for-bitlocker yes"] if loader.rebootForBitlocker else []),
        f"console-mode {loader.consoleMode}",
    ]
    return {
        f"EFI/BOOT/{SYSTEMS[system].efi_name}": program,
        f"EFI/systemd/{program.name}": program,
        "loader/loader.conf": bootloader.text(lines),
    }


def entry_files(entries: list[BootEntry], loader: BootLoader) -> Files:
    """Return the entries of `named` with their kernels, for the partition that systemd-boot reads.

    They are type 1 entries of the Boot Loader Specification. `entries.srel` tells bootctl so.
    """
    files: Files = {"loader/entries.srel": "type1\n"}
    counter = f"+{loader.tries}" if loader.tries else ""
    for entry in entries:
        for source in (entry.kernel, entry.initrd, entry.device_tree):
            if source:
                files[f"{KERNELS}/{bootloader.efi_name(source)}"] = source
        files[f"loader/entries/{entry.identifier}{counter}.conf"] = _entry_text(entry, loader)
    return files


def add_extra_files(loader: BootLoader, entries: list[BootEntry], files: Files) -> None:
    """Add the configuration's own files and entries to `files` of the partition with the entries.

    An empty file of the same path below `.extra-files` lets `nixos-rebuild` remove each one later.
    Raises `SpecError` for a path that is taken, and for an entry's further initrd that is missing.
    """
    extra: Files = {name: pathlib.Path(source) for name, source in loader.extraFiles.items()}
    extra |= {f"loader/entries/{name}": text for name, text in loader.extraEntries.items()}
    for name, content in extra.items():
        path = _as_spelled(name, files)
        if path in files:
            raise SpecError(f"spec.bootLoader: {name} is a file of the boot loader's own")
        files[path] = content
        files[f"{KERNELS}/.extra-files/{name}"] = ""
    for wanted in sorted({initrd for entry in entries for initrd in entry.extra_initrds}):
        if _as_spelled(wanted.strip("/"), files) not in files:
            raise SpecError(
                f"system.boot.extraInitrd.paths: {wanted} is not on the boot partition"
                " (boot.loader.systemd-boot.extraFiles puts it there)"
            )


def _entry_text(entry: BootEntry, loader: BootLoader) -> str:
    def line(key: str, source: pathlib.Path | None) -> list[str]:
        return [f"{key} /{KERNELS}/{bootloader.efi_name(source)}"] if source else []

    by_content = loader.entryNames == "content"
    sort_key = f"sort-key {entry.sort_key}"
    lines = [
        f"title {entry.title}",
        *([] if by_content else [sort_key]),
        f"version {entry.version}",
        *line("linux", entry.kernel),
        *line("initrd", entry.initrd),
        *(f"initrd /{path}" for path in entry.extra_initrds),
        f"options {entry.options}",
        *line("devicetree", entry.device_tree),
    ]
    # The newer builder's last line has no end.
    return "\n".join([*lines, sort_key]) if by_content else bootloader.text(lines)


def _as_spelled(name: str, files: Files) -> str:
    """Return `name` with its folders spelled as those of `files`: FAT ignores small and capital."""
    spelled: tuple[str, ...] = ()
    for part in name.split("/"):
        depth = len(spelled)
        known = (parts for one in files if len(parts := tuple(one.split("/"))) > depth)
        inside = (parts[depth] for parts in known if parts[:depth] == spelled)
        spelled += (next((one for one in inside if one.lower() == part.lower()), part),)
    return "/".join(spelled)
