"""Clover: UEFI emulated on legacy BIOS, for machines that have nothing else.

Three stages start it (Clover's own `CloverEFI/BootSector`): boot0ss in the MBR finds the active
partition, boot1f32 in that partition's boot record loads the file `boot` (boot7) from its FAT32,
and this one is the emulated firmware, which runs EFI/CLOVER. Its settings chainload systemd-boot.
"""

import pathlib
import plistlib

from orchestrator.image.filesystems.fat import FAT32_BYTES
from orchestrator.image.layout import CODE_BYTES, SECTOR, Layout
from orchestrator.image.loaders.bootloader import Files
from orchestrator.shared.spec import SpecError

#: Where the MBR's four entries of 16 bytes begin.
FIRST_ENTRY = 446
ACTIVE = b"\x80"

#: Of a FAT32's boot record, what describes the file system (Microsoft's FAT specification 1.03,
#: page 9: the jump takes 3 bytes, BPB and extended BPB go up to 89).
PARAMETERS = slice(3, 90)
SIGNATURE = b"\x55\xaa"

#: Where mkfs.vfat keeps the boot record's copy: BPB_BkBootSec, at 50.
BACKUP_FIELD = slice(50, 52)

#: Files that the archive must have.
STAGES = ("boot0ss", "boot1f32", "boot7")


def files(archive: pathlib.Path, loader: str) -> Files:
    """What the ESP must have beside systemd-boot, whose path there is `loader`."""
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
    """Write the first two stages into `image` and mark the ESP's stand-in in the MBR active."""
    esp = layout.find("ESP")
    if esp is None or esp.size < FAT32_BYTES:
        raise SpecError("spec.bootLoader.clover: needs an ESP with a FAT32 (--boot-size)")
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
    """Clover's config.plist: start `loader` at once, without a menu of its own."""
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
