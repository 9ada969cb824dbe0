"""Records when Nix' downloads and builds began and ended, from the activities of its log."""

import dataclasses
import pathlib
import time
from collections.abc import Callable

from orchestrator.agents.emulation import crash
from orchestrator.shared.json_reader import counted
from orchestrator.shared.steps import KINDS, Hand, Step, StepKind, Steps, Sum

#: Number of single steps that are kept; of all others only the sums.
LONGEST = 200

#: Nix' own downloads: a derivation of this system runs no program.
BUILTIN = "builtin"


@dataclasses.dataclass
class _Open:
    """A step that has not ended."""

    name: str
    began: float
    kind: StepKind
    size: int = 0
    machine: str = ""


@dataclasses.dataclass
class Recorder:
    """Steps of all Nix commands of a run; `foreign` are systems whose programs are emulated.

    Activities are known by Nix' numbers, which differ between its processes, too.
    """

    foreign: tuple[str, ...] = ()
    clock: Callable[[], float] = time.monotonic
    steps: list[Step] = dataclasses.field(default_factory=list)
    _sums: dict[StepKind, Sum] = dataclasses.field(default_factory=dict)
    _open: dict[int, _Open] = dataclasses.field(default_factory=dict)
    _owners: dict[int, int] = dataclasses.field(default_factory=dict)
    _hands: dict[str, Hand] = dataclasses.field(default_factory=dict)
    _began: float = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        """Begin to measure."""
        self._began = self.clock()

    def begin(self, number: int, name: str, derivation: str = "", machine: str = "") -> None:
        """Note that the step `name` begins; without a `derivation` it is a download.

        `machine` is the address of the builder that it runs on, empty for this one.
        """
        kind: StepKind = "remote" if machine else self._kind(derivation)
        self._open[number] = _Open(name, self.clock() - self._began, kind, machine=machine)

    def inner(self, number: int, parent: int) -> None:
        """Note that the activity `number` belongs to the one that Nix calls its parent."""
        within = parent if parent in self._open else self._owners.get(parent)
        if within is not None:
            self._owners[number] = within

    def received(self, number: int, size: int) -> None:
        """Note that the activity `number` has received `size` bytes so far."""
        if step := self._open.get(self._owners.get(number, number)):
            step.size = max(step.size, size)

    def end(self, number: int) -> None:
        """Note that an activity has ended, of whatever kind it was."""
        self._owners.pop(number, None)
        if not (found := self._open.pop(number, None)):
            return
        kind = found.kind
        seconds = round(self.clock() - self._began - found.began, 3)
        step = Step(kind, found.name, round(found.began, 3), seconds, found.size)
        old = self._sums.get(kind, Sum(kind, 0, 0.0, 0))
        self._sums[kind] = Sum(
            kind, old.count + 1, round(old.seconds + seconds, 3), counted(old.size + step.size)
        )
        if found.machine:
            hand = self._hands.get(found.machine, Hand(found.machine, 0, 0.0))
            self._hands[found.machine] = Hand(
                found.machine, hand.count + 1, round(hand.seconds + seconds, 3)
            )
        self.steps.append(step)
        if len(self.steps) >= 2 * LONGEST:
            self.steps = self._longest()

    def builds(self) -> list[tuple[str, StepKind, float]]:
        """Return name, kind and seconds so far of each build that runs, the oldest first."""
        now = self.clock() - self._began
        return [
            (one.name, one.kind, round(now - one.began, 1))
            for one in self._open.values()
            if one.kind != "fetched"
        ]

    def result(self) -> Steps:
        """Return what was recorded so far."""
        steps = sorted(self._longest(), key=lambda one: (one.began, one.name))
        sums = (self._sums[kind] for kind in KINDS if kind in self._sums)
        hands = (self._hands[uri] for uri in sorted(self._hands))
        return Steps(tuple(steps), tuple(sums), tuple(hands))

    def _longest(self) -> list[Step]:
        return sorted(self.steps, key=lambda one: (-one.seconds, one.began, one.name))[:LONGEST]

    def _kind(self, derivation: str) -> StepKind:
        if not derivation:
            return "fetched"
        try:
            system = crash.system_of(pathlib.Path(derivation).read_text())
        except (OSError, ValueError):  # Nix has removed it meanwhile, or it was never here
            return "native"
        if system == BUILTIN:
            return "fetched"
        return "emulated" if system in self.foreign else "native"
