"""What Nix is doing: the builder's event `nix`, and what the orchestrator adds to it."""

import dataclasses

from orchestrator.shared.json_reader import Natural
from orchestrator.shared.quantities import duration, number, size
from orchestrator.shared.steps import StepKind
from orchestrator.shared.text import plain

#: Number of builds that the builder names; of others it tells the number.
NAMED = 8


#: What is said of a build that this CPU does not run.
WHERE: dict[StepKind, str] = {"emulated": " (emulated)", "remote": " (elsewhere)"}


@dataclasses.dataclass(frozen=True)
class Running:
    """A build that runs since `seconds`."""

    name: str
    kind: StepKind
    seconds: float


@dataclasses.dataclass(frozen=True)
class NixState:
    """Numbers of builds and of store paths that are fetched, bytes received, and what runs.

    `others` is the number of builds that run besides those named in `running`, the oldest first.
    """

    done: Natural = 0
    expected: Natural = 0
    paths_done: Natural = 0
    paths_expected: Natural = 0
    received: Natural = 0
    running: tuple[Running, ...] = ()
    others: Natural = 0


@dataclasses.dataclass(frozen=True)
class Activity:
    """A state of Nix at the time `since` (monotonic clock), with what the plan and the past say.

    `download` are the bytes that substituters send in all, `rate` bytes per second of late. `left`
    are the seconds until the end of the run at that time, None if they are not known; if not
    `whole` it takes longer.
    """

    state: NixState
    since: float
    download: int = 0
    rate: float = 0.0
    left: float | None = None
    whole: bool = True

    @property
    def counts(self) -> str:
        """How much is built, for a person."""
        return f"{self.state.done} of {number(self.state.expected, 'derivation')}"

    @property
    def fetched(self) -> str:
        """How much is fetched, for a person; empty if nothing is."""
        state = self.state
        if not state.received and not (state.paths_expected and self.download):
            return ""
        whole = f" of {size(self.download)}" if self.download >= state.received else ""
        rate = f", {size(self.rate)}/s" if self.rate else ""
        return f"{size(state.received)}{whole}{rate}"

    def runs(self, now: float) -> list[str]:
        """Return a line for each build that runs."""
        lines = [
            f"{plain(one.name)} {duration(one.seconds + now - self.since)}{WHERE.get(one.kind, '')}"
            for one in self.state.running
        ]
        return lines + ([f"and {self.state.others} more"] if self.state.others else [])

    def remaining(self, now: float) -> str:
        """Return how long it takes until the run's end; empty if that is not known."""
        if self.left is None or (seconds := self.left - (now - self.since)) <= 0:
            return ""
        return f"{'about' if self.whole else 'more than'} {duration(seconds)} left"

    def document(self, now: float) -> dict[str, object]:
        """Return all of it as JSON; sizes in bytes, times in seconds."""
        left = None if self.left is None else max(0.0, round(self.left - (now - self.since), 1))
        return {
            **dataclasses.asdict(self.state),
            "download": self.download,
            "rate": round(self.rate, 1),
            "left": left,
            "whole": self.whole,
        }

    def line(self, now: float) -> str:
        """Describe all of it in one line."""
        builds = self.counts if self.state.expected else ""
        parts = [builds, self.fetched, ", ".join(self.runs(now)), self.remaining(now)]
        return "; ".join(part for part in parts if part)
