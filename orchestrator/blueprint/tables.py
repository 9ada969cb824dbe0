"""Reads the tables of boards and of services, whose files explain the fields."""

import dataclasses
import pathlib
import tomllib
import typing

from orchestrator.shared.json_reader import from_json

FOLDER = pathlib.Path(__file__).parent

Medium = typing.Literal["card", "disk", "cloud", "hypervisor"]


@dataclasses.dataclass(frozen=True)
class Board:
    """A row of boards.toml."""

    title: str
    format: str
    medium: Medium
    wifi: bool
    set: dict[str, typing.Any]
    system: str = ""
    also: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class ServiceOption:
    """An option of a service."""

    help: str
    type: typing.Literal["string", "port", "boolean", "strings", "choice", "secret"]
    sets: str
    words: tuple[str, ...] = ()
    many: bool = False
    target: str = ""


@dataclasses.dataclass(frozen=True)
class Service:
    """A row of services.toml."""

    title: str
    set: dict[str, typing.Any]
    tcp: tuple[int, ...] = ()
    udp: tuple[int, ...] = ()
    options: dict[str, ServiceOption] = dataclasses.field(default_factory=dict)
    also: tuple[str, ...] = ()


def _read[Row](file: str, row: type[Row]) -> dict[str, Row]:
    table = tomllib.loads((FOLDER / file).read_text())
    return {name: from_json(row, fields, f"{file}: {name}") for name, fields in table.items()}


#: All boards and services by name.
BOARDS = _read("boards.toml", Board)
SERVICES = _read("services.toml", Service)


def others(rows: typing.Mapping[str, Board] | typing.Mapping[str, Service]) -> dict[str, str]:
    """Return other words for the names of `rows`, each with the name."""
    return {word: name for name, row in rows.items() for word in row.also}
