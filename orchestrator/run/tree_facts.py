"""Reads run.sh's list of what a large folder has: a line for each file, folder and link."""

import dataclasses
import hashlib
import os
import pathlib
import stat

#: A file that has changed within so many seconds before it was looked at counts as changed the next
#: time: its times may be too coarse to tell a later change.
RACY_SECONDS = 2.0

#: Mark of a recorded line that no file is equal to.
CHANGED = "?"

#: Kinds of files by the type in their mode (stat(2)); others are not kept.
KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}


class UnkeptError(Exception):
    """The folder is not kept: run.sh sends it whole."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One of the caller's files: its line, kind, size in bytes, path in the folder.

    `racy`: the line may be equal to that of another content.
    """

    line: str
    kind: str
    size: int
    racy: bool
    name: str

    @property
    def kept(self) -> str:
        """The line as it is recorded; a folder's without times, which say nothing of its files."""
        if self.kind == "folder":
            return f"{self.kind} {self.name}"
        return CHANGED + self.line if self.racy else self.line


def read_facts(text: str) -> tuple[str, list[Entry]]:
    """Read what run.sh has found: the folder's path, and its files. Raises `UnkeptError`."""
    now, _mount, tree, *lines = text.removesuffix("\n").split("\n")
    return tree, [_entry(line, f".{tree}", float(now) - RACY_SECONDS) for line in lines]


def mount_of(text: str) -> str:
    """Return what tells the mount of the folder's disk from another one; "" without a list."""
    return text.partition("\n")[2].partition("\n")[0]


def time_of(text: str) -> float:
    """Return the time of a list of run.sh's; raises `UnkeptError`."""
    try:
        return float(text.partition("\n")[0])
    except ValueError:
        raise UnkeptError("the list of files has no time") from None


def sum_of(text: str) -> str:
    """Return the SHA-256 of a list without its time."""
    return hashlib.sha256(os.fsencode(text.partition("\n")[2])).hexdigest()


def _entry(line: str, top: str, since: float) -> Entry:
    try:
        _inode, size, content, itself, mode, place = line.split(" ", 5)
        kind = KINDS.get(stat.S_IFMT(int(mode, 16)), "")
        racy = max(float(content), float(itself)) >= since
        name = "." if place == top else place.removeprefix(f"{top}/")
        good = kind and (place == top or place.startswith(f"{top}/"))
        if good and ".." not in pathlib.PurePosixPath(name).parts:
            return Entry(line, kind, int(size), racy, name)
    except ValueError:
        pass
    raise UnkeptError(f"{line!r} is no file that can be kept")
