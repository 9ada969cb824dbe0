"""What the store has, and what recent results hold of it: their closures, by Nix' own database."""

import contextlib
import dataclasses
import json
import pathlib
import stat
import typing
from collections.abc import Iterable, Mapping

from orchestrator.agents.builder import collect
from orchestrator.agents.failure import AgentError
from orchestrator.shared import command
from orchestrator.shared.text import is_line

#: Length of the hash and its dash before the name of a store path.
HASH = 33

#: Largest size in bytes of a file that is read for an image's name.
LARGEST_SPEC = 16 << 20


@dataclasses.dataclass(frozen=True)
class StorePath:
    """A store path's size in bytes (of its archive), and the paths that it refers to."""

    size: int
    references: tuple[str, ...]


#: All store paths.
type Paths = Mapping[str, StorePath]


@dataclasses.dataclass(frozen=True)
class Holding:
    """A recent result: the image's name, its root's time (seconds since 1970), sizes in bytes.

    `size` is its closure's; `alone` is what no other result has, and its removal would free.
    """

    root: str
    name: str
    since: float
    size: int
    alone: int


@dataclasses.dataclass(frozen=True)
class Stock:
    """The whole store: its paths and bytes, those that no result needs, and the results.

    The oldest result is the first.
    """

    paths: int
    size: int
    unneeded: int
    holdings: tuple[Holding, ...]


def read_paths() -> dict[str, StorePath]:
    """Ask Nix for all store paths; raises `AgentError`."""
    words = ["nix", "path-info", "--all", "--json", "--json-format", "1"]
    said = command.run(words, fails=AgentError).text
    found: dict[str, dict[str, typing.Any]] = json.loads(said)
    return {
        path: StorePath(one["narSize"], tuple(one["references"]))
        for path, one in found.items()
        if one  # a path that another process has removed meanwhile
    }


def closure(path: str, paths: Paths) -> set[str]:
    """Return `path` and all that it needs, as far as the store has it."""
    found: set[str] = set()
    left = [path]
    while left:
        one = left.pop()
        if one in paths and one not in found:
            found.add(one)
            left += paths[one].references
    return found


def size(names: Iterable[str], paths: Paths) -> int:
    """Return the size of the paths `names` in bytes."""
    return sum(paths[name].size for name in names)


def stock(roots: Iterable[pathlib.Path], paths: Paths, kit: Iterable[pathlib.Path] = ()) -> Stock:
    """Return what the store has; `roots` are links to the results, `kit` to what a kit brought."""
    seen: list[tuple[pathlib.Path, str, float, set[str]]] = []
    for root in collect.by_age(roots):
        with contextlib.suppress(FileNotFoundError):  # a run that ends removes the oldest ones
            needs = closure(str(root.readlink()), paths)
            seen.append((root, image_name(root), root.lstat().st_mtime, needs))
    held: dict[str, int] = {}
    for *_, names in seen:
        for name in names:
            held[name] = held.get(name, 0) + 1
    holdings = [
        Holding(
            root.name,
            name,
            since,
            size(names, paths),
            size((one for one in names if held[one] == 1), paths),
        )
        for root, name, since, names in seen
    ]
    whole = size(paths, paths)
    held.update(dict.fromkeys(held_by(kit, paths), 1))
    return Stock(len(paths), whole, whole - size(held, paths), tuple(holdings))


def image_name(root: pathlib.Path) -> str:
    """Return the name of the image that `root` holds.

    The result of a native assembly is the image's description, which has the name; of others it is
    nixpkgs' own image, which has the name in its path.
    """
    result = root.readlink().name[HASH:]
    try:
        # nixpkgs' own image may have any size. A build without a sandbox may have made the link, to
        # a pipe for example.
        found = root.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST_SPEC:
            return result
        name = json.loads(root.read_text())["name"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return result
    return name if isinstance(name, str) and is_line(name) else result


def released(
    roots: Iterable[pathlib.Path],
    paths: Paths,
    now: float,
    *,
    keep: int | None = None,
    older_than: float | None = None,
    max_size: int | None = None,
) -> list[pathlib.Path]:
    """Return the roots that go, the oldest first.

    These are all but the `keep` newest, those older than `older_than` seconds, and then the oldest
    until the others hold at most `max_size` bytes together.
    """
    ordered = collect.by_age(roots)
    count = 0 if keep is None else max(0, len(ordered) - keep)
    if older_than is not None:
        old = [root for root in ordered if root.lstat().st_mtime < now - older_than]
        count = max(count, len(old))
    if max_size is not None:
        while size(held_by(ordered[count:], paths), paths) > max_size:
            count += 1
    return ordered[:count]


def held_by(roots: Iterable[pathlib.Path], paths: Paths) -> set[str]:
    """Return the closure of all `roots`."""
    found: set[str] = set()
    for root in roots:
        found |= closure(str(root.readlink()), paths)
    return found
