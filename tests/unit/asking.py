"""Helpers: parse a command line to a request, and to the orders that run.sh gets."""

import dataclasses
import functools
import pathlib
import typing

from orchestrator.ask.orders import Orders
from orchestrator.ask.request import Build, Caller, Demo
from orchestrator.shared.display import Display
from orchestrator.verbs import registry
from orchestrator.verbs.boot import Boot
from tests.unit.requests import BUILD, CALLER, DEMO

BOOT = Boot(
    image=pathlib.PurePosixPath("/x"),
    system="",
    firmware="",
    identity=None,
    user="root",
    seed=None,
    grow=0,
    command="",
    test=False,
    print_command=False,
    boot_timeout=300.0,
    display=Display(),
)


def build(**changes: object) -> Build:
    return dataclasses.replace(BUILD, **changes)  # type: ignore[arg-type]


def demo(**changes: object) -> Demo:
    return dataclasses.replace(DEMO, **changes)  # type: ignore[arg-type]


def ask(argv: list[str], who: Caller = CALLER) -> object:
    """Return the request of the command line `argv`."""
    verb, words = registry.find(argv)
    return with_one_parser(verb).ask(words, who)


@functools.cache
def with_one_parser(verb: registry.Verb[typing.Any]) -> registry.Verb[typing.Any]:
    """Return the verb with a parser that is made once: that takes longer than to parse."""
    return dataclasses.replace(verb, parser=functools.cache(verb.parser))


def orders(verb: str, request: object) -> Orders:
    """Return the orders to run.sh for `request`."""
    found: Orders = registry.verb(verb).orders(request)
    return found
