"""Disk formats of delivered images: reads disk_formats.toml, which explains the fields."""

import dataclasses
import pathlib
import tomllib
import typing

from orchestrator.shared.json_reader import from_json, one_of

TABLE = pathlib.Path(__file__).with_suffix(".toml")


@dataclasses.dataclass(frozen=True)
class Row:
    """One disk format: a row of disk_formats.toml, which explains the fields."""

    name: str
    suffix: str
    driver: str
    options: str = ""
    compress: bool = False
    box: bool = False
    examined: typing.Literal["", "check", "info", "iso", "box"] = ""
    assembled: bool = True
    stick: bool = False
    largest_mib: int = 0


def _read() -> dict[str, Row]:
    rows = tomllib.loads(TABLE.read_text())["disk_format"]
    return {row.name: row for row in from_json(tuple[Row, ...], rows, TABLE.name)}


#: All disk formats by name.
DISK_FORMATS = _read()

#: Names of disk formats that the native assembler makes.
ASSEMBLED = tuple(name for name, row in DISK_FORMATS.items() if row.assembled)

#: Type of a field that holds a disk format's name: one of those that the native assembler makes.
DiskFormat = typing.Annotated[str, one_of(ASSEMBLED)]


def of_suffix(suffix: str) -> str:
    """Return the disk format for a file name's `suffix` (".qcow2", any case); default: raw."""
    wanted = suffix.lower().removeprefix(".")
    return next((name for name, row in DISK_FORMATS.items() if row.suffix == wanted), "raw")
