"""Tells what an image file is by its content: disk format, compression, or why it cannot be used.

The name of a file says nothing certain: images are renamed, and downloads break off.
"""

import dataclasses
import pathlib
import struct

from orchestrator.image.examine import ISO_NAME, ISO_OFFSET
from orchestrator.image.layout import SECTOR

#: Size of sectors of some disks, for which a partition table's numbers mean other places.
LARGE_SECTOR = 4096

#: First bytes of each disk format; a VDI has them behind a text, a fixed VHD only at its end.
DISKS = {b"QFI\xfb": "qcow2", b"KDMV": "vmdk", b"vhdxfile": "vhdx", b"conectix": "vpc"}
VDI, VDI_OFFSET = b"\x7f\x10\xda\xbe", 64
FOOTER = 512

#: First bytes of compressed files, and the program that unpacks each.
PACKED = {b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\0": "xz", b"\x1f\x8b\x08": "gzip"}

#: First bytes of files that are no image themselves: what they are, and what to do.
OTHERS = {
    b"PK\x03\x04": ("a ZIP archive", "unpack it (unzip) and name the image inside"),
    b"BZh": ("compressed with bzip2", "unpack it (bunzip2)"),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", "unpack it (7z x) and name the image inside"),
    b"# Disk DescriptorFile": ("the description of a VMDK in several files", "join them: qemu-img"),
    b"COWD": ("a VMDK of VMware ESX", "convert it with qemu-img"),
    b"QED\0": ("a QED image", "convert it with qemu-img"),
    b"MSWIM\0": ("a Windows image", "NixOS images are disks"),
    b"<!DOCTYPE": ("a web page", "the download gave no image"),
    b"<html": ("a web page", "the download gave no image"),
    b"version https://git-lfs": ("a pointer of Git LFS", "git lfs pull fetches the image"),
}
TAR, TAR_OFFSET = b"ustar", 257

#: GPT header: its place is that of the disk's second sector, the last sector's number is in it
#: (UEFI specification, 5.3.2).
GPT = b"EFI PART"


class NoImageError(Exception):
    """The file is no image that can be booted: the message says what it is."""

    def __init__(self, message: str, hint: str) -> None:
        """`hint` says what to do."""
        super().__init__(message)
        self.hint = hint


@dataclasses.dataclass(frozen=True)
class Kind:
    """A disk format's name, "iso", or raw; with `packed`, the program that unpacks the file."""

    disk_format: str
    packed: str = ""


def kind_of(image: pathlib.Path) -> Kind:
    """Return what `image` is; raises `NoImageError` if it is not whole or not an image."""
    size = image.stat().st_size
    with image.open("rb") as file:
        head = file.read(ISO_OFFSET + len(ISO_NAME))
        file.seek(max(size - FOOTER, 0))
        foot = file.read(FOOTER)
    if not size:
        raise NoImageError("the file is empty", "copy or download it again")
    kind = kind_of_head(head)
    if kind.disk_format == "qcow2":
        _check_qcow2(head, size)
    if kind.packed or kind.disk_format not in {"raw", "iso"}:
        return kind
    if foot.startswith(b"conectix"):
        return Kind("vpc-fixed")
    _check_whole(head, size)
    return kind


def kind_of_head(head: bytes) -> Kind:
    """Return what a file is that begins with `head`; raises `NoImageError` if it is no image."""
    for magic, (what, hint) in OTHERS.items():
        if head.startswith(magic):
            raise NoImageError(f"the file is {what}", hint)
    if head[TAR_OFFSET:].startswith(TAR):
        what = "an OVA archive" if head[:100].rstrip(b"\0").endswith(b".ovf") else "a tar archive"
        raise NoImageError(f"the file is {what}", "unpack it (tar -xf) and name the disk inside")
    for magic, program in PACKED.items():
        if head.startswith(magic):
            return Kind("raw", program)
    for magic, name in DISKS.items():
        if head.startswith(magic):
            return Kind(name)
    if head[VDI_OFFSET:].startswith(VDI):
        return Kind("vdi")
    return Kind("iso" if head[ISO_OFFSET:].startswith(ISO_NAME) else "raw")


def _check_qcow2(head: bytes, size: int) -> None:
    """Raise `NoImageError` if the tables of a qcow2 image lie behind its end (QEMU's qcow2.txt)."""
    (tables,) = struct.unpack_from(">Q", head.ljust(48, b"\0"), 40)
    (counts,) = struct.unpack_from(">Q", head.ljust(56, b"\0"), 48)
    if size < 72 or max(tables, counts) >= size:
        raise _broken(size, max(tables, counts))


def _check_whole(head: bytes, size: int) -> None:
    """Raise `NoImageError` if the partition table names places behind the end of a raw image."""
    if head[SECTOR:].startswith(GPT):
        (last,) = struct.unpack_from("<Q", head, SECTOR + 32)
        if size < (last + 1) * SECTOR:
            raise _broken(size, (last + 1) * SECTOR)
    elif head[LARGE_SECTOR:].startswith(GPT):
        raise NoImageError(
            f"the partition table is for a disk with sectors of {LARGE_SECTOR} bytes",
            "make the image for sectors of 512 bytes, as QEMU's disks have",
        )
    elif head[510:512] == b"\x55\xaa" and not head[ISO_OFFSET:].startswith(ISO_NAME):
        places = [struct.unpack_from("<BxxxBxxxII", head, 446 + 16 * slot) for slot in range(4)]
        if all(active in {0, 0x80} for active, _kind, _start, _count in places):
            end = max((start + count for _active, kind, start, count in places if kind), default=0)
            if size < end * SECTOR:
                raise _broken(size, end * SECTOR)


def _broken(size: int, needed: int) -> NoImageError:
    return NoImageError(
        f"the file ends after {size} bytes, but the image has at least {needed}",
        "copy or download it again",
    )
