"""The disk formats that images are delivered in: rows of disk_formats.toml, which explains them."""

import dataclasses
import pathlib
import tomllib
import typing

from orchestrator.shared.json_reader import from_json, one_of

TABLE = pathlib.Path(__file__).with_suffix(".toml")


@dataclasses.dataclass(frozen=True)
class Row:
    """One disk format; the table says what each field is."""

    name: str
    suffix: str
    driver: str
    options: str = ""
    compress: bool = False
    examined: typing.Literal["", "check", "info", "iso"] = ""
    assembled: bool = True
    stick: bool = False


def _read() -> dict[str, Row]:
    rows = tomllib.loads(TABLE.read_text())["disk_format"]
    return {row.name: row for row in from_json(tuple[Row, ...], rows, TABLE.name)}


#: All of them by name.
DISK_FORMATS = _read()

#: Names of those that the assembler makes.
ASSEMBLED = tuple(name for name, row in DISK_FORMATS.items() if row.assembled)

#: One of those.
DiskFormat = typing.Annotated[str, one_of(ASSEMBLED)]


def of_suffix(suffix: str) -> str:
    """The disk format of a file whose name has `suffix`, with its dot, in any letters."""
    wanted = suffix.lower().removeprefix(".")
    return next((name for name, row in DISK_FORMATS.items() if row.suffix == wanted), "raw")
