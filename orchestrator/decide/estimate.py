"""Estimates how long a build will take, from its cost and the history of this engine."""

import dataclasses
from collections.abc import Iterable

from orchestrator.decide.history import History, build_key, stage_key
from orchestrator.shared.cost import Cost, Work


@dataclasses.dataclass(frozen=True)
class Estimate:
    """`seconds` until the end, None if nothing is known.

    `known` and `unknown` are numbers of builds with and without a past duration. If not `whole`,
    the run takes longer: what has no past duration is not in `seconds`.
    """

    seconds: float | None
    known: int
    unknown: int
    whole: bool

    @property
    def tells(self) -> bool:
        """Whether `seconds` say when the end is: of few builds the sum is no hint at all."""
        return self.seconds is not None and self.unknown <= self.known


def estimate(cost: Cost, history: History, verb: str, stages: Iterable[str]) -> Estimate:
    """Estimate what is left when the plan is known; `stages` are those after the build."""
    later = [history.stages.get(stage_key(verb, stage)) for stage in stages]
    fetching = cost.download / history.pace if history.pace else 0.0
    known = [found for work in cost.works if (found := expected(work, history)) is not None]
    unknown = len(cost.works) - len(known)
    whole = not unknown and None not in later and bool(history.pace or not cost.download)
    if not history.stages and not history.builds:
        return Estimate(None, len(known), unknown, whole=False)
    seconds = fetching + sum(known) / max(1.0, history.parallel)
    seconds += sum(one.seconds for one in later if one)
    return Estimate(round(seconds, 1), len(known), unknown, whole)


def expected(work: Work, history: History) -> float | None:
    """Return the past duration of a build in seconds, None if it has none."""
    source = work.kind == "source"
    here = source or work.kind == "either"
    found = history.builds.get(build_key("native" if here else work.kind, work.name))
    # Nix' own downloads are no builds.
    return found.seconds if found else 0.0 if source else None
