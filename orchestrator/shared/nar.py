"""Hashes a folder as Nix does: SHA-256 of its archive (NAR), and the time of the newest file."""

import base64
import hashlib
import os
import pathlib
import stat
import typing

#: Most bytes of a file that are read at once.
BLOCK = 1 << 20


class Hashed(typing.NamedTuple):
    """A folder's `narHash` (sha256-BASE64), and the newest time in it (seconds since 1970).

    Nix counts the times of folders and links, too.
    """

    nar_hash: str
    modified: int


def hash_folder(top: pathlib.Path) -> Hashed:
    """Hash the folder `top`; raises `OSError`."""
    hasher = _Hasher()
    hasher.strings("nix-archive-1")
    descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        hasher.node(None, os.fstat(descriptor), lambda: os.dup(descriptor))
    finally:
        os.close(descriptor)
    digest = base64.b64encode(hasher.total.digest()).decode()
    return Hashed(f"sha256-{digest}", hasher.modified)


class _Hasher:
    """Writes an archive into a hash; see "Nix Archive (NAR) format" in Nix' manual."""

    def __init__(self) -> None:
        self.total = hashlib.sha256()
        self.modified = 0

    def strings(self, *texts: str | bytes) -> None:
        """Write strings: length, bytes, and zeros up to a multiple of eight."""
        parts = []
        for text in texts:
            data = text.encode() if isinstance(text, str) else text
            parts += [len(data).to_bytes(8, "little"), data, bytes(-len(data) % 8)]
        self.total.update(b"".join(parts))

    def node(
        self, target: bytes | None, status: os.stat_result, opened: typing.Callable[[], int]
    ) -> None:
        """Write one file, folder or link; `target` is a link's, `opened` opens the others."""
        self.modified = max(self.modified, int(status.st_mtime))
        if target is not None:
            self.strings("(", "type", "symlink", "target", target, ")")
            return
        descriptor = opened()
        try:
            if stat.S_ISDIR(status.st_mode):
                self._folder(descriptor)
            else:
                self._file(descriptor, status)
        finally:
            os.close(descriptor)

    def _folder(self, descriptor: int) -> None:
        self.strings("(", "type", "directory")
        for name in sorted(map(os.fsencode, os.listdir(descriptor))):
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            link = stat.S_ISLNK(status.st_mode)
            target = os.readlink(name, dir_fd=descriptor) if link else None

            def opened(name: bytes = name) -> int:
                return os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=descriptor)

            self.strings("entry", "(", "name", name, "node")
            self.node(target, status, opened)
            self.strings(")")
        self.strings(")")

    def _file(self, descriptor: int, status: os.stat_result) -> None:
        self.strings("(", "type", "regular")
        if status.st_mode & stat.S_IXUSR:
            self.strings("executable", "")
        self.strings("contents")
        self.total.update(status.st_size.to_bytes(8, "little"))
        left = status.st_size
        while left and (data := os.read(descriptor, min(left, BLOCK))):
            self.total.update(data)
            left -= len(data)
        if left:
            raise OSError("a file has become shorter while it was read")
        self.total.update(bytes(-status.st_size % 8))
        self.strings(")")
