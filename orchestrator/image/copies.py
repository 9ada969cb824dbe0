"""Copies store paths that an image takes files from, and compares what was copied with its hash.

Of most store paths an image gets the bytes that are hashed, as a whole. Boot files and other files
beside them are read by several programs, at several times. All runs share the store, and a build
without a sandbox may change it at any time: so they are read from copies that only this run has.
"""

import errno
import os
import pathlib
from collections.abc import Mapping

from orchestrator.image.closure import Record
from orchestrator.image.filesystems.filesystem import extract
from orchestrator.image.pack import ChangedError
from orchestrator.image.tree import STORE, TreeError

#: Number of links after which a path is taken for one that leads nowhere, as in Linux.
LINKS = 40


class Copies:
    """Copies of files of the store paths `known`, made when a path first leads to them."""

    def __init__(self, known: Mapping[str, Record], folder: pathlib.Path) -> None:
        """`known` are store paths with their records in Nix' database; `folder` is an empty one."""
        self._known = known
        self._folder = os.fspath(folder)
        self._copied: set[str] = set()

    def real(self, path: str | os.PathLike[str]) -> pathlib.Path:
        """Return the copy of the file or folder that `path` leads to.

        `path` is in the store, or was returned by this function. Raises `TreeError` if there is
        none, or it is in no path of `known`, and `ChangedError` if that is not as Nix has made it.
        """
        place: list[str] = []
        left, links = self._steps(os.fspath(path)), 0
        while left:
            name = left.pop()
            if name == "..":
                del place[-1:]
                continue
            place.append(name)
            if len(place) < 3:
                continue
            try:
                target = self._copy(path, place).readlink()
            except OSError as error:
                if error.errno == errno.EINVAL:  # it is no link
                    continue
                raise TreeError(f"{os.fspath(path)}: {error.strerror}") from error
            links += 1
            if links > LINKS:
                raise TreeError(f"{os.fspath(path)}: {os.strerror(errno.ELOOP)}")
            del place[0 if target.is_absolute() else -1 :]
            left += self._steps(os.fspath(target))
        return self._copy(path, place)

    def folder(self, path: str | os.PathLike[str]) -> pathlib.Path:
        """Return the copy of the folder that `path` leads to, for a program that reads its files.

        Links in it lead to copies, too. Raises the errors of `real`.
        """
        real = self.real(path)
        for inner in sorted(real.rglob("*")):
            if inner.is_symlink():
                target = self.real(inner)
                inner.parent.chmod(0o755)
                inner.unlink()
                inner.symlink_to(target)
        return real

    def _steps(self, path: str) -> list[str]:
        """Return the names in `path`, the last one first; those of its original for a copy."""
        if path.startswith(f"{self._folder}/"):
            path = STORE + path.removeprefix(self._folder)
        return [name for name in reversed(path.split("/")) if name not in ("", ".")]

    def _copy(self, path: str | os.PathLike[str], place: list[str]) -> pathlib.Path:
        """Return the copy of /`place`, to which `path` leads."""
        store = "/" + "/".join(place[:3])
        record = self._known.get(store)
        if not record:
            raise TreeError(
                f"{os.fspath(path)}: leads to /{'/'.join(place)}, which the image's spec does not"
                " name"
            )
        if store not in self._copied:
            if extract(store, pathlib.Path(self._folder)) != record.digest:
                raise ChangedError([store])
            self._copied.add(store)
        return pathlib.Path(self._folder, *place[2:])
