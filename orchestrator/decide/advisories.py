"""Vulnerabilities of our own Debian packages, by Debian's security tracker.

The tracker's document has, by source package and advisory, `releases` by codename: `status` is
open, resolved (`fixed_version`, 0 if it was never affected) or undetermined; `urgency` is low,
medium, high, unimportant, end-of-life or not yet assigned.
"""

import dataclasses
import json
import pathlib
import re
import typing
from collections.abc import Iterable

from orchestrator.shared.debian_package import Package, version_key
from orchestrator.shared.json_reader import JsonError, from_json
from orchestrator.shared.text import columns

COLUMNS = ("source", "version", "suite", "advisory", "fixed in", "urgency", "in")

#: The tracker's release that a suite is compared with, by the end of the suite's name: updates
#: belong to the release, backports are compared with unstable. Empty: the suite's name without that
#: end.
RELEASES = {"-security": "", "-updates": "", "-backports": "sid"}

#: Urgency of entries that Debian does not count as vulnerabilities of the package.
UNIMPORTANT = "unimportant"

#: Lock of packages that are unpacked, not installed: findings name it in place of an image.
LOCK = "locks/debian.json"


def debian_version(value: str) -> None:
    """Rule: the text is the version of a Debian package."""
    version_key(value)


@dataclasses.dataclass(frozen=True)
class Release:
    """What the tracker says of an advisory in one release."""

    status: str
    urgency: str = ""
    fixed_version: typing.Annotated[str, debian_version] = "0"


#: Names of the tracker's fields that are read; its document has more.
READ = [field.name for field in dataclasses.fields(Release)]


@dataclasses.dataclass(frozen=True)
class Finding:
    """A vulnerability of a source package, which is in `places`.

    `fixed` is the version without the vulnerability, empty if there is none yet.
    """

    source: str
    version: str
    suite: str
    advisory: str
    fixed: str
    urgency: str
    places: tuple[str, ...]

    @property
    def row(self) -> tuple[str, ...]:
        """Cells in the order of `COLUMNS`."""
        places = ", ".join(place.removeprefix("nixos-image-") for place in self.places)
        told = (self.advisory, self.fixed or "-", self.urgency or "-")
        return (self.source, self.version, self.suite, *told, places)


def locked(home: pathlib.Path) -> list[tuple[str, Package]]:
    """The pinned packages that are unpacked, into images or demos: dpkg knows none of them."""
    document = json.loads((home / LOCK).read_text())
    return [
        (LOCK, of_pin(one))
        for part in ("packages", "emulators")
        for archs in document[part].values()
        for one in archs.values()
    ]


def of_pin(pin: dict[str, str]) -> Package:
    """Return the package of a pin, with its source package.

    The pin's folder in the pool has the source's name; +bN in a version counts rebuilds.
    """
    path = pathlib.PurePosixPath(pin["path"])
    arch = path.stem.rpartition("_")[2]
    version = re.sub(r"\+b\d+$", "", pin["version"])
    return Package(
        pin["package"], pin["version"], arch, path.parent.name, version, pin["suite"], pin["sha256"]
    )


def release_of(suite: str) -> str:
    """The tracker's release for packages of `suite`."""
    for end, release in RELEASES.items():
        if suite.endswith(end):
            return release or suite.removesuffix(end)
    return suite


def find(packages: Iterable[tuple[str, Package]], known: object) -> list[Finding]:
    """The vulnerabilities of `packages`, pairs of a place and a package; fixed ones come first.

    `known` is the tracker's document, or a part of it. Unimportant and undetermined entries are
    left out. Raises `JsonError` if `known` has another form.
    """
    places: dict[tuple[str, str, str], set[str]] = {}
    for place, one in packages:
        places.setdefault((one.source, one.source_version, one.suite), set()).add(place)
    sources = _fields(known, "the tracker's document")
    found = []
    for (source, version, suite), there in places.items():
        release = release_of(suite)
        for advisory, document in _fields(sources.get(source, {}), source).items():
            what = f"{advisory} of {source}"
            releases = _fields(_fields(document, what).get("releases", {}), what)
            if release not in releases:
                continue
            fields = _fields(releases[release], what)
            entry = from_json(Release, {key: fields[key] for key in READ if key in fields}, what)
            if _concerns(entry, version):
                fixed = entry.fixed_version if entry.status == "resolved" else ""
                where = tuple(sorted(there))
                found.append(Finding(source, version, suite, advisory, fixed, entry.urgency, where))
    return sorted(found, key=lambda one: (not one.fixed, one.source, one.advisory, one.version))


def _fields(value: object, what: str) -> dict[str, typing.Any]:
    if not isinstance(value, dict):
        raise JsonError(f"{what}: expected an object")
    return value


def _concerns(entry: Release, version: str) -> bool:
    if entry.urgency == UNIMPORTANT:
        return False
    if entry.status == "resolved":
        return version_key(version) < version_key(entry.fixed_version)
    return entry.status == "open"


def table(findings: list[Finding]) -> str:
    """Return the findings as a table for a person."""
    return columns([COLUMNS, *(one.row for one in findings)])
