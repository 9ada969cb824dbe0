"""File systems of an image: reads filesystems.toml, which explains the fields."""

import dataclasses
import pathlib
import tomllib
import typing

from orchestrator.shared.json_reader import Natural, from_json, one_of

TABLE = pathlib.Path(__file__).with_suffix(".toml")

#: Longest target of a symbolic link on Linux, in bytes: PATH_MAX without the final zero.
LINK_BYTES = 4095


@dataclasses.dataclass(frozen=True)
class Row:
    """One file system: a row of filesystems.toml, which explains the fields."""

    name: str
    label_bytes: Natural
    refused: str = ""
    root: bool = True
    writable: bool = True
    link_bytes: Natural = LINK_BYTES
    read_by: tuple[str, ...] = ()
    grub_module: str = ""
    block_map: bool = False
    inline_copies: Natural = 1
    replaces: bool = False
    packages: tuple[str, ...] = ()
    kernel_modules: tuple[str, ...] = ()


def _read() -> dict[str, Row]:
    rows = tomllib.loads(TABLE.read_text())["filesystem"]
    return {row.name: row for row in from_json(tuple[Row, ...], rows, TABLE.name)}


#: All file systems by name.
FILESYSTEMS = _read()

#: Names of file systems that `--root-fs` accepts.
ROOTS = tuple(name for name, row in FILESYSTEMS.items() if row.root)

#: Reason for each known file system that is not supported.
REFUSED = {name: row.refused for name, row in FILESYSTEMS.items() if row.refused}

#: Type of a field that holds a root file system's name.
FsType = typing.Annotated[str, one_of(ROOTS)]
