"""Replaces the content of files in an ext4 that mke2fs has just made, without mounting it.

A file may get another size, but not another number of blocks. So only its blocks and its inode
change, and the result has the bytes that mke2fs would have written with the new content.
"""

import dataclasses
import os
import pathlib
import re
import struct
from collections.abc import Mapping

from orchestrator.image.changes import Change
from orchestrator.image.crc32c import crc32c
from orchestrator.image.filesystems.ext4 import INODE
from orchestrator.image.filesystems.filesystem import FilesystemError
from orchestrator.image.layout import Partition
from orchestrator.image.tree import BLOCK, pieces
from orchestrator.shared import command as programs

#: Offsets in an inode: size (two halves), checksum (two halves), generation
#: (Linux' Documentation/filesystems/ext4/inodes.rst).
SIZE_LOW, SIZE_HIGH = 0x04, 0x6C
CHECKSUM_LOW, CHECKSUM_HIGH, GENERATION = 0x7C, 0x82, 0x64

#: Place of the superblock in the file system, and of the UUID in the superblock.
SUPERBLOCK, UUID = 1024, 0x68


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a file is: its inode's number and bytes, offsets of inode and written blocks.

    Offsets are bytes of the disk.
    """

    number: int
    inode: bytes
    offset: int
    blocks: tuple[int, ...]


class Files:
    """Files of the ext4 in the partition `slot` of the raw image `image`."""

    def __init__(self, image: pathlib.Path, slot: Partition, content: Mapping[str, bytes]) -> None:
        """Find the files whose present `content` is given by path.

        Raises `FilesystemError` if one is not there with as many blocks as its content has.
        """
        self._places: dict[str, Place] = {}
        with image.open("rb") as disk:
            disk.seek(slot.start + SUPERBLOCK + UUID)
            self._uuid = disk.read(16)
            for path, data in content.items():
                number, offset = _inode(image, slot, path)
                disk.seek(slot.start + offset)
                blocks = tuple(slot.start + one * BLOCK for one in _blocks(image, slot, number))
                place = Place(number, disk.read(INODE), slot.start + offset, blocks)
                self._places[path] = place
                if self._changes(place, data)[0].data != place.inode:
                    raise FilesystemError(f"/{path}: its inode is not the one that was expected")

    def changes(self, content: Mapping[str, bytes]) -> list[Change]:
        """Return the changes that give the files, by path, this content.

        Raises `FilesystemError` if a file would need another number of blocks.
        """
        return [
            one for path, data in content.items() for one in self._changes(self._places[path], data)
        ]

    def _changes(self, place: Place, data: bytes) -> list[Change]:
        written = [piece for piece in pieces(data) if any(piece)]  # zeros are holes: bulk.c
        if len(written) != len(place.blocks):
            raise FilesystemError(
                f"inode {place.number} has {len(place.blocks)} blocks, not {len(written)}"
            )
        return [
            Change(place.offset, self._sized(place, len(data))),
            *map(Change, place.blocks, written),
        ]

    def _sized(self, place: Place, size: int) -> bytes:
        """Return the inode with another size, and the checksum for it."""
        inode = bytearray(place.inode)
        struct.pack_into("<I", inode, SIZE_LOW, size & 0xFFFFFFFF)
        struct.pack_into("<I", inode, SIZE_HIGH, size >> 32)
        struct.pack_into("<H", inode, CHECKSUM_LOW, 0)
        struct.pack_into("<H", inode, CHECKSUM_HIGH, 0)
        seed = self._uuid + struct.pack("<I", place.number) + inode[GENERATION : GENERATION + 4]
        checksum = crc32c(seed + inode) ^ 0xFFFFFFFF  # ext4 does not invert the result
        struct.pack_into("<H", inode, CHECKSUM_LOW, checksum & 0xFFFF)
        struct.pack_into("<H", inode, CHECKSUM_HIGH, checksum >> 16)
        return bytes(inode)


def _inode(image: pathlib.Path, slot: Partition, path: str) -> tuple[int, int]:
    """Return the number of the inode of `path`, and its offset in the file system."""
    if '"' in path or not path.isprintable():
        raise FilesystemError(f"/{path}: debugfs takes no such path")
    said = _debugfs(image, slot, f'imap "/{path}"')
    found = re.search(
        r"Inode ([0-9]{1,18}) is part .*\n"
        r"\s*located at block ([0-9]{1,18}), offset 0x([0-9a-f]{1,18})",
        said,
    )
    if not found:
        raise FilesystemError(f"/{path}: debugfs does not find it")
    return int(found[1]), int(found[2]) * BLOCK + int(found[3], 16)


def _blocks(image: pathlib.Path, slot: Partition, number: int) -> list[int]:
    """Return the blocks of a file in order, without holes."""
    return [int(word) for word in _debugfs(image, slot, f"blocks <{number}>").split()]


def _debugfs(image: pathlib.Path, slot: Partition, request: str) -> str:
    command = ["debugfs", "-R", request, f"{os.fspath(image)}?offset={slot.start}"]
    return programs.run(command, fails=FilesystemError).text
