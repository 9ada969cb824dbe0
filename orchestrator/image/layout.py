"""Where partitions lie: sizes and offsets, computed before a byte is written.

All numbers are bytes.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterable

MIB = 1 << 20

#: Partitions start on whole MiB: what every partitioner does, and a multiple of any flash's erase
#: block in use.
ALIGNMENT = MIB

#: GPT needs 34 sectors at the start and 33 at the end (UEFI specification, section 5.3.1); a whole
#: MiB each keeps alignment.
GPT_RESERVE = MIB

#: ext4's defaults of mke2fs: block size, inode size, and one inode for this many bytes.
EXT4_BLOCK = 4096
EXT4_INODE = 256
EXT4_BYTES_PER_INODE = 8192

#: The journal's size, given to mke2fs: enough for any image's first boots, and the same whatever
#: the file system's size.
EXT4_JOURNAL = 64 * MIB

#: Superblock copies, group descriptors and what mke2fs reserves for growing them.
EXT4_FIXED = 8 * MIB

#: Share of blocks that only root may use (`mke2fs -m`), in percent.
EXT4_RESERVED_PERCENT = 1


class LayoutError(Exception):
    """The parts do not fit; the message has both numbers."""


@dataclasses.dataclass(frozen=True)
class Partition:
    """A slot of the disk.

    `start` and `size` in bytes, `type` a GPT type alias that sfdisk knows.
    """

    name: str
    type: str
    start: int
    size: int


@dataclasses.dataclass(frozen=True)
class Layout:
    """Partitions in order, and the size of the whole disk in bytes."""

    partitions: tuple[Partition, ...]
    size: int


def tree_usage(paths: Iterable[pathlib.Path]) -> tuple[int, int]:
    """Count what `paths` and all below them need in ext4: (bytes in whole blocks, inodes)."""
    blocks = inodes = 0
    stack = [os.fspath(path) for path in paths]
    while stack:
        path = stack.pop()
        inodes += 1
        if os.path.islink(path):
            continue  # a link of less than 60 bytes lives in its inode; longer ones are rare
        if os.path.isdir(path):
            blocks += EXT4_BLOCK
            with os.scandir(path) as entries:
                stack.extend(entry.path for entry in entries)
        else:
            blocks += -(-os.stat(path).st_size // EXT4_BLOCK) * EXT4_BLOCK
    return blocks, inodes


def ext4_size(blocks: int, inodes: int, free: int) -> int:
    """Smallest sensible size of an ext4 file system that holds this much and leaves `free` bytes.

    Whole MiB.
    """
    data = (
        blocks + blocks // 50 + free + EXT4_JOURNAL + EXT4_FIXED
    )  # extent trees and directories' growth: below 2 %
    data += data * (EXT4_RESERVED_PERCENT + 1) // 100  # and the bitmaps: 2 blocks in 32,768
    by_inodes = inodes * EXT4_BYTES_PER_INODE  # mke2fs makes one inode for each that many bytes
    size = max(data + data // EXT4_BYTES_PER_INODE * EXT4_INODE, by_inodes + inodes * EXT4_INODE)
    return _round_up(size)


def efi_layout(esp_size: int, root_size: int, disk_size: int | None = None) -> Layout:
    """ESP, then root over the rest; `disk_size` None means as large as needed."""
    esp = Partition("ESP", "uefi", ALIGNMENT, _round_up(esp_size))
    root_start = esp.start + esp.size
    needed = root_start + _round_up(root_size) + GPT_RESERVE
    size = needed if disk_size is None else disk_size // ALIGNMENT * ALIGNMENT
    if size < needed:
        raise LayoutError(
            f"the disk of {size // MIB} MiB is too small: its parts need {needed // MIB} MiB"
        )
    return Layout(
        (esp, Partition("nixos", "linux", root_start, size - GPT_RESERVE - root_start)), size
    )


def _round_up(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
