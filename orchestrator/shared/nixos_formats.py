"""Reads the table of NixOS formats that `./run.sh formats` prints.

`nix/formats.json` is generated from `nix/formats.nix`, the only place that defines a format.
"""

import dataclasses
import difflib
import functools
import pathlib
import typing

from orchestrator.shared.disk_formats import DiskFormat
from orchestrator.shared.errors import UsageError
from orchestrator.shared.json_reader import from_json, read_json
from orchestrator.shared.paths import ROOT
from orchestrator.shared.text import columns

TABLE = ROOT / "nix/formats.json"

#: Text of the column "assembled by", by assembler.
ASSEMBLERS = {
    "native": "this appliance",
    "nixpkgs": "nixpkgs' recipe",
    "vm": "nixpkgs, in a virtual machine",
}

#: Module of all SD cards.
CARD = "./sd-card.nix"

COLUMNS = ("format", "nixpkgs' name", "systems", "file", "assembled by", "boots under", "tried")


@dataclasses.dataclass(frozen=True)
class NixosFormat:
    """One format: `upstream` is its name in nixpkgs' `system.build.images`, if it has one.

    `otherwise` is the format whose guest it has on systems without a PC's BIOS. `tried`
    is what the project's tests do with it. `upstreams` is the kind of file that nixpkgs makes,
    where it is another one.
    `modules` are its NixOS modules. With `login` an image that nobody can log in to is refused: no
    provider and no installer gives it a user. `diskFormat` is the default of a format assembled
    here.
    """

    name: str
    upstream: str | None
    aliases: tuple[str, ...]
    systems: tuple[str, ...]
    assembler: typing.Literal["native", "nixpkgs", "vm"]
    suffix: str
    firmware: tuple[str, ...]
    otherwise: str | None
    tried: typing.Literal["booted", "built", "evaluated"]
    upstreams: str
    modules: tuple[str, ...]
    login: bool
    diskFormat: DiskFormat | None = None  # noqa: N815 - nix/formats.nix'

    @property
    def card(self) -> bool:
        """Whether it is an SD card, whose partition table is fixed."""
        return CARD in self.modules

    def check_builder(self, system: str, builder: str) -> None:
        """Raise `UsageError` if a builder of the system `builder` cannot make it for `system`."""
        if self.assembler == "vm" and system != builder:
            raise UsageError(
                f"--format {self.name}: nixpkgs makes it in a virtual machine, whose programs would"
                f" all be emulated: not for {system}, because this computer is {builder}",
                hint=f"build on a computer that is {system}, or take another format",
            )

    def check(self, system: str) -> None:
        """Raise `UsageError` if `system` does not support the format."""
        if system not in self.systems:
            raise UsageError(
                f"--format {self.name}: not for {system}, only {', '.join(self.systems)}",
                hint="./run.sh formats lists each format's systems",
            )

    @property
    def row(self) -> tuple[str, ...]:
        """Table cells in the order of `COLUMNS`."""
        return (
            ", ".join((self.name, *self.aliases)),
            self.upstream or "-",
            " ".join(system.removesuffix("-linux") for system in self.systems),
            f".{self.suffix}" if self.suffix else "a program",
            ASSEMBLERS[self.assembler],
            ", ".join(self.firmware) + (", elsewhere uefi" if self.otherwise else "") or "-",
            self.tried,
        )


@functools.cache
def read_formats(path: pathlib.Path = TABLE) -> tuple[NixosFormat, ...]:
    """Return all formats, sorted by name; their other fields are for Nix. Reads a file once."""
    columns = {field.name for field in dataclasses.fields(NixosFormat)}
    table = read_json(path.read_text(), path.name)
    rows = from_json(dict[str, dict[str, typing.Any]], table, path.name)
    return tuple(
        from_json(
            NixosFormat,
            {"name": name, **{key: row[key] for key in row.keys() & columns}},
            f"{path.name}: {name}",
        )
        for name, row in sorted(rows.items())
    )


def chosen(names: tuple[str, ...], formats: tuple[NixosFormat, ...]) -> tuple[NixosFormat, ...]:
    """Return the formats that `names` (or aliases) select; all of them if `names` is empty.

    Raises `UsageError` for an unknown name, with the nearest known one.
    """
    known = {name: one for one in formats for name in (one.name, *one.aliases)}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "./run.sh formats lists the formats"
            raise UsageError(f"{name}: no such format", hint=hint)
    return tuple(known[name] for name in names) or formats


def describe(formats: tuple[NixosFormat, ...]) -> str:
    """Format the table for a person; below it, where nixpkgs makes a file of another type."""
    table = columns([COLUMNS, *(one.row for one in formats)])
    others = "".join(
        f"{one.name}: a disk (.{one.suffix}); nixpkgs makes {one.upstreams}\n"
        for one in formats
        if one.upstreams
    )
    return f"{table}\n{others}" if others else table


def names(formats: tuple[NixosFormat, ...]) -> str:
    """List all names and aliases (nixos-generators' names), one per line."""
    return "".join(f"{name}\n" for one in formats for name in (one.name, *one.aliases))
