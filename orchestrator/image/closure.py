"""Closures of store paths, as Nix' database has them, and what the store has of them now."""

import dataclasses
from collections.abc import Iterable, Mapping

from orchestrator.image.pack import pack
from orchestrator.image.tree import TreeError
from orchestrator.shared import command


@dataclasses.dataclass(frozen=True)
class Record:
    """What the database has of a store path: the SHA-256 of its Nix archive in hex, its bytes."""

    digest: str
    size: str
    references: tuple[str, ...]


def closure_of(paths: Iterable[str]) -> list[str]:
    """Store paths that `paths` need at run time, themselves included."""
    return _ask("--query", "--requisites", *paths).split()


def records(paths: Iterable[str]) -> dict[str, Record]:
    """What the database has of `paths`, which it knows."""
    named = list(paths)
    lines = _ask("--dump-db", *named).splitlines() if named else []  # without names it dumps all
    found, at = {}, 0
    while at < len(lines):
        path, digest, size, _deriver, count = lines[at : at + 5]
        at += 5 + int(count)
        found[path] = Record(digest, size, tuple(sorted(lines[at - int(count) : at])))
    return found


def registration(found: Mapping[str, Record]) -> bytes:
    """What `nix-store --load-db` takes, the same on every host: without derivers, in order."""
    texts = [
        "\n".join([path, one.digest, one.size, "", str(len(one.references)), *one.references])
        for path, one in found.items()
    ]
    return "".join(f"{text}\n" for text in sorted(texts)).encode()


def differing(found: Mapping[str, Record], hashes: Mapping[str, str]) -> list[str]:
    """Those of the paths in `found` whose content has another hash in `hashes`, or none."""
    return [path for path, one in sorted(found.items()) if hashes.get(path) != one.digest]


def changed(paths: Iterable[str]) -> list[str]:
    """Those of `paths` that are not what the database has, or cannot be read; all are read."""
    found = records(paths)
    wrong, left = [], sorted(found)
    while left:
        hashes, complaint = pack(left)
        wrong += [path for path in differing(found, hashes) if path in hashes]
        left = [path for path in left if path not in hashes]
        if complaint and left:  # it ends at the first that it cannot read
            wrong.append(left.pop(0))
    return wrong


def _ask(*arguments: str) -> str:
    done = command.run(["nix-store", *arguments], check=False, fails=TreeError)
    if done.code != 0:
        raise TreeError(done.last.removeprefix("error: "))
    return done.text
