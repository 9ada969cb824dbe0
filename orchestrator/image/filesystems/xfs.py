"""Makes xfs in a separate file: mkfs.xfs reads a prototype and has no offset option."""

import os
import pathlib
import re
import stat
from collections.abc import Iterator

from orchestrator.image.filesystems.filesystem import FilesystemError, Order, own_file
from orchestrator.image.filesystems.staged_tree import owners_of, staged
from orchestrator.image.layout import Partition
from orchestrator.image.tree import Entry
from orchestrator.shared import command as programs
from orchestrator.shared.constants import MIB

#: Smallest size in bytes that mkfs.xfs accepts (xfsprogs 6.13, `mkfs/xfs_mkfs.c`).
SMALLEST = 300 * MIB


def size(usage: tuple[int, int], free: int) -> int:
    """Estimate the size in bytes: content, log, headers of allocation groups."""
    blocks, inodes = usage
    return max(SMALLEST, 100 * MIB + (blocks + 1024 * inodes + free) * 106 // 100)


def write(order: Order) -> None:
    """Write `order.tree` into the partition `order.slot` as xfs."""
    spec = order.spec
    with own_file(order) as file, staged(order) as stage:
        prototype = stage.owners.with_name("prototype")
        lines = _prototype(stage.root, owners_of(order.tree, stage.root))
        with prototype.open("wb") as target:
            target.writelines(
                b"%s\n" % line for line in (b"/", b"0 0", b"d--755 0 0", *lines, b"$")
            )
        command = ["mkfs.xfs", "-q", "-f", "-K", "-L", spec.root.label]
        command += ["-m", f"uuid={spec.identifier('root')},crc=1,finobt=1,rmapbt=1,reflink=1"]
        command += ["-d", "agcount=4,noalign", "-l", "size=64m", "-s", "size=512"]
        command += ["-p", f"file={prototype},slashes_are_spaces=1", os.fspath(file)]
        stage.feed(command, spec.identifier("xfs"), {})
        for entry in order.tree.entries:
            if entry.mode & stat.S_ISVTX:
                _stick(file, entry)


def examine(image: pathlib.Path, slot: Partition) -> None:
    """Check nothing: xfs_repair has no offset option."""


def _stick(file: pathlib.Path, entry: Entry) -> None:
    """Give `entry` its whole mode in the xfs `file`: prototypes have no place for a sticky bit."""
    mode = f"0{(stat.S_IFDIR if entry.kind == 'folder' else stat.S_IFREG) | entry.mode:o}"
    orders = (f"path /{entry.path}", f"write core.mode {mode}", "print core.mode")
    words = [word for order in orders for word in ("-c", order)]
    done = programs.run(["xfs_db", "-x", *words, os.fspath(file)], fails=FilesystemError)
    # xfs_db cannot reach a path with a blank, and goes on then where it is.
    if done.stderr or re.search(r"\s", entry.path) or f"core.mode = {mode}\n" not in done.text:
        raise FilesystemError(f"/{entry.path}: cannot get its sticky bit on xfs: {done.last}")


def _prototype(folder: pathlib.Path, owners: dict[str, tuple[int, int]]) -> Iterator[bytes]:
    """Yield lines of an mkfs.xfs prototype for the content of `folder` (mkfs.xfs(8), -p).

    A space in a name is written as a slash. The path of a source may contain no space, for which it
    has a question mark: `still.c` knows that.
    """
    for path in sorted(folder.iterdir(), key=lambda path: os.fsencode(path.name)):
        name, status = os.fsencode(path.name), path.lstat()
        if name.startswith(b":") or name == b"$" or re.search(rb"[\t\n]", name):
            raise FilesystemError(f"{path.name!r}: mkfs.xfs does not allow this file name")
        user, group = owners.get(str(path), (0, 0))
        mode = stat.S_IMODE(status.st_mode)
        special = b"u" if mode & stat.S_ISUID else b"-", b"g" if mode & stat.S_ISGID else b"-"
        kind = {stat.S_IFDIR: b"d", stat.S_IFLNK: b"l"}.get(stat.S_IFMT(status.st_mode), b"-")
        line = b"%s %s%s%s%03o %d %d" % (
            *(name.replace(b" ", b"/"), kind, *special),
            *(mode & 0o777, user, group),
        )
        if kind == b"d":
            yield line
            yield from _prototype(path, owners)
            yield b"$"
        elif kind == b"l":
            target = os.fsencode(path.readlink())
            if target.startswith(b":") or re.search(rb"\s", target):
                raise FilesystemError(f"{path.name!r}: mkfs.xfs cannot make a link to {target!r}")
            yield b"%s %s" % (line, target)
        else:
            yield b"%s %s" % (line, re.sub(rb"\s", b"?", os.fsencode(path)))
