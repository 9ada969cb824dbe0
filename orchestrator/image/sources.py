"""Finds the files that an image is made of, and refuses all that the image's spec does not name.

While an image is assembled, the builder may read more: the late values of all devices of its run,
and store paths of other runs. Paths in a spec, and links in store paths, are the words of an
evaluation and of builds. What they lead to would get into the image, and was not hashed.
"""

import os
import pathlib
import re
from collections.abc import Iterable

from orchestrator.image.tree import TreeError

#: Begin of the path of a file in a store path, up to the store path's end.
STORE_PATH = re.compile(r"/nix/store/[0-9a-z]{32}-[A-Za-z0-9+._?=-]+(?=/|$)")


class Sources:
    """Files of the store paths `closure`, by any path that leads to them."""

    def __init__(self, closure: Iterable[str]) -> None:
        """`closure` are store paths with all that they refer to."""
        self._closure = frozenset(closure)

    def real(self, path: str | os.PathLike[str]) -> pathlib.Path:
        """Return the file or folder that `path` leads to.

        Raises `TreeError` if there is none, or it is in no path of the closure.
        """
        try:
            real = pathlib.Path(path).resolve(strict=True)
        except OSError as error:
            raise TreeError(f"{os.fspath(path)}: {error.strerror}") from error
        match = STORE_PATH.match(os.fspath(real))
        if not match or match[0] not in self._closure:
            raise TreeError(
                f"{os.fspath(path)}: leads to {real}, which the image's spec does not name"
            )
        return real


def store_paths(paths: Iterable[str]) -> list[str]:
    """Return the store paths that `paths` begin with, each once.

    Raises `TreeError` for a path that is in none.
    """
    found = []
    for path in paths:
        match = STORE_PATH.match(path)
        if not match:
            raise TreeError(f"{path}: is in no store path, and an image is made of the store alone")
        found.append(match[0])
    return list(dict.fromkeys(found))
