"""What Nix did in a run: downloads and builds with their times, for the report."""

import dataclasses
import typing

from orchestrator.shared.json_reader import Natural

#: Downloads, builds that this CPU ran, builds that an emulator ran, builds on other machines.
StepKind = typing.Literal["fetched", "native", "emulated", "remote"]
KINDS: tuple[StepKind, ...] = typing.get_args(StepKind)


@dataclasses.dataclass(frozen=True)
class Step:
    """One download or build; `began` is in seconds since the builder started, `size` in bytes."""

    kind: StepKind
    name: str
    began: float
    seconds: float
    size: Natural = 0


@dataclasses.dataclass(frozen=True)
class Sum:
    """All steps of one kind: their number, seconds (also where they overlap) and bytes."""

    kind: StepKind
    count: Natural
    seconds: float
    size: Natural


@dataclasses.dataclass(frozen=True)
class Hand:
    """The builds on one builder, by its address: their number and seconds.

    Builds that have failed there count, too.
    """

    uri: str
    count: Natural
    seconds: float


@dataclasses.dataclass(frozen=True)
class Steps:
    """The longest steps, in the order of their begin, the sums of all, and those of builders."""

    longest: tuple[Step, ...] = ()
    sums: tuple[Sum, ...] = ()
    hands: tuple[Hand, ...] = ()
