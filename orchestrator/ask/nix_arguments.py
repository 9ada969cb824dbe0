"""Nix options of the command line: one for each field of `NixOptions`."""

import argparse
import os
import typing

from orchestrator.ask.parser import caller_path
from orchestrator.ask.request import Caller
from orchestrator.shared.errors import UsageError
from orchestrator.shared.nix_options import OPTIONS, NixOptions

#: Nix options whose values are secrets.
SECRET_OPTIONS = frozenset({"access-tokens", "extra-access-tokens"})


class Group(typing.Protocol):
    """An argparse parser or argument group."""

    def add_argument(self, *flags: str, **arguments: typing.Any) -> argparse.Action:  # noqa: ANN401 - argparse's own
        """Add one option, like argparse's method of this name."""


def add_nix_options(group: Group) -> None:
    """Add an option to `group` for each field of `NixOptions`."""
    for name, option in OPTIONS.items():
        group.add_argument(option.flag, dest=name, **option.arguments)


def add_cache_options(group: Group) -> None:
    """Add the options that name binary caches, and the keys that their paths are signed with.

    Their fields are lists.
    """
    for name in ("substituters", "trusted_keys"):
        option = OPTIONS[name]
        group.add_argument(option.flag, dest=name, default=[], **option.arguments)


def nix_options(found: argparse.Namespace, who: Caller) -> NixOptions:
    """Convert parsed arguments; raises `UsageError` for a secret among them."""
    given = {name: getattr(found, name) for name in OPTIONS}
    fields = {name: _frozen(value) for name, value in given.items() if value is not None}
    for name, option in OPTIONS.items():
        if option.file and name in fields:
            fields[name] = os.fspath(caller_path(fields[name], who))
    options = NixOptions(**fields)
    for name, _value in options.options:
        if name in SECRET_OPTIONS:
            raise UsageError(
                f"--option {name}: secrets are not allowed on the command line",
                hint=f"write `{name} = …` into a file and use --nix-conf FILE",
            )
    return options


def _frozen(value: typing.Any) -> typing.Any:  # noqa: ANN401 - whatever argparse has made
    """Convert lists to tuples, recursively."""
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value
