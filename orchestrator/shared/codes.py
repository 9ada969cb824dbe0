"""Codes of errors: stable names, each with a section of docs/errors.md.

The codes are rows of errors.toml. `python3 -m orchestrator.shared.codes` prints the sections.
"""

import dataclasses
import errno
import pathlib
import re
import tomllib

from orchestrator.shared import errors
from orchestrator.shared.errors import ApplianceError
from orchestrator.shared.json_reader import from_json

#: The page about all codes; a code is its section's anchor.
PAGE = "docs/errors.md"

#: Code and message of a full disk of Docker's volumes: the store, builds and images are there.
DISK_FULL = "disk-full"
FULL_DISK = "the disk of Docker's data is full"


@dataclasses.dataclass(frozen=True)
class Code:
    """One row of errors.toml, which explains the fields."""

    name: str
    error: str
    about: str
    remedy: str
    says: str = ""
    tell: str = ""
    in_build: bool = False
    whole: bool = False

    @property
    def kind(self) -> type[ApplianceError]:
        """The error's class."""
        return next(one for one in errors.leaves() if one.__name__ == self.error)


@dataclasses.dataclass(frozen=True)
class Told:
    """What is told of a message: `text` is empty if the message's own first line is best.

    With `whole` the rest of the message is not told.
    """

    code: str
    text: str
    remedy: str
    whole: bool


def _read() -> dict[str, Code]:
    path = pathlib.Path(__file__).with_name("errors.toml")
    rows = [{"name": name, **row} for name, row in tomllib.loads(path.read_text()).items()]
    return {row.name: row for row in from_json(tuple[Code, ...], rows, path.name)}


#: All codes by name, in the order in which messages are compared.
CODES = _read()

_PATTERNS = [(row, re.compile(row.says, re.MULTILINE)) for row in CODES.values() if row.says]


def recognise(message: str, *, in_build: bool = False) -> Told | None:
    """Return what is told of a message of Nix or nixpkgs; None if it is unknown.

    With `in_build` it is the log of a failed derivation: compilers may say anything there.
    """
    for row, pattern in _PATTERNS:
        if (row.in_build or not in_build) and (match := pattern.search(message)):
            groups = [group for group in match.groups() if group is not None]
            text, remedy = _filled(row.tell, groups), _filled(row.remedy, groups)
            return Told(row.name, text, remedy, row.whole)
    return None


def is_full(error: OSError) -> bool:
    """Whether `error` tells of a full disk, or of a used-up quota."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


def _filled(text: str, groups: list[str]) -> str:
    """Replace {0}, {1} … in `text`; other braces stay."""
    for number, group in enumerate(groups):
        text = text.replace(f"{{{number}}}", group)
    return text


def page(code: str) -> str:
    """Return the code's place in the documentation."""
    return f"{PAGE}#{code}"


def reference() -> str:
    """Return the sections of all codes as Markdown, for docs/errors.md."""
    return "\n".join(_section(row) for row in CODES.values())


def _section(row: Code) -> str:
    tell = f"It is told as: {row.tell}\n\n" if row.tell else ""
    remedy = row.remedy.replace("<", "&lt;")
    return (
        f"### {row.name}\n\nExit code {row.kind.exit_code}. {row.about}\n\n{tell}"
        f"What to do: {remedy}\n"
    )


if __name__ == "__main__":
    print(reference(), end="")
