"""Describes run.sh's command line as data, read from the parsers of all verbs."""

import argparse
import dataclasses
import functools
import re
import typing

from orchestrator.shared import nixos_formats
from orchestrator.verbs import compose, registry

#: What a shell offers for a value besides words: files, folders, or nothing.
Kind = typing.Literal["file", "folder", "none"]

#: Parts of a value's name in the help that say what it is.
FILES = frozenset({"FILE", "PATH", "IMAGE", "DEVICE", "URI", "SRC"})
FOLDERS = frozenset({"DIR"})

#: Verbs whose further arguments are files, though they belong to another program.
TAKES_FILES = frozenset({"test"})


@dataclasses.dataclass(frozen=True)
class Value:
    """A value of an option, or a positional argument: `shown` in the help, and what it may be."""

    shown: str
    words: tuple[str, ...]
    kind: Kind


@dataclasses.dataclass(frozen=True)
class Option:
    """An option: its `names`, one line of `help`, and its `values` (none for a flag)."""

    names: tuple[str, ...]
    help: str
    values: tuple[Value, ...]
    repeatable: bool


@dataclasses.dataclass(frozen=True)
class Verb:
    """A verb: `does` is its line of the overview, `argument` what its positional arguments are."""

    name: str
    does: str
    description: str
    epilog: str
    usage: str
    options: tuple[Option, ...]
    argument: Value | None


@functools.cache
def verbs() -> tuple[Verb, ...]:
    """Return all verbs, sorted by name."""
    return tuple(_verb(name) for name in registry.names())


@functools.cache
def first_words() -> dict[str, str]:
    """Return what may follow run.sh, and what it does: verbs of our own and of Compose."""
    ours = {verb.name: verb.does for verb in verbs()}
    others = {name: f"docker compose {name}" for name in sorted(compose.VERBS)}
    return others | ours


def _verb(name: str) -> Verb:
    verb = registry.verb(name)
    parser = verb.parser()
    does = next(does for words, does in verb.shown if words.split()[0].strip("[]") == name)
    options, argument = [], None
    for action in parser._actions:
        if action.option_strings:
            help_ = parser._get_formatter()._expand_help(action) if action.help else ""
            options.append(_option(name, action, help_))
        else:
            argument = argument or _value(name, action, str(action.metavar or action.dest))
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    return Verb(
        name,
        does,
        parser.description or "",
        parser.epilog or "",
        usage,
        tuple(options),
        argument,
    )


def _option(verb: str, action: argparse.Action, help_: str) -> Option:
    if action.nargs == 0:
        shown: tuple[str, ...] = ()
    elif isinstance(action.metavar, tuple):
        shown = action.metavar
    else:
        shown = (action.metavar or "VALUE",)
    return Option(
        tuple(action.option_strings),
        help_,
        tuple(_value(verb, action, one) for one in shown),
        isinstance(action, argparse._AppendAction),
    )


def _value(verb: str, action: argparse.Action, shown: str) -> Value:
    # Choices that the help does not list are many, or change with the locks.
    words = tuple(str(one) for one in action.choices or ()) if not action.metavar else ()
    if (verb, action.dest) in {("build", "format"), ("build", "formats"), ("formats", "names")}:
        formats = nixos_formats.read_formats()
        words = tuple(sorted({name for one in formats for name in (one.name, *one.aliases)}))
    elif (verb, action.dest) == ("help", "verb"):
        words = registry.names()
    parts = set(re.findall("[A-Z]+", shown.partition("=")[0]))
    kind: Kind = "none"
    if not words and (parts & FILES or (verb in TAKES_FILES and not action.option_strings)):
        kind = "file"
    elif not words and parts & FOLDERS:
        kind = "folder"
    return Value(shown, words, kind)
