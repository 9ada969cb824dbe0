"""This engine's own binary cache: files on the store's volume, which `./run.sh cache` serves."""

import dataclasses
import pathlib

from orchestrator.shared.push import OWN_FOLDER

#: Largest file that is read as a .narinfo, in bytes.
LARGEST = 1 << 20


@dataclasses.dataclass(frozen=True)
class Content:
    """Number of store paths in the cache, and the bytes of all its files."""

    paths: int
    size: int


def content(folder: pathlib.Path = OWN_FOLDER) -> Content:
    """Return what the cache has; nothing if there is none."""
    sizes = [one.lstat().st_size for one in folder.rglob("*") if one.is_file()]
    return Content(sum(1 for _ in folder.glob("*.narinfo")), sum(sizes))


def prune(folder: pathlib.Path = OWN_FOLDER) -> int:
    """Remove what the store no longer has; return the bytes that this frees.

    No run may copy to the cache meanwhile.
    """
    before = content(folder).size
    used = set()
    for entry in folder.glob("*.narinfo"):
        facts = _facts(entry)
        if pathlib.Path(facts.get("StorePath", "/nonexistent")).exists():
            used.add(facts.get("URL", ""))
        else:
            entry.unlink(missing_ok=True)
    for archive in (folder / "nar").glob("*"):
        if f"nar/{archive.name}" not in used:
            archive.unlink(missing_ok=True)
    return before - content(folder).size


def _facts(entry: pathlib.Path) -> dict[str, str]:
    """Return the lines `NAME: VALUE` of a .narinfo; a build may have written anything there."""
    try:
        with entry.open("rb") as file:
            text = file.read(LARGEST).decode(errors="replace")
    except OSError:
        return {}
    found = (line.partition(": ") for line in text.splitlines())
    return {name: value for name, _, value in found}
