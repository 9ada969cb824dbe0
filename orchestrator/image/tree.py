"""Content of a root file system: a closure and further entries, written as one tar stream.

Store paths are read from the builder's own store without an intermediate copy. In the image they
belong to root and have the store's time, whatever the builder's store has.
"""

import dataclasses
import io
import os
import pathlib
import stat
import tarfile
import typing
from collections.abc import Callable, Iterable, Iterator

from orchestrator.image.pack import pack

#: Modification time of all files in an image, in seconds since 1970: Nix gives it to store files.
STORE_TIME = 1

#: Group and mode of /nix/store on NixOS: writable by group nixbld (number:
#: `nixos/modules/misc/ids.nix`), sticky.
STORE = "/nix/store"
STORE_GROUP = 30000
STORE_MODE = 0o1775

BLOCK = 4096

#: Number of bytes that are read at once.
PIECE = 1 << 20


class TreeError(Exception):
    """The tree of a root file system cannot be made or read; the message says why."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A folder, a file or a link: `path` is relative to the root, without `.` and `..`.

    A file's bytes are `data`, or those of the file `source`. `mode` has only permission bits.
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
        """Size of the file in bytes."""
        return self.source.stat().st_size if self.source else len(self.data)


def pieces(data: bytes) -> Iterator[bytes]:
    """Yield `data` in blocks, the last one filled up with zeros."""
    for at in range(0, len(data), BLOCK):
        yield data[at : at + BLOCK].ljust(BLOCK, b"\0")


class Tree:
    """Content of a root file system: store paths and further entries."""

    def __init__(self, closure: Iterable[str], *, alone: bool = False) -> None:
        """`closure` are existing store paths.

        With `alone` they lie directly below the root: the file system is mounted as /nix/store.
        """
        self.closure = tuple(sorted(closure))
        for path in self.closure:
            if not os.path.lexists(path):
                raise TreeError(f"{path}: belongs to the closure, but is not in the store")
        self._top = STORE if alone else "/"
        self._entries: dict[str, Entry] = {}
        #: SHA-256 (hex) of the Nix archive of each path in the closure, from its last reading.
        self.hashes: dict[str, str] = {}
        if not alone:
            self.add(Entry("nix/store", "folder", STORE_MODE, group=STORE_GROUP))

    @property
    def entries(self) -> list[Entry]:
        """All entries; a folder precedes its content."""
        return [self._entries[path] for path in sorted(self._entries)]

    def add(self, entry: Entry) -> None:
        """Add `entry` and its missing parent folders.

        The nearest one gets the entry's owner, unless it is at the top.
        """
        parts = pathlib.PurePosixPath(entry.path).parts
        if not parts or ".." in parts or entry.path.startswith("/") or "\0" in entry.path:
            raise TreeError(f"{entry.path!r}: is not a valid path in an image")
        if parts[:2] == ("nix", "store") and len(parts) > 2:
            raise TreeError(f"/{entry.path}: only Nix may add files to the store")
        path = "/".join(parts)
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            own = (entry.user, entry.group) if 1 < depth == len(parts) - 1 else (0, 0)
            missing = Entry(parent, "folder", 0o755, user=own[0], group=own[1])
            there = self._entries.setdefault(parent, missing)
            if there.kind != "folder":
                raise TreeError(f"/{path}: /{parent} is a {there.kind}")
        there = self._entries.get(path, entry)
        if there is not entry and not (there.kind == entry.kind == "folder"):
            raise TreeError(f"/{path}: is added twice")
        self._entries[path] = dataclasses.replace(entry, path=path)

    def add_file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Add a file that belongs to root."""
        self.add(Entry(path, "file", mode, data=data))

    def add_from(
        self,
        source: pathlib.Path,
        path: str,
        *,
        real: Callable[[pathlib.Path], pathlib.Path],
        mode: int | None = None,
        user: int = 0,
        group: int = 0,
        above: tuple[pathlib.Path, ...] = (),
    ) -> None:
        """Add a copy of `source`, a file or a folder with all its content.

        Links are followed: `real` returns what a path leads to, or raises an error. `above` are the
        folders that it was found in.
        """
        named, source = source, real(source)
        if source in above:
            raise TreeError(f"{named}: leads to a folder that it is in")
        try:
            status = source.stat()
            inner = sorted(source.iterdir()) if stat.S_ISDIR(status.st_mode) else []
        except OSError as error:
            raise TreeError(f"{source}: {error.strerror}") from error
        is_folder = stat.S_ISDIR(status.st_mode)
        # A mode for files lacks the x bits that a folder needs: whoever may read a folder may enter
        # it.
        own = (status.st_mode & 0o777) | 0o200 if mode is None else mode
        if is_folder:
            own |= (own & 0o444) >> 2
        kind: typing.Literal["folder", "file"] = "folder" if is_folder else "file"
        self.add(
            Entry(path, kind, own, source=None if is_folder else source, user=user, group=group)
        )
        for one in inner:
            place = f"{path}/{one.name}"
            inside = (*above, source)
            self.add_from(
                named / one.name, place, real=real, mode=mode, user=user, group=group, above=inside
            )

    def usage(self) -> tuple[int, int]:
        """Return what the tree needs: (bytes in whole blocks, inodes)."""
        blocks, inodes = _usage(self.closure)
        for entry in self._entries.values():
            blocks += -(-entry.size // BLOCK) * BLOCK if entry.kind == "file" else BLOCK
        return blocks, inodes + len(self._entries)

    def write_tar(self, sink: typing.IO[bytes], *, root: bool = False) -> str:
        """Write the tar stream to `sink`, a pipe or file; returns an error message or "".

        With `root` it begins with the root folder, which has mode 755.
        """
        if root:
            _write_entry(Entry(".", "folder", 0o755), sink)
        for entry in self.entries:
            _write_entry(entry, sink)
        sink.flush()
        hashes, complaint = pack(self.closure, sink, self._top)
        self.hashes.update(hashes)
        return complaint

    def stage(self, root: pathlib.Path, link_bytes: int) -> None:
        """Make the tree as the new folder `root`, with empty files.

        For mkfs tools that cannot read a tar stream: they get the files' content from the stream of
        `write_content`. Owners and times are not those of the image. A symlink's target may have at
        most `link_bytes`.
        """
        root.mkdir()
        for entry in self.entries:
            place = root / entry.path
            if entry.kind == "folder":
                place.mkdir()
            elif entry.kind == "link":
                place.symlink_to(entry.target)
            else:
                place.touch()
        for path in self.closure:
            _shape(pathlib.Path(path), self._staged(root, path), link_bytes)
        for entry in reversed(self.entries):
            if entry.kind != "link":
                (root / entry.path).chmod(entry.mode)
        root.chmod(0o755)

    def _staged(self, root: pathlib.Path, path: str) -> pathlib.Path:
        """Return the place of the store path `path` in the tree staged at `root`."""
        return root / os.path.relpath(path, self._top)

    def write_content(self, root: pathlib.Path, sink: typing.IO[bytes]) -> str:
        """Write the files of the tree staged at `root` as a tar stream to `sink`, a pipe or file.

        The order is that of a walk whose folders are sorted by the bytes of their names. What is
        hashed are the staged names, kinds, links and x bits, and the content in the stream. Returns
        an error message or "".
        """
        files = [entry for entry in self.entries if entry.kind == "file"]
        files.sort(key=lambda entry: _walked(entry.path))
        places = {str(self._staged(root, path)): path for path in self.closure}
        # Only the closure is in the store's folder: nothing else comes between its paths.
        first = [_walked(os.path.relpath(place, root)) for place in places][:1]
        before = [entry for entry in files if [_walked(entry.path)] < first]
        for entry in before:
            _write_entry(entry, sink)
        sink.flush()
        hashes, complaint = pack(places, sink, os.fspath(root), self._top)
        self.hashes.update({places[place]: digest for place, digest in hashes.items()})
        if complaint:
            return complaint
        for entry in files[len(before) :]:
            _write_entry(entry, sink)
        sink.flush()
        return ""


def _walked(path: str) -> list[bytes]:
    """Return the key by which paths are sorted as a walk through sorted folders meets them."""
    return os.fsencode(path).split(b"/")


def _shape(source: pathlib.Path, target: pathlib.Path, link_bytes: int) -> None:
    """Make `target` as `source`, a store path: folders, links and modes, but files without content.

    Store files have one of two modes. A NAR records only the x bit, so other modes are not taken.
    """
    status = source.lstat()
    if stat.S_ISDIR(status.st_mode):
        target.mkdir()
        for inner in sorted(source.iterdir()):
            _shape(inner, target / inner.name, link_bytes)
        target.chmod(0o555)
    elif stat.S_ISLNK(status.st_mode):
        leads_to = source.readlink()
        if len(os.fsencode(leads_to)) > link_bytes:
            raise TreeError(f"{source}: the link's target is longer than {link_bytes} bytes")
        target.symlink_to(leads_to)
    elif stat.S_ISREG(status.st_mode):
        target.touch()
        target.chmod(0o555 if status.st_mode & stat.S_IXUSR else 0o444)
    else:
        raise TreeError(f"{source}: is not a file, folder or link")


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
    with entry.source.open("rb") if entry.source else io.BytesIO(entry.data) as source:
        # With more or fewer bytes than the header says, content would pass for headers.
        left = info.size
        while left and (piece := source.read(min(left, PIECE))):
            sink.write(piece)
            left -= len(piece)
        if left or source.read(1):
            raise TreeError(f"{entry.source}: its size changed while it was read")
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
            blocks += BLOCK  # a shorter link target is stored in the inode
    return blocks, inodes


def _walk(paths: Iterable[str]) -> Iterator[os.stat_result]:
    """Yield lstat of `paths` and of everything below them."""
    for path in paths:
        status = pathlib.Path(path).lstat()
        yield status
        if stat.S_ISDIR(status.st_mode):
            # fwalk uses descriptors: resolving each path from the root took six times as long.
            for _folder, folders, files, descriptor in os.fwalk(path, onerror=_refuse):
                for name in (*folders, *files):
                    yield os.stat(name, dir_fd=descriptor, follow_symlinks=False)


def _refuse(error: OSError) -> typing.NoReturn:
    raise error
