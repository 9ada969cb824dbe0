"""What a person asks of Nix where images of a configuration are built: a field is an option.

A field says how the command line takes it (`ask/nix_arguments.py` makes the parser of the fields)
and whether the provenance tells it. The value travels whole from there to the builder, where
`agents/builder/nixos.py` uses it: nothing between names an option.
"""

import dataclasses
import typing

from orchestrator.shared.json_reader import FreeText, Natural


@dataclasses.dataclass(frozen=True)
class Option:
    """How the command line takes a field: `arguments` are those of argparse's `add_argument`.

    With `file` the field is a path of the caller's host, whose file run.sh sends. `told` are those
    that make an image another one: its provenance tells them.
    """

    flag: str
    arguments: dict[str, typing.Any]
    file: bool
    told: bool


def _option[Value](
    flag: str, default: Value, *, file: bool = False, told: bool = True, **arguments: object
) -> Value:
    """The field of the option `flag`."""
    metadata = {"option": Option(flag, arguments, file, told)}
    return dataclasses.field(default=default, metadata=metadata)


def count(text: str) -> int:
    """A number of things, 0 among them; `ValueError` for what is none."""
    if not text.isdecimal():
        raise ValueError
    return int(text)


@dataclasses.dataclass(frozen=True)
class NixOptions:
    """Options of Nix' own, and arguments for the modules; what is not asked for is Nix' default."""

    options: tuple[tuple[str, FreeText], ...] = _option(
        "--option", (), action="append", nargs=2, metavar=("NAME", "VALUE"), help="of Nix"
    )
    nix_conf: str = _option(
        "--nix-conf",
        "",
        file=True,
        metavar="FILE",
        help="lines of a nix.conf: access tokens, for example",
    )
    arguments: tuple[tuple[str, FreeText], ...] = _option(
        "--special-arg", (), action="append", nargs=2, metavar=("NAME", "VALUE")
    )
    substituters: tuple[str, ...] = _option("--substituter", (), action="append", metavar="URL")
    trusted_keys: tuple[str, ...] = _option(
        "--trusted-public-key", (), action="append", metavar="KEY"
    )
    cores: Natural | None = _option(  # noqa: RUF009 - it is dataclasses.field
        "--cores", None, told=False, type=count, metavar="N", help="for each derivation"
    )
    show_trace: bool = _option("--show-trace", False, told=False, action="store_true")

    @property
    def files(self) -> dict[str, str]:
        """Paths of files that are asked for, by their options."""
        return {OPTIONS[name].flag: path for name, path in self._paths().items()}

    @property
    def told(self) -> dict[str, typing.Any]:
        """Values by field that the provenance tells; of a file its name."""
        found = {name: getattr(self, name) for name, option in OPTIONS.items() if option.told}
        return found | {name: path.rpartition("/")[2] for name, path in self._paths().items()}

    def _paths(self) -> dict[str, str]:
        """Paths of files that are asked for, by their fields."""
        found = {name: getattr(self, name) for name, option in OPTIONS.items() if option.file}
        return {name: path for name, path in found.items() if path}


#: Each field's option.
OPTIONS: dict[str, Option] = {
    field.name: field.metadata["option"] for field in dataclasses.fields(NixOptions)
}
