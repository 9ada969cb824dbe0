"""How long builds, downloads and stages took on this engine in the past.

The functions are pure; `run/memory.py` keeps the history in a file.
"""

import dataclasses
import math
import re
import typing
from collections.abc import Iterable, Mapping

from orchestrator.shared.steps import Step, Steps

#: Number of builds that are remembered: those used last.
LIMIT = 2000

#: Share of the newest duration in the mean that is kept.
NEWEST = 0.5


def amount(value: float) -> None:
    """Rule: the number is finite and not negative."""
    if not 0 <= value < math.inf:
        raise ValueError(f"{value} is not an amount")


Amount = typing.Annotated[float, amount]


@dataclasses.dataclass(frozen=True)
class Duration:
    """Mean of past durations in seconds, their number, the day (since 1970) of the last one."""

    seconds: Amount
    runs: Amount
    day: Amount

    def with_one(self, seconds: float, day: int) -> "Duration":
        """Return the mean with one more duration."""
        mean = self.seconds + NEWEST * (seconds - self.seconds)
        return Duration(round(mean, 3), self.runs + 1, day)


@dataclasses.dataclass(frozen=True)
class History:
    """Past durations: of stages by verb and name, of builds by kind and name without version.

    `pace` is that of downloads in bytes per second, 0 if it is not known; `parallel` is the mean
    number of builds that ran at once.
    """

    stages: dict[str, Duration] = dataclasses.field(default_factory=dict)
    builds: dict[str, Duration] = dataclasses.field(default_factory=dict)
    pace: Amount = 0.0
    parallel: Amount = 1.0


def build_key(kind: str, name: str) -> str:
    """Return the key of a build: versions of a package take about as long."""
    return f"{kind} {re.sub(r'-[^a-zA-Z].*', '', name)}"


def stage_key(verb: str, stage: str) -> str:
    """Return the key of a verb's stage."""
    return f"{verb} {stage}"


def remember(
    old: History, steps: Steps, stages: Mapping[str, float], verb: str, day: int
) -> History:
    """Return the history with one more run, which took `stages` (seconds by name)."""
    built = [step for step in steps.longest if step.kind != "fetched"]
    fetched = [step for step in steps.longest if step.kind == "fetched" and step.size]
    builds = _with(old.builds, {build_key(one.kind, one.name): one.seconds for one in built}, day)
    newest = sorted(builds.items(), key=lambda item: (-item[1].day, -item[1].seconds))[:LIMIT]
    pace = sum(one.size for one in fetched) / span if (span := union(fetched)) else old.pace
    busy = sum(one.seconds for one in built)
    return History(
        stages=_with(old.stages, {stage_key(verb, name): one for name, one in stages.items()}, day),
        builds=dict(newest),
        pace=round(pace, 3),
        parallel=round(max(1.0, busy / span), 3) if (span := union(built)) else old.parallel,
    )


def _with(old: Mapping[str, Duration], new: Mapping[str, float], day: int) -> dict[str, Duration]:
    fresh = {
        key: old[key].with_one(seconds, day) if key in old else Duration(round(seconds, 3), 1, day)
        for key, seconds in new.items()
    }
    return {**old, **fresh}


def union(steps: Iterable[Step]) -> float:
    """Return the seconds during which at least one of `steps` ran."""
    total, until = 0.0, 0.0
    for step in sorted(steps, key=lambda one: one.began):
        end = step.began + step.seconds
        total += max(0.0, end - max(until, step.began))
        until = max(until, end)
    return total
