"""What goes into a root file system: the closure, and entries beside it, as one tar stream.

The store's paths come from the builder's own store and are never copied before; everything belongs
to root and has the store's time, whoever owns it here.
"""

import contextlib
import copy
import dataclasses
import os
import pathlib
import shutil
import stat
import tarfile
import time
import typing
from collections.abc import Collection, Iterable, Iterator

from orchestrator.image.pack import ChangedError, pack

#: Nix gives every file of the store this time (seconds since 1970); so has everything else in an
#: image.
STORE_TIME = 1

#: How NixOS leaves its store's folder: group nixbld, which `nixos/modules/misc/ids.nix` gives this
#: number, may write, sticky.
STORE = "/nix/store"
STORE_GROUP = 30000
STORE_MODE = 0o1775

BLOCK = 4096

#: How often a coarse clock is looked at.
TICK_SECONDS = 0.001


class TreeError(Exception):
    """An entry that cannot be: the message names it."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A folder, a file or a link: `path` is relative to the root, without `.` and `..`.

    A file's bytes are `data`, or those of the file `source`. `mode` has the permissions only.
    """

    path: str
    kind: typing.Literal["folder", "file", "link"]
    mode: int
    data: bytes = b""
    source: pathlib.Path | None = None
    target: str = ""
    user: int = 0
    group: int = 0

    @property
    def size(self) -> int:
        """Bytes of a file."""
        return self.source.stat().st_size if self.source else len(self.data)


