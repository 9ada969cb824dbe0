"""Installs Clover: UEFI emulated on legacy BIOS, for machines without UEFI.

Three stages start it (Clover's own `CloverEFI/BootSector`): boot0ss in the MBR finds the active
partition, boot1f32 in that partition's boot record loads the file `boot` (boot7) from its FAT32,
and boot7 is the emulated firmware, which runs EFI/CLOVER. Clover's settings chainload systemd-boot.
"""

import pathlib
import plistlib

from orchestrator.image.filesystems.fat import FAT32_BYTES
from orchestrator.image.layout import CODE_BYTES, SECTOR, Layout
from orchestrator.image.loaders.bootloader import Files
from orchestrator.shared.spec import SpecError

#: Offset of the MBR's four partition entries, 16 bytes each.
FIRST_ENTRY = 446
ACTIVE = b"\x80"

#: Bytes of a FAT32 boot record that describe the file system, BPB and extended BPB (Microsoft's FAT
#: specification 1.03, page 9). The code around them is the loader's.
PARAMETERS = slice(3, 90)
SIGNATURE = b"\x55\xaa"

#: Field with the sector number of the boot record's backup (BPB_BkBootSec).
BACKUP_FIELD = slice(50, 52)

#: Boot stages that a Clover archive must contain.
STAGES = ("boot0ss", "boot1f32", "boot7")


def files(archive: pathlib.Path, loader: str) -> Files:
    """Return Clover's files for the ESP; `loader` is the path of systemd-boot on the ESP."""
    for stage in STAGES:
        if not (archive / stage).is_file():
            raise SpecError(f"spec.bootLoader.clover: {archive} holds no {stage}")
    found: Files = {"boot": archive / "boot7", "EFI/CLOVER/config.plist": _settings(loader)}
    for path in sorted((archive / "CLOVER").rglob("*")):
        name = f"EFI/CLOVER/{path.relative_to(archive / 'CLOVER').as_posix()}"
        if path.is_file() and name not in found:
            found[name] = path
    return found


def embed(image: pathlib.Path, layout: Layout, archive: pathlib.Path) -> None:
    """Write boot0ss and boot1f32 into `image`, and mark the MBR's first entry active."""
    esp = layout.find("ESP")
    if esp is None or esp.size < FAT32_BYTES:
        raise SpecError("spec.bootLoader.clover: needs an ESP large enough for FAT32 (--boot-size)")
    code = (archive / "boot0ss").read_bytes()[:CODE_BYTES]
    record = (archive / "boot1f32").read_bytes()[:SECTOR].ljust(SECTOR, b"\0")
    with image.open("r+b") as disk:
        disk.write(code.ljust(CODE_BYTES, b"\0"))
        disk.seek(FIRST_ENTRY)
        disk.write(ACTIVE)
        disk.seek(esp.start)
        there = disk.read(SECTOR)
        merged = bytearray(record)
        merged[PARAMETERS] = there[PARAMETERS]
        merged[-len(SIGNATURE) :] = SIGNATURE
        backup = int.from_bytes(there[BACKUP_FIELD], "little")
        for sector in (0, backup):
            disk.seek(esp.start + sector * SECTOR)
            disk.write(merged)


def _settings(loader: str) -> str:
    """Return Clover's config.plist, which starts `loader` at once without a menu."""
    path = "\\" + loader.replace("/", "\\")
    entry = {"Path": path, "Title": "NixOS", "FullTitle": "NixOS", "Type": "Linux", "Hidden": False}
    settings = {
        "Boot": {"DefaultVolume": "LastBootedVolume", "DefaultLoader": path, "Timeout": 0},
        "GUI": {
            "TextOnly": True,
            "Scan": {"Entries": False, "Legacy": False, "Tool": False},
            "Custom": {"Entries": [entry]},
        },
    }
    return plistlib.dumps(settings, sort_keys=True).decode()
