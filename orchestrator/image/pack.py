"""Runs `pack`: reads store paths once and returns a tar stream and NAR hashes (`pack.c`)."""

import os
import typing
from collections.abc import Iterable

from orchestrator.shared import command
from orchestrator.shared.paths import ROOT

#: Program compiled from `pack.c` into the builder's image.
PACK = ROOT / "pack"


class ChangedError(Exception):
    """Store files differ from the Nix database, or changed while they were read.

    `paths` are the changed store paths, empty if they are unknown.
    """

    def __init__(self, paths: Iterable[str] = ()) -> None:
        """The message names the first of `paths`."""
        self.paths = tuple(paths)
        first = self.paths[0] if self.paths else "the store"
        super().__init__(f"{first} was changed")


def pack(
    paths: Iterable[str],
    sink: typing.IO[bytes] | None = None,
    folder: str = "/",
    content: str = "",
) -> tuple[dict[str, str], str]:
    """Read store paths; return each NAR's SHA-256 (hex) by path, and an error message or "".

    With `sink`, a pipe or file, a tar stream is written there, with names relative to `folder`.
    With `content`, the bytes of files come from there in place of `folder`; names, kinds, links and
    x bits do not.
    """
    with os.fdopen(os.memfd_create("hashes"), "r+b") as lines:
        words = [os.fspath(PACK), str(lines.fileno())]
        if sink:
            words += [f"{one.rstrip('/')}/" for one in (folder, content) if one]
        done = command.run(
            words,
            stdin=b"".join(os.fsencode(path) + b"\0" for path in paths),
            stdout=sink or command.NOTHING,
            descriptors=(lines.fileno(),),
            check=False,
        )
        lines.seek(0)
        records = lines.read().split(b"\0")[:-1]
    hashes = {}
    for record in records:
        digest, _size, path = record.split(b" ", 2)
        hashes[os.fsdecode(path)] = digest.decode()
    return hashes, done.last if done.code else ""
