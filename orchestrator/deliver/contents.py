"""Reads an image's bill of materials: sizes, what keeps each store path, what has changed.

The bill of an earlier image is a file of the caller's: it may hold anything. Its reader returns a
value or raises `ValueError`.
"""

import collections
import dataclasses
import pathlib
import reprlib
import typing
from collections.abc import Iterable

from orchestrator.shared.json_reader import UNWRITABLE, JsonError, read_json
from orchestrator.shared.text import whole

#: bom-ref of the image itself, whose dependencies are the top-level store paths.
IMAGE = "image"

#: Largest bill of materials in bytes that is read (caller/ours.sh sends no larger one).
LARGEST = 8 << 20

#: Longest chain of references that is told whole; of a longer one only its root and its end are.
#: Else chains take memory, and lines of a page, with the square of their length.
LONGEST = 12

#: Stands in a chain for what is not told.
LEFT_OUT = ""

#: Length of a store path's folder, hash and dash.
PREFIX = len("/nix/store/") + 33


@dataclasses.dataclass(frozen=True)
class Item:
    """A store path, or for the demo a Debian package; `size` is 0 if it is unknown.

    `title` is the name without hash and version, `needs` has the references.
    """

    ref: str
    title: str
    version: str
    size: int
    needs: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the store path without its hash; of a package its name and version."""
        return self.ref[PREFIX:] if self.ref.startswith("/nix/store/") else self.versioned

    @property
    def versioned(self) -> str:
        """Title and version."""
        return f"{self.title} {self.version}".strip()


@dataclasses.dataclass(frozen=True)
class Contents:
    """What an image holds; `roots` are refs of the top-level store paths, the toplevel first."""

    image: str
    roots: tuple[str, ...]
    paths: tuple[Item, ...]
    packages: tuple[Item, ...]

    @property
    def size(self) -> int:
        """Bytes of all store paths as Nix archives."""
        return sum(item.size for item in self.paths)

    @property
    def name(self) -> str:
        """File name of the image without the version of its system: equal in later images."""
        first = next((item for item in self.paths if item.ref in self.roots[:1]), None)
        version = first.version if first else ""
        return self.image.replace(f"-{version}", "", 1) if version else self.image


@dataclasses.dataclass(frozen=True)
class Change:
    """One title whose version or size has changed; `old` or `new` is empty if it is not there."""

    title: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    growth: int


@dataclasses.dataclass(frozen=True)
class Changes:
    """Difference of two images; `files` are added and removed paths that have no version.

    `rebuilt` is the number of titles with the same versions and other store paths.
    """

    added: tuple[Change, ...]
    removed: tuple[Change, ...]
    updated: tuple[Change, ...]
    files: tuple[Change, ...]
    rebuilt: int
    growth: int


def read_contents(text: str) -> Contents:
    """Read a bill of materials as `agents/builder/sbom.py` writes it; raises `ValueError`."""
    if len(text) > LARGEST:
        raise ValueError("the bill of materials is too large to be shown")
    try:
        document = typing.cast("typing.Any", read_json(text, "the bill of materials"))
        needs = {
            _text(one["ref"]): tuple(_text(ref) for ref in one["dependsOn"])
            for one in document["dependencies"]
        }
        items = [_item(one, needs) for one in document["components"]]
        image = _text(document["metadata"]["component"]["name"])
    except (LookupError, TypeError, AttributeError, JsonError) as error:
        raise ValueError(f"not a bill of materials of ours: {error!r}") from error
    paths = tuple(item for item in items if item.ref.startswith("/nix/store/"))
    return Contents(
        image=image,
        roots=tuple(ref for ref in needs.get(IMAGE, ()) if ref.startswith("/nix/store/")),
        paths=paths,
        packages=tuple(item for item in items if not item.ref.startswith("/nix/store/")),
    )


def read_bill(bill: pathlib.Path) -> Contents:
    """Read the bill of materials in a file; raises `OSError` or `ValueError`."""
    with bill.open() as file:
        return read_contents(file.read(LARGEST + 1))


def _item(one: dict[str, typing.Any], needs: dict[str, tuple[str, ...]]) -> Item:
    ref = _text(one["bom-ref"])
    version = _text(one.get("version", ""))
    sizes = [
        whole(_text(found["value"])) or 0
        for found in one.get("properties", ())
        if found["name"] == "nix:nar_size"
    ]
    title = _text(one["name"])
    if ref.startswith("/nix/store/") and version:  # with the output's name, which `name` lacks
        title = ref[PREFIX:].replace(f"-{version}", "", 1)
    size = max([0, *sizes])
    return Item(ref, title, version, size, tuple(sorted(needs.get(ref, ()))))


def _text(value: object) -> str:
    if not isinstance(value, str) or UNWRITABLE.search(value):
        raise TypeError(f"{reprlib.repr(value)} is no text")
    return value


def earlier(bills: Iterable[pathlib.Path], present: Contents) -> Contents | None:
    """Return the image of `bills` that has the name of `present`, the newest of several.

    A bill that cannot be read is passed over.
    """
    best: tuple[bool, float, str] | None = None
    found = None
    for bill in bills:
        try:
            one = read_bill(bill)
            rank = one.image == present.image, bill.stat().st_mtime, one.image
        except (OSError, ValueError):
            continue
        if one.name == present.name and (best is None or rank > best):
            best, found = rank, one
    return found


def chains(contents: Contents) -> dict[str, tuple[str, ...]]:
    """Return for each store path the shortest chain of references to it, from a root.

    Of a chain that is longer than LONGEST the middle is `LEFT_OUT`.
    """
    needs = {item.ref: item.needs for item in contents.paths}
    found: dict[str, tuple[str, ...]] = {ref: (ref,) for ref in contents.roots if ref in needs}
    queue = collections.deque(found)
    while queue:
        ref = queue.popleft()
        for needed in needs[ref]:
            if needed in needs and needed not in found:
                chain = (*found[ref], needed)
                if len(chain) > LONGEST:
                    chain = (chain[0], LEFT_OUT, *chain[2 - LONGEST :])
                found[needed] = chain
                queue.append(needed)
    return found


def compare(old: Contents, new: Contents) -> Changes:
    """Compare two images by the titles of what they hold."""
    before, after = _by_title(old), _by_title(new)
    changes: list[Change] = []
    files: list[Change] = []
    rebuilt = 0
    for title in sorted({*before, *after}):
        gone, come = before.get(title, ()), after.get(title, ())
        growth = sum(item.size for item in come) - sum(item.size for item in gone)
        versions = _versions(gone), _versions(come)
        change = Change(title, *versions, growth)
        if not gone or not come:
            (changes if any(item.version for item in (*gone, *come)) else files).append(change)
        elif versions[0] != versions[1]:
            changes.append(change)
        elif {item.ref for item in gone} != {item.ref for item in come}:
            rebuilt += 1
    return Changes(
        added=tuple(one for one in changes if one.title not in before),
        removed=tuple(one for one in changes if one.title not in after),
        updated=tuple(one for one in changes if one.title in before and one.title in after),
        files=tuple(files),
        rebuilt=rebuilt,
        growth=new.size - old.size,
    )


def _by_title(contents: Contents) -> dict[str, tuple[Item, ...]]:
    found: dict[str, list[Item]] = {}
    for item in (*contents.packages, *contents.paths):
        found.setdefault(item.title, []).append(item)
    return {title: tuple(items) for title, items in found.items()}


def _versions(items: tuple[Item, ...]) -> tuple[str, ...]:
    return tuple(sorted({item.version for item in items if item.version}))
