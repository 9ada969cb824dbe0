"""Changes of a finished disk's bytes, made in its raw image or in a file of another format."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable

from orchestrator.image.filesystems.filesystem import FilesystemError
from orchestrator.shared import command as programs
from orchestrator.shared.disk_formats import DISK_FORMATS, DiskFormat


@dataclasses.dataclass(frozen=True)
class Change:
    """New bytes at an `offset` of the disk, which has written bytes there already."""

    offset: int
    data: bytes


@dataclasses.dataclass(frozen=True)
class Extent:
    """A range of the disk, in bytes, and its place in the image's file."""

    start: int
    length: int
    offset: int


def extents(file: pathlib.Path, kind: DiskFormat) -> list[Extent]:
    """Return where the disk's data lie uncompressed in the image `file` of the format `kind`.

    The list is empty if QEMU cannot tell, because the data are compressed or the format hides them.
    """
    if DISK_FORMATS[kind].box:
        return []
    command = ["qemu-img", "map", "--output=json", "-f", DISK_FORMATS[kind].driver, os.fspath(file)]
    said = programs.run(command, fails=FilesystemError)
    return [
        Extent(one["start"], one["length"], one["offset"])
        for one in json.loads(said.stdout)
        if one["data"] and "offset" in one
    ]


def placed(changes: Iterable[Change], where: Iterable[Extent]) -> list[Change] | None:
    """Return `changes` of a disk as changes of its file, or None if some bytes have no place."""
    known, found = list(where), []
    for one in changes:
        left = len(one.data)
        for extent in known:
            begin = max(one.offset, extent.start)
            end = min(one.offset + len(one.data), extent.start + extent.length)
            if begin < end:
                data = one.data[begin - one.offset : end - one.offset]
                found.append(Change(extent.offset + begin - extent.start, data))
                left -= len(data)
        if left:
            return None
    return found


def write(file: pathlib.Path, changes: Iterable[Change]) -> None:
    """Write `changes` into `file`."""
    with file.open("r+b", buffering=0) as image:
        for one in changes:
            image.seek(one.offset)
            image.write(one.data)