class Tree:
    """A root file system in the making."""

    def __init__(self, closure: Iterable[str], *, alone: bool = False) -> None:
        """`closure` are store paths; they must be there.

        With `alone` they lie in the root itself: a file system to be mounted as the store.
        """
        self.closure = tuple(sorted(closure))
        for path in self.closure:
            if not os.path.lexists(path):
                raise TreeError(f"{path}: belongs to the system, but is not in the store")
        self._top = STORE if alone else "/"
        self._entries: dict[str, Entry] = {}
        #: What each path of the closure was when it was last read: SHA-256 of its Nix archive, hex.
        self.hashes: dict[str, str] = {}
        if not alone:
            self.add(Entry("nix/store", "folder", STORE_MODE, group=STORE_GROUP))

    @property
    def entries(self) -> list[Entry]:
        """All entries, folders before what is in them."""
        return [self._entries[path] for path in sorted(self._entries)]

    def add(self, entry: Entry) -> None:
        """Take `entry` in, with the folders that lead to it; nothing may be there twice."""
        parts = pathlib.PurePosixPath(entry.path).parts
        if not parts or ".." in parts or entry.path.startswith("/") or "\0" in entry.path:
            raise TreeError(f"{entry.path!r}: is no place in a file system")
        if parts[:2] == ("nix", "store") and len(parts) > 2:
            raise TreeError(f"/{entry.path}: the store holds only what Nix has built")
        path = "/".join(parts)
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            there = self._entries.setdefault(parent, Entry(parent, "folder", 0o755))
            if there.kind != "folder":
                raise TreeError(f"/{path}: /{parent} is a {there.kind}")
        there = self._entries.get(path, entry)
        if there is not entry and not (there.kind == entry.kind == "folder"):
            raise TreeError(f"/{path}: is there twice")
        self._entries[path] = dataclasses.replace(entry, path=path)

    def add_file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """A file of root's with these bytes."""
        self.add(Entry(path, "file", mode, data=data))

    def add_from(
        self,
        source: pathlib.Path,
        path: str,
        *,
        mode: int | None = None,
        user: int = 0,
        group: int = 0,
    ) -> None:
        """A file, or a folder with all below it, of this file system; links are followed."""
        try:
            status = source.stat()
            inner = sorted(source.iterdir()) if stat.S_ISDIR(status.st_mode) else []
        except OSError as error:
            raise TreeError(f"{source}: {error.strerror}") from error
        is_folder = stat.S_ISDIR(status.st_mode)
        # A file's mode is not right for the folders that lead to it: what may be read may be
        # entered.
        own = (status.st_mode & 0o777) | 0o200 if mode is None else mode
        if is_folder:
            own |= (own & 0o444) >> 2
        kind: typing.Literal["folder", "file"] = "folder" if is_folder else "file"
        self.add(
            Entry(path, kind, own, source=None if is_folder else source, user=user, group=group)
        )
        for one in inner:
            self.add_from(one, f"{path}/{one.name}", mode=mode, user=user, group=group)

    def blanked(self, paths: Collection[str]) -> "Tree":
        """The same, with nothing in the files `paths`."""
        same = copy.copy(self)
        same._entries = {
            path: dataclasses.replace(entry, data=b"", source=None) if path in paths else entry
            for path, entry in self._entries.items()
        }
        return same

    def usage(self) -> tuple[int, int]:
        """Count what all of it needs: (bytes in whole blocks, inodes)."""
        blocks, inodes = _usage(self.closure)
        for entry in self._entries.values():
            blocks += -(-entry.size // BLOCK) * BLOCK if entry.kind == "file" else BLOCK
        return blocks, inodes + len(self._entries)

    def write_tar(self, sink: typing.IO[bytes]) -> str:
        """Write the stream to `sink`, a pipe or file; returns the complaint, if there is one."""
        for entry in self.entries:
            _write_entry(entry, sink)
        sink.flush()
        hashes, complaint = pack(self.closure, sink, self._top)
        self.hashes.update(hashes)
        return complaint

    def stage(self, root: pathlib.Path, link_bytes: int) -> None:
        """Make the tree as the new folder `root`, the store's files as hard links to themselves.

        For tools that take no stream; `root` must be on the store's own volume. Owners and times
        are not those of the image. A link's target may have `link_bytes` at most.
        """
        root.mkdir()
        for entry in self.entries:
            place = root / entry.path
            if entry.kind == "folder":
                place.mkdir()
            elif entry.kind == "link":
                place.symlink_to(entry.target)
            elif entry.source:
                shutil.copyfile(entry.source, place)
            else:
                place.write_bytes(entry.data)
        for path in self.closure:
            _link(pathlib.Path(path), self._staged(root, path), link_bytes)
        for entry in reversed(self.entries):
            if entry.kind != "link":
                (root / entry.path).chmod(entry.mode)
        root.chmod(0o755)

    def _staged(self, root: pathlib.Path, path: str) -> pathlib.Path:
        """Where the store path `path` lies in the tree that is staged at `root`."""
        return root / os.path.relpath(path, self._top)

    @contextlib.contextmanager
    def unchanged(self, root: pathlib.Path) -> Iterator[None]:
        """Read the tree that is staged at `root` for its hashes; nobody changes it meanwhile.

        Raises `ChangedError` after the `with` block where somebody did: what was read in it may be
        something else.
        """
        before = _last_change(root)
        _pass(before, root.parent)
        places = {str(self._staged(root, path)): path for path in self.closure}
        hashes, complaint = pack(places)
        if complaint:
            raise TreeError(complaint)
        self.hashes.update({places[place]: digest for place, digest in hashes.items()})
        yield
        if _last_change(root) != before:
            raise ChangedError


def _last_change(root: pathlib.Path) -> int:
    """When the folder `root` or something below it was changed last (ctime, nanoseconds)."""
    return max(status.st_ctime_ns for status in _walk([os.fspath(root)]))


def _pass(moment: int, folder: pathlib.Path) -> None:
    """Wait until a change gets a later time than `moment`: clocks of file systems are coarse."""
    mark = folder / "mark"
    while True:
        mark.touch()
        if mark.stat().st_ctime_ns > moment:
            return
        time.sleep(TICK_SECONDS)


def _link(source: pathlib.Path, target: pathlib.Path, link_bytes: int) -> None:
    """Hard-link what is at `source`, a folder with all below it."""
    status = source.lstat()
    if not stat.S_ISDIR(status.st_mode):
        if stat.S_ISLNK(status.st_mode) and status.st_size > link_bytes:
            raise TreeError(f"{source}: its target is longer than {link_bytes} bytes")
        if stat.S_ISREG(status.st_mode):
            # Nix knows these two modes, and their hash no other: what is not so was made so.
            mode = 0o555 if status.st_mode & stat.S_IXUSR else 0o444
            if stat.S_IMODE(status.st_mode) != mode:
                source.chmod(mode)
        os.link(source, target, follow_symlinks=False)
        return
    target.mkdir()
    for inner in sorted(source.iterdir()):
        _link(inner, target / inner.name, link_bytes)
    target.chmod(0o555)


def _write_entry(entry: Entry, sink: typing.IO[bytes]) -> None:
    info = tarfile.TarInfo(entry.path)
    info.type = {"folder": tarfile.DIRTYPE, "file": tarfile.REGTYPE, "link": tarfile.SYMTYPE}[
        entry.kind
    ]
    info.mode, info.mtime = entry.mode, STORE_TIME
    info.uid, info.gid = entry.user, entry.group
    info.linkname = entry.target
    info.size = entry.size if entry.kind == "file" else 0
    sink.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
    if entry.source:
        with entry.source.open("rb") as source:
            shutil.copyfileobj(source, sink)
    else:
        sink.write(entry.data)
    sink.write(bytes(-info.size % tarfile.BLOCKSIZE))


def _usage(paths: Iterable[str]) -> tuple[int, int]:
    blocks = inodes = 0
    for status in _walk(paths):
        inodes += 1
        if stat.S_ISDIR(status.st_mode):
            blocks += BLOCK
        elif stat.S_ISREG(status.st_mode):
            blocks += -(-status.st_size // BLOCK) * BLOCK
        elif status.st_size >= 60:
            blocks += BLOCK  # the target of a shorter link lives in its inode
    return blocks, inodes


def _walk(paths: Iterable[str]) -> Iterator[os.stat_result]:
    """What lstat says of `paths` and of all below them, asked once for each."""
    for path in paths:
        status = pathlib.Path(path).lstat()
        yield status
        if stat.S_ISDIR(status.st_mode):
            # By descriptors: looking each path up from the root took six times as long.
            for _folder, folders, files, descriptor in os.fwalk(path, onerror=_refuse):
                for name in (*folders, *files):
                    yield os.stat(name, dir_fd=descriptor, follow_symlinks=False)


def _refuse(error: OSError) -> typing.NoReturn:
    raise error
