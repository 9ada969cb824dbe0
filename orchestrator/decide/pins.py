"""Lists all pinned downloads of `locks/` and `flake.lock` as one table."""

import dataclasses
import json
import pathlib
import re

from orchestrator.shared.constants import NIX_PACKAGE
from orchestrator.shared.text import columns

COLUMNS = ("kind", "name", "version", "hash", "file")

#: Number of characters of a hash in the table; the lock has the whole hash.
SHORT = 12

#: Note below the table: packages that no lock pins.
NOT_PINNED = (
    "not pinned: the Debian packages that container images install from apt's signed index;"
    " ./run.sh pins --installed\n"
)


@dataclasses.dataclass(frozen=True)
class Pin:
    """One pinned download: `digest` is hex or SRI, or empty if only the name is pinned.

    `file` is the lock file's path in the checkout.
    """

    kind: str
    name: str
    version: str
    digest: str
    file: str

    @property
    def row(self) -> tuple[str, ...]:
        """Table cells in the order of `COLUMNS`."""
        digest = re.sub(r"^sha256[:-]", "", self.digest)[:SHORT] or "-"
        return (self.kind, self.name, self.version, digest, self.file)


def read_pins(home: pathlib.Path) -> list[Pin]:
    """Read all pins of the checkout in `home`."""
    image, _, digest = (home / "locks/base").read_text().strip().partition("@")
    name, _, tag = image.partition(":")
    pins = [Pin("container image", name, tag, digest, "locks/base")]
    pins += _debian(home, "locks/debian.json")
    for lock in sorted((home / "locks").glob("*.txt")):
        pins += _python(lock.read_text(), lock.relative_to(home).as_posix())
    nodes = json.loads((home / "flake.lock").read_text())["nodes"]
    pins += [
        Pin("flake", name, one["locked"]["rev"], one["locked"]["narHash"], "flake.lock")
        for name, one in nodes.items()
        if "locked" in one
    ]
    for lock in sorted((home / "locks").glob("*.json")):
        document = json.loads(lock.read_text())
        if "url" in document:
            version = document["url"].rpartition("/")[2]
            file = lock.relative_to(home).as_posix()
            pins.append(Pin("download", lock.stem, version, document["hash"], file))
    return pins


def table(home: pathlib.Path) -> str:
    """Format the pins for a person."""
    return columns([COLUMNS, *(pin.row for pin in read_pins(home))]) + NOT_PINNED


def pinned_nix(home: pathlib.Path) -> str:
    """The version of Nix that is pinned, and Debian's suite that it is of: `2.34.8 (forky)`."""
    (one, *_) = json.loads((home / "locks/debian.json").read_text())["nix"][NIX_PACKAGE].values()
    return f"{re.split('[+-]', one['version'])[0]} ({one['suite']})"


def _debian(home: pathlib.Path, file: str) -> list[Pin]:
    document = json.loads((home / file).read_text())
    return [
        Pin("debian", f"{one['package']} ({arch})", one["version"], one["sha256"], file)
        for part in ("packages", "emulators", "nix")
        for archs in document[part].values()
        for arch, one in archs.items()
    ]


def _python(text: str, file: str) -> list[Pin]:
    found = re.findall(r"^([\w.-]+)==(\S+).*\\\n +--hash=(\S+)", text, re.MULTILINE)
    return [Pin("python", name, version, digest, file) for name, version, digest in found]
