"""Nix options of `build`: each field of NixOptions is a command line option.

A field defines its argparse arguments (`ask/nix_arguments.py` adds them to the parser) and whether
the provenance records it. The NixOptions value goes unchanged from the parser to the builder, where
`agents/builder/nixos.py` uses it; no module between names an option.
"""

import argparse
import dataclasses
import re
import typing

from orchestrator.shared.json_reader import FreeText, Natural


@dataclasses.dataclass(frozen=True)
class Option:
    """One command line option: `arguments` are keyword arguments of argparse's `add_argument`.

    With `file` the field is a path on the caller's host, and run.sh sends the file. With `recorded`
    the option affects the image's content, so the provenance records it.
    """

    flag: str
    arguments: dict[str, typing.Any]
    file: bool
    recorded: bool


def _option[Value](
    flag: str, default: Value, *, file: bool = False, recorded: bool = True, **arguments: object
) -> Value:
    """Define the dataclass field of the option `flag`."""
    metadata = {"option": Option(flag, arguments, file, recorded)}
    return dataclasses.field(default=default, metadata=metadata)


def count(text: str) -> int:
    """Parse a non-negative integer."""
    if not re.fullmatch("[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


#: Addresses of binary caches that Nix reads without running a program of theirs. For the host
#: `localhost`, by whatever letters, it runs `remote-program` itself instead of ssh.
CACHE = re.compile(
    r"(https?|s3|file)://\S+"
    r"|ssh(-ng)?://([^\s/?#@]*@)?(?!localhost([/?#]|$))[A-Za-z0-9._:\[\]-]+([/?#]\S*)?"
)


def cache_url(text: str) -> str:
    """Check the address of a binary cache. It may have a password, which no message repeats."""
    if not CACHE.fullmatch(text):
        raise argparse.ArgumentTypeError(
            "an address has a scheme, and by ssh names another host: https://cache.example.org"
        )
    return text


def cache_key(text: str) -> str:
    """Check the form of a public key that signs store paths: Ed25519 has 32 bytes."""
    if not re.fullmatch("[^:\\s]+:[A-Za-z0-9+/]{43}=", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME:KEY, as the cache tells its key")
    return text


@dataclasses.dataclass(frozen=True)
class NixOptions:
    """Options for Nix, and arguments for NixOS modules; unset fields keep Nix' defaults."""

    options: tuple[tuple[str, FreeText], ...] = _option(
        "--option", (), action="append", nargs=2, metavar=("NAME", "VALUE"), help="set a Nix option"
    )
    nix_conf: str = _option(
        "--nix-conf",
        "",
        file=True,
        metavar="FILE",
        help="nix.conf lines to add, for example access tokens",
    )
    arguments: tuple[tuple[str, FreeText], ...] = _option(
        "--special-arg",
        (),
        action="append",
        nargs=2,
        metavar=("NAME", "VALUE"),
        help="an argument that the configuration's modules may take (specialArgs), a text",
    )
    substituters: tuple[str, ...] = _option(
        "--substituter",
        (),
        action="append",
        type=cache_url,
        metavar="URL",
        help="binary cache to ask, too; repeatable",
    )
    trusted_keys: tuple[str, ...] = _option(
        "--trusted-public-key",
        (),
        action="append",
        type=cache_key,
        metavar="KEY",
        help="what such a cache has may be signed with this key; repeatable",
    )
    cores: Natural | None = _option(  # noqa: RUF009 - it is dataclasses.field
        "--cores", None, recorded=False, type=count, metavar="N", help="CPU cores per derivation"
    )
    show_trace: bool = _option(
        "--show-trace",
        False,
        recorded=False,
        action="store_true",
        help="with an error of the evaluation, tell each expression that led there",
    )

    @property
    def files(self) -> dict[str, str]:
        """Paths of given files, by command line option."""
        return {OPTIONS[name].flag: path for name, path in self._paths().items()}

    @property
    def recorded(self) -> dict[str, typing.Any]:
        """Values that the provenance records, by field; for a file, its name."""
        found = {name: getattr(self, name) for name, option in OPTIONS.items() if option.recorded}
        return found | {name: path.rpartition("/")[2] for name, path in self._paths().items()}

    def _paths(self) -> dict[str, str]:
        """Return paths of given files, by field."""
        found = {name: getattr(self, name) for name, option in OPTIONS.items() if option.file}
        return {name: path for name, path in found.items() if path}


#: Command line option of each field of NixOptions, by the field's name.
OPTIONS: dict[str, Option] = {
    field.name: field.metadata["option"] for field in dataclasses.fields(NixOptions)
}
