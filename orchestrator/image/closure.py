"""Closures of store paths: their records in the Nix database, and whether their files match."""

import dataclasses
from collections.abc import Iterable, Mapping

from orchestrator.image.pack import pack
from orchestrator.image.tree import TreeError
from orchestrator.shared import command


@dataclasses.dataclass(frozen=True)
class Record:
    """Nix database record of a store path: SHA-256 (hex) and byte count of its Nix archive."""

    digest: str
    size: str
    references: tuple[str, ...]


def closure_of(paths: Iterable[str]) -> list[str]:
    """Return the closure of `paths`: all store paths that they refer to, themselves included."""
    return _ask("--query", "--requisites", *paths).split()


def records(paths: Iterable[str]) -> dict[str, Record]:
    """Return the Nix database records of `paths`; all must be registered.

    Raises `TreeError` also for invalid output: a build without a sandbox may have read part of it.
    """
    named = list(paths)
    # Without names, --dump-db would print all records.
    lines = _ask("--dump-db", *named).splitlines() if named else []
    try:
        return _records(lines)
    except ValueError as error:
        raise TreeError(f"nix-store's output is invalid: {error}") from error


def _records(lines: list[str]) -> dict[str, Record]:
    found, at = {}, 0
    while at < len(lines):
        path, digest, size, _deriver, count = lines[at : at + 5]
        begin, at = at + 5, at + 5 + int(count)
        if not begin <= at <= len(lines):
            raise ValueError(f"{path} cannot have {count} references")
        found[path] = Record(digest, size, tuple(sorted(lines[begin:at])))
    return found


def registration(found: Mapping[str, Record]) -> bytes:
    """Format `found` for `nix-store --load-db`: sorted, no derivers, so equal on every host."""
    texts = [
        "\n".join([path, one.digest, one.size, "", str(len(one.references)), *one.references])
        for path, one in found.items()
    ]
    return "".join(f"{text}\n" for text in sorted(texts)).encode()


def differing(found: Mapping[str, Record], hashes: Mapping[str, str]) -> list[str]:
    """Return the paths of `found` whose hash in `hashes` is different or missing."""
    return [path for path, one in sorted(found.items()) if hashes.get(path) != one.digest]


def changed(paths: Iterable[str]) -> list[str]:
    """Return those of `paths` whose files do not match the Nix database or cannot be read."""
    found = records(paths)
    wrong, left = [], sorted(found)
    while left:
        hashes, complaint = pack(left)
        wrong += [path for path in differing(found, hashes) if path in hashes]
        left = [path for path in left if path not in hashes]
        if complaint and left:  # pack stops at the first path that it cannot read
            wrong.append(left.pop(0))
    return wrong


def _ask(*arguments: str) -> str:
    done = command.run(["nix-store", *arguments], check=False, fails=TreeError)
    if done.code != 0:
        raise TreeError(done.last.removeprefix("error: "))
    return done.text
