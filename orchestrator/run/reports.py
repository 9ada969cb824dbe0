"""What is wanted of the reports of agents that are no builders: their events' fields.

The engine passes events on. `orchestrator.docker.answers.read` reads them.
"""

import typing

from orchestrator.shared.json_reader import FreeText, Natural


class Table(typing.TypedDict):
    """`table`: binfmt_misc's entries."""

    entries: list[str]


class Cleaned(typing.TypedDict):
    """`cleaned`: why the table was cleaned."""

    reason: str


class Worker(typing.TypedDict):
    """`worker`: what clients need to know of the worker."""

    line: str
    systems: list[str]
    nix: str
    fingerprint: str


class Cache(typing.TypedDict):
    """`cache`: what this engine's own cache has, in paths and bytes."""

    paths: Natural
    size: Natural


class Inputs(typing.TypedDict):
    """`inputs`: store paths."""

    paths: typing.NotRequired[list[str]]


class Holding(typing.TypedDict):
    """A recent result (`agents.builder.holdings.Holding`)."""

    root: FreeText
    name: FreeText
    since: float
    size: Natural
    alone: Natural


class Stock(typing.TypedDict):
    """`stock`: what the store has (`agents.builder.holdings.Stock`), and the disk's free bytes."""

    paths: Natural
    size: Natural
    unneeded: Natural
    free: Natural
    holdings: list[Holding]
