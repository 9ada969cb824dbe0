"""Writes what Limine reads from the ESP, as NixOS' `limine-install.py` does, and its BIOS stages.

Names and texts are that program's (`tests/nixos/loaders.py` runs it), so that the first
`nixos-rebuild switch` on the device finds its own files.
"""

import datetime
import hashlib
import pathlib

from orchestrator.image.layout import CODE_BYTES, Layout
from orchestrator.image.loaders import bootloader
from orchestrator.image.loaders.bootloader import GENERATION, BootEntry, Files
from orchestrator.image.tree import STORE_TIME
from orchestrator.shared.architectures import SYSTEMS
from orchestrator.shared.spec import BootLoader, Limine, SpecError

#: Limine's folder on the boot partition.
FOLDER = "limine"

#: Files of `Limine.bios`: boot code of the MBR, content of the BIOS boot partition, and the stage
#: that is read from the boot partition.
MBR, STAGE, SYSTEM = "mbr", "stage2", "limine-bios.sys"

#: Field of the boot code with the place of the next stage, in bytes (limine's `host/limine.c`).
PLACE_FIELD = slice(0x1A8, 0x1B0)

#: The time that NixOS' program finds for the system of an image.
BUILT = datetime.datetime.fromtimestamp(STORE_TIME, datetime.UTC).strftime("%F %H:%M:%S")


def loader_files(system: str, loader: BootLoader, entries: list[BootEntry]) -> Files:
    """Return the ESP's files: Limine's programs, limine.conf, and what that names.

    Raises `SpecError` for a path that is taken, and for an entry's further initrd that is missing.
    """
    limine = loader.limine
    assert limine is not None  # the caller has looked
    files: Files = {}
    config = _config(loader, limine, entries, files)
    own: Files = {f"{FOLDER}/limine.conf": config}
    if limine.program:
        own[f"EFI/BOOT/{SYSTEMS[system].efi_name}"] = pathlib.Path(limine.program)
    if limine.bios:
        own[f"{FOLDER}/{SYSTEM}"] = pathlib.Path(limine.bios) / SYSTEM
    files |= own
    taken = {name.lower() for name in files}
    for name, source in limine.files.items():
        if f"{FOLDER}/{name}".lower() in taken:
            raise SpecError(f"boot.loader.limine.additionalFiles: {name} is Limine's own file")
        files[f"{FOLDER}/{name}"] = pathlib.Path(source)
    there = {name.lower() for name in files}
    for wanted in sorted({initrd for entry in entries for initrd in entry.extra_initrds}):
        if wanted.strip("/").lower() not in there:
            raise SpecError(f"system.boot.extraInitrd.paths: {wanted} is not on the boot partition")
    return files


def embed(image: pathlib.Path, layout: Layout, stages: pathlib.Path) -> None:
    """Write the BIOS stages of the folder `stages` into `image`, whose table has a BIOS partition.

    They name the place of that partition; raises `SpecError` if it is another one.
    """
    slot = layout.find("BIOS")
    assert slot is not None  # the spec's reader wants partition table hybrid
    code, stage = (stages / MBR).read_bytes(), (stages / STAGE).read_bytes()
    place = int.from_bytes(code[PLACE_FIELD], "little")
    if len(code) != CODE_BYTES or place != slot.start or len(stage) > slot.size:
        raise SpecError(
            f"spec.bootLoader.limine.bios: the stages are for a partition at byte {place}, the"
            f" image's begins at {slot.start}"
        )
    with image.open("r+b") as disk:
        disk.write(code)
        disk.seek(slot.start)
        disk.write(stage)


def _config(loader: BootLoader, limine: Limine, entries: list[BootEntry], files: Files) -> str:
    """Return limine.conf; the files that it names are added to `files`."""
    system, *special = entries
    lines = [
        limine.head,
        "",
        f"timeout: {'no' if loader.timeout < 0 else loader.timeout}",
        f"editor_enabled: {_word(loader.editor)}",
        f"hash_mismatch_panic: {_word(limine.panic)}",
        "graphics: yes",
        # Groups are entries, too.
        f"default_entry: {3 if special else 2}",
        *(
            f"wallpaper: {_copy(pathlib.Path(path), 'wallpapers', limine, files)}"
            for path in limine.wallpapers
        ),
    ]
    text = f"{bootloader.text(lines)}{limine.style}"
    text += f"\n# {loader.distroName} boot entries start here\n"
    text += f"/+{loader.distroName} default profile\n"
    if special:
        text += f"//+Generation {GENERATION}\n" + _entry("///Default", system, limine, files)
        for entry in special:
            text += _entry(f"///{entry.name}", entry, limine, files)
    else:
        text += _entry(f"//Generation {GENERATION}", system, limine, files)
    text += f"\n# {loader.distroName} boot entries end here\n\n{limine.entries}"
    return text.strip()


def _entry(title: str, entry: BootEntry, limine: Limine, files: Files) -> str:
    lines = [
        title,
        "protocol: linux",
        f"comment: {entry.label}, built on {BUILT}",
        f"kernel_path: {_copy(entry.kernel, 'kernels', limine, files)}",
        f"cmdline: {entry.options}",
        *([f"resolution: {limine.resolution}"] if limine.resolution else []),
    ]
    if entry.initrd:
        lines.append(f"module_path: {_copy(entry.initrd, 'kernels', limine, files)}")
    lines += [f"module_path: boot():/{path}" for path in entry.extra_initrds]
    return bootloader.text(lines)


def _copy(source: pathlib.Path, folder: str, limine: Limine, files: Files) -> str:
    """Add a file of the store to `files`; return its address, with the checksum if it is wanted."""
    place = f"{FOLDER}/{folder}/{source.parent.name}-{source.name}"
    files[place] = source
    if not limine.checksums:
        return f"boot():/{place}"
    with bootloader.resolve(str(source)).open("rb") as file:
        return f"boot():/{place}#{hashlib.file_digest(file, 'blake2b').hexdigest()}"


def _word(value: bool) -> str:
    return "yes" if value else "no"
