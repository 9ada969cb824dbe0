"""A Debian package as images have it, and how Debian orders versions."""

import dataclasses
import pathlib
import re

#: Where images have Nix, and in that folder the list of its packages, one `line` for each: dpkg
#: does not know them.
NIX = pathlib.Path("/opt/nix")
NIX_LIST = "packages"

#: dpkg-query's format of the same fields as `Package` has, the last two of which it does not know.
DPKG_FORMAT = "\\t".join(
    f"${{{field}}}"
    for field in ("Package", "Version", "Architecture", "source:Package", "source:Version")
)


@dataclasses.dataclass(frozen=True)
class Package:
    """A Debian package: `source` and its version are what it was made of.

    `suite` is where it is from, `sha256` of its file in hex, empty where that is not known.
    """

    package: str
    version: str
    arch: str
    source: str
    source_version: str
    suite: str
    sha256: str = ""

    @property
    def line(self) -> str:
        """All fields, with tabs between."""
        return "\t".join(dataclasses.astuple(self))


def read_line(line: str) -> Package:
    """The package of a `line`."""
    return Package(*line.split("\t"))


def version_key(version: str) -> tuple[object, ...]:
    """What sorts versions as Debian does: deb-version(7)."""
    epoch, colon, rest = version.partition(":")
    upstream, _, revision = (rest if colon else version).rpartition("-")
    if not upstream:  # without a revision there is no dash
        upstream, revision = revision, "0"
    return (int(epoch) if colon else 0, _part_key(upstream), _part_key(revision))


def _part_key(part: str) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Pairs of what is no number, by its letters, and of the number that follows."""
    pairs = re.findall(r"(\D*)(\d*)", part)
    return tuple(((*map(_order, text), 0), int(number or 0)) for text, number in pairs)


def _order(letter: str) -> int:
    """A tilde is before the end of a part, letters are before all else."""
    if letter == "~":
        return -1
    return ord(letter) if letter.isalpha() else ord(letter) + 256
