"""A Debian package as images have it, and how Debian orders versions."""

import dataclasses
import pathlib
import re

#: Folder of Nix in images, and the file in it that lists Nix' packages, which dpkg does not know:
#: one `Package.line` for each.
NIX = pathlib.Path("/opt/nix")
NIX_LIST = "packages"

#: Format for dpkg-query that prints the fields of `Package` but the last two, which dpkg does not
#: know.
DPKG_FORMAT = "\\t".join(
    f"${{{field}}}"
    for field in ("Package", "Version", "Architecture", "source:Package", "source:Version")
)


@dataclasses.dataclass(frozen=True)
class Package:
    """A Debian package; `source` and `source_version` are the source package it was made of.

    `suite` is the suite that it is from; `sha256` is the hash of its file in hex, empty if unknown.
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
        """All fields on one line, separated by tabs."""
        return "\t".join(dataclasses.astuple(self))


def read_line(line: str) -> Package:
    """Return the package that a line of fields, separated by tabs, describes."""
    return Package(*line.split("\t"))


def version_key(version: str) -> tuple[object, ...]:
    """Return a key that sorts versions in Debian's order, deb-version(7).

    Raises `ValueError` for an epoch that is no number.
    """
    epoch, colon, rest = version.partition(":")
    if colon and not re.fullmatch("[0-9]+", epoch):
        raise ValueError(f"{version!r} has an epoch that is no number")
    upstream, _, revision = (rest if colon else version).rpartition("-")
    if not upstream:  # a version without a revision has no dash
        upstream, revision = revision, "0"
    return (_number(epoch if colon else ""), _part_key(upstream), _part_key(revision))


def _part_key(part: str) -> tuple[tuple[tuple[int, ...], tuple[int, str]], ...]:
    """Split a part of a version into pairs: sort keys of text, and of the number after it."""
    pairs = re.findall("([^0-9]*)([0-9]*)", part)
    return tuple(((*map(_order, text), 0), _number(number)) for text, number in pairs)


def _number(digits: str) -> tuple[int, str]:
    """Return a sort key of a number, which may have any number of digits, also none for 0."""
    digits = digits.lstrip("0")
    return len(digits), digits


def _order(letter: str) -> int:
    """Return a letter's rank: a tilde sorts before the end of a part, letters before signs."""
    if letter == "~":
        return -1
    return ord(letter) if letter.isalpha() else ord(letter) + 256
