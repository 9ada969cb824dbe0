"""Finds the first difference of two images: partition, file, offset in the file."""

import os
import pathlib
import re
import typing
from collections.abc import Sequence

from orchestrator.image.layout import SECTOR, Layout, Partition
from orchestrator.image.tree import BLOCK
from orchestrator.shared import command as programs

_CHUNK = 1 << 20

#: ext4 reserves the inodes below FIRST_INODE (journal, resizing), except the root folder's.
FIRST_INODE, ROOT_INODE = 11, 2


def first_difference(one: pathlib.Path, other: pathlib.Path) -> int | None:
    """Return the offset of the first byte that differs; None if the files are equal."""
    with one.open("rb") as left, other.open("rb") as right:
        at = 0
        while True:
            a, b = left.read(_CHUNK), right.read(_CHUNK)
            if a != b:
                same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
                return at + (min(len(a), len(b)) if same is None else same)
            if not a:
                return None
            at += len(a)


def describe(image: pathlib.Path, layout: Layout, offset: int) -> str:
    """Describe for a person which partition and file hold `offset` of the raw image `image`."""
    for part in layout.partitions:
        if part.start <= offset < part.start + part.size:
            inner = offset - part.start
            place = f"partition {part.number} ({part.name}), offset {inner}"
            owner = _owner(image, part, inner)
            return f"{place}: {owner}" if owner else place
    return f"offset {offset}, outside of all partitions"


def _owner(image: pathlib.Path, part: Partition, offset: int) -> str:
    """Name the file or structure at `offset` of a partition; empty if no tool knows."""
    if part.name in {"ESP", "BOOT", "FIRMWARE"}:
        return _fat_owner(image, part, offset)
    blkid = ["blkid", "-p", "-O", str(part.start), "-s", "TYPE", "-o", "value", os.fspath(image)]
    kind = _said(blkid).strip()
    return _ext4_owner(image, part, offset) if kind == "ext4" else kind


def _ext4_owner(image: pathlib.Path, part: Partition, offset: int) -> str:
    block, inside = divmod(offset, BLOCK)
    inode = _debugfs(image, part, f"icheck {block}", rf"^{block}\s+([0-9]{{1,18}})$")
    if not inode or ROOT_INODE < int(inode[0]) < FIRST_INODE or int(inode[0]) < ROOT_INODE:
        return "ext4's own structures"
    path = _debugfs(image, part, f"ncheck {inode[0]}", rf"^{inode[0]}\s+(.+)$")
    name = f"/{path[0].lstrip('/')}" if path else f"inode {inode[0]}"
    # Pattern of a leaf of the extent tree in debugfs' output: its first block in the file, its
    # first and last block on the disk.
    number = "[0-9]{1,18}"
    pair = rf"\s*{number}/\s*{number}\s+"
    leaf = rf"^{pair}{pair}({number})\s*-\s*{number}\s+({number})\s*-\s*({number})\s"
    for extent in _debugfs(image, part, f"dump_extents <{inode[0]}>", leaf):
        logical, first, last = (int(number) for number in extent)
        if first <= block <= last:
            return f"{name}, offset {(logical + block - first) * BLOCK + inside}"
    return f"{name}, its list of blocks"


def _debugfs(image: pathlib.Path, part: Partition, request: str, pattern: str) -> list[typing.Any]:
    """Run a debugfs request; return `re.findall` of `pattern` in its output."""
    command = ["debugfs", "-R", request, f"{image}?offset={part.start}"]
    return re.findall(pattern, _said(command), re.MULTILINE)


def _said(command: Sequence[programs.Word]) -> str:
    """Return a tool's output; its failure is ignored, because it may not know the file system."""
    return programs.run(command, check=False).text


def _fat_owner(image: pathlib.Path, part: Partition, offset: int) -> str:
    """Name the file at `offset` of a FAT partition, from the clusters that mshowfat lists."""
    with image.open("rb") as disk:
        disk.seek(part.start)
        boot = disk.read(SECTOR)
    sector = int.from_bytes(boot[11:13], "little")
    cluster = sector * boot[13]
    reserved = int.from_bytes(boot[14:16], "little")
    # FAT16 keeps its root folder before the data area; FAT32 keeps the table size at offset 36.
    table = int.from_bytes(boot[22:24], "little") or int.from_bytes(boot[36:40], "little")
    top = int.from_bytes(boot[17:19], "little") * 32
    data = (reserved + boot[16] * table) * sector + top
    if offset < data:
        return "FAT's own structures"
    number = (offset - data) // cluster + 2
    place = f"{image}@@{part.start}"
    names = _said(["mdir", "-b", "-f", "-/", "-i", place, "::/"]).split("\n")
    for name in filter(None, names):
        shown = _said(["mshowfat", "-i", place, name])
        before = 0
        for first, last in re.findall("<([0-9]{1,18})(?:-([0-9]{1,18}))?>", shown):
            start, end = int(first), int(last or first)
            if start <= number <= end:
                at = (before + number - start) * cluster + (offset - data) % cluster
                return f"{name.removeprefix('::')}, offset {at}"
            before += end - start + 1
    return "a folder, or an unused cluster"
