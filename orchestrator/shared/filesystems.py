"""The file systems of an image: rows of filesystems.toml, which explains them."""

import dataclasses
import pathlib
import tomllib
import typing

from orchestrator.shared.json_reader import Natural, from_json, one_of

TABLE = pathlib.Path(__file__).with_suffix(".toml")

#: Linux takes no longer target of a symbolic link: PATH_MAX without the end.
LINK_BYTES = 4095


@dataclasses.dataclass(frozen=True)
class Row:
    """One file system; the table says what each field is."""

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
    packages: tuple[str, ...] = ()
    kernel_modules: tuple[str, ...] = ()


def _read() -> dict[str, Row]:
    rows = tomllib.loads(TABLE.read_text())["filesystem"]
    return {row.name: row for row in from_json(tuple[Row, ...], rows, TABLE.name)}


#: All of them by name.
FILESYSTEMS = _read()

#: Names of those that the root file system can be asked to be.
ROOTS = tuple(name for name, row in FILESYSTEMS.items() if row.root)

#: Why one of those is not made.
REFUSED = {name: row.refused for name, row in FILESYSTEMS.items() if row.refused}

#: The name of a root file system.
FsType = typing.Annotated[str, one_of(ROOTS)]
