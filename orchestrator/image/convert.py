"""Converts the raw image into the requested disk format and compresses it.

qemu-img writes random identifiers and the current time into the headers of some formats. They are
replaced by values derived from the image, so that equal inputs give equal bytes.
"""

import os
import pathlib
import re
import struct
import typing
import uuid
from collections.abc import Callable

from orchestrator.image import vagrant
from orchestrator.image.crc32c import crc32c
from orchestrator.image.filesystems.filesystem import FilesystemError
from orchestrator.image.layout import SECTOR
from orchestrator.shared import command as programs
from orchestrator.shared.disk_formats import DISK_FORMATS, DiskFormat
from orchestrator.shared.spec import Compression


def convert(raw: pathlib.Path, kind: DiskFormat, target: pathlib.Path, identity: uuid.UUID) -> None:
    """Convert `raw` into the format `kind` at `target`; for "raw" the file is only renamed."""
    if kind == "raw":
        raw.rename(target)
        return
    row = DISK_FORMATS[kind]
    # Without -W, which would allow writes out of order, the order of clusters is always the same.
    command = ["qemu-img", "convert", "-f", "raw", "-O", row.driver]
    command += ["-c"] if row.compress else []
    if row.options:
        command += ["-o", row.options]
    disk = target.with_name(f"{target.name}.disk") if row.box else target
    _run([*command, os.fspath(raw), os.fspath(disk)])
    _identify(disk, row.driver, identity)
    if row.box:
        vagrant.pack(disk, raw.stat().st_size, target)
        disk.unlink()


def identify(image: pathlib.Path, kind: DiskFormat, identity: uuid.UUID) -> None:
    """Give a copy of an image in the format `kind` its own identifiers; raw images have none."""
    _identify(image, DISK_FORMATS[kind].driver, identity)


def _identify(image: pathlib.Path, driver: str, identity: uuid.UUID) -> None:
    if fix := FIXES.get(driver):
        with image.open("r+b") as file:
            fix(file, identity)


def compress(image: pathlib.Path, how: Compression, target: pathlib.Path) -> None:
    """Compress `image` to `target` on all cores; the bytes do not depend on the core count."""
    cores = len(os.sched_getaffinity(0))
    commands = {
        # zstd's level 3 is nixpkgs' default: higher levels cost minutes and gain a few percent.
        "zstd": ["zstd", "-q", "-T0", "-3", "--no-progress", "-o", os.fspath(target)],
        # `-T+1` is xz's multi-threaded mode with one thread: `-T1` would not write blocks.
        "xz": ["xz", "-6", f"-T{cores if cores > 1 else '+1'}", "--block-size=24MiB", "--stdout"],
        "gz": ["pigz", "-n", "-6", "-p", str(max(cores, 2)), "--stdout"],
    }
    if how == "none":
        image.rename(target)
        return
    if how == "zstd":
        _run([*commands[how], os.fspath(image)])
        return
    with target.open("xb") as sink:
        _run([*commands[how], os.fspath(image)], sink)


def _run(command: list[str], sink: programs.Stream = programs.NOTHING) -> None:
    programs.run(command, stdout=sink, fails=FilesystemError)


def _write_at(image: typing.BinaryIO, offset: int, data: bytes) -> None:
    image.seek(offset)
    image.write(data)


def _read_at(image: typing.BinaryIO, offset: int, size: int) -> bytes:
    image.seek(offset)
    return image.read(size)


def _fix_vdi(image: typing.BinaryIO, identity: uuid.UUID) -> None:
    """Replace a VDI's UUIDs of image and last snapshot (QEMU's `block/vdi.c`, VdiHeader)."""
    _write_at(image, 0x188, identity.bytes_le + uuid.uuid5(identity, "snapshot").bytes_le)


def _fix_vpc(image: typing.BinaryIO, identity: uuid.UUID) -> None:
    """Replace time stamp and UUID in both VHD footers, and correct their checksums.

    "Virtual Hard Disk Image Format Specification" 1.0, Hard Disk Footer Format: time stamp at 24,
    checksum at 64, unique id at 68. The footer at offset 0 is a copy; fixed disks do not have it.
    """
    image.seek(-512, os.SEEK_END)
    last = image.tell()
    for offset in (0, last):
        footer = bytearray(_read_at(image, offset, 512))
        if footer[:8] != b"conectix":
            continue
        footer[24:28] = bytes(4)
        footer[64:68] = bytes(4)
        footer[68:84] = identity.bytes
        footer[64:68] = struct.pack(">I", ~sum(footer) & 0xFFFFFFFF)
        _write_at(image, offset, bytes(footer))


def _fix_vhdx(image: typing.BinaryIO, identity: uuid.UUID) -> None:
    """Replace a VHDX' GUIDs of both headers and of the disk (MS-VHDX 2.2.2 and 2.6.2.3).

    Headers lie at 64 and 128 KiB, each with a CRC-32C at 4, a sequence number at 8, file and data
    GUID at 16 and 32, the log's length and place at 68. The region table at 192 KiB holds the
    metadata table's place.
    """
    headers = {at: bytearray(_read_at(image, at, 4096)) for at in (64 << 10, 128 << 10)}
    if any(header[:4] != b"head" for header in headers.values()):
        raise FilesystemError("qemu-img has made a VHDX without a header at 64 or 128 KiB")
    # The header with the higher sequence number is valid; QEMU starts at a random number.
    order = sorted(headers, key=lambda at: int.from_bytes(headers[at][8:16], "little"))
    for offset, header in headers.items():
        header[8:16] = struct.pack("<Q", order.index(offset))
        header[16:32] = uuid.uuid5(identity, "file").bytes_le
        header[32:48] = uuid.uuid5(identity, "data").bytes_le
        header[4:8] = bytes(4)
        header[4:8] = struct.pack("<I", crc32c(bytes(header)))
        _write_at(image, offset, bytes(header))
        log_size, log_offset = struct.unpack_from("<IQ", header, 68)
        # The log is empty (log GUID 0), but its area still holds QEMU's old entries: clear it.
        _write_at(image, log_offset, bytes(log_size))
    regions = _read_at(image, 192 << 10, 64 << 10)
    metadata = _vhdx_entry(regions, 16, 32, "8b7ca206-4790-4b9a-b8fe-575f050f886e", "<Q", 16)
    table = _read_at(image, metadata, 64 << 10)
    page83 = _vhdx_entry(table, 32, 32, "beca12ab-b2e6-4523-93ef-c309e000c746", "<I", 16)
    _write_at(image, metadata + page83, identity.bytes_le)


def _vhdx_entry(table: bytes, first: int, step: int, guid: str, form: str, at: int) -> int:
    """Return the offset that the entry `guid` of a VHDX table points to."""
    wanted = uuid.UUID(guid).bytes_le
    for offset in range(first, len(table) - step + 1, step):
        if table[offset : offset + 16] == wanted:
            return int(struct.unpack_from(form, table, offset + at)[0])
    raise FilesystemError(f"qemu-img has made a VHDX without the entry {guid}")


def _fix_vmdk(image: typing.BinaryIO, identity: uuid.UUID) -> None:
    """Replace the content ID in the VMDK's text descriptor.

    VMware's "Virtual Disk Format 1.1", SparseExtentHeader: the descriptor's place and size, in
    sectors, at 28.
    """
    place, size = (SECTOR * n for n in struct.unpack("<QQ", _read_at(image, 28, 16)))
    text = _read_at(image, place, size).rstrip(b"\0")
    content = b"CID=" + identity.hex[:8].encode()
    fixed, count = re.subn(rb"^CID=[0-9a-f]{1,8}$", content, text, flags=re.MULTILINE)
    if count != 1:
        raise FilesystemError("qemu-img has made a VMDK without one content ID")
    _write_at(image, place, fixed.ljust(size, b"\0"))


#: Functions that make a converted file reproducible, by QEMU driver. Other drivers' files already
#: are.
FIXES: dict[str, Callable[[typing.BinaryIO, uuid.UUID], None]] = {
    "vdi": _fix_vdi,
    "vpc": _fix_vpc,
    "vhdx": _fix_vhdx,
    "vmdk": _fix_vmdk,
}
