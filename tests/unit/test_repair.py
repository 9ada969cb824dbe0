"""Tests the removal of dead runs' binfmt_misc entries."""

import pathlib

import pytest

from orchestrator.docker import census
from orchestrator.docker.engine import Engine
from orchestrator.run.repair import reap
from orchestrator.shared.progress import PlainTeller, Progress

ENTRIES = [
    "nixos-image-0e0edeadbeef-aarch64",
    "nixos-image-0e0ecafebabe-riscv64",
    "nixos-image-0e0e01234567-aarch64",
    "nixos-image-0badcafebabe-aarch64",
    "nixos-image-compose-aarch64",
    "qemu-aarch64",
]


class Recorder(Engine):
    """Fake engine that records exec commands."""

    def __init__(self, run: str) -> None:
        super().__init__(run, pathlib.Path("/nonexistent"))
        self.executed: list[str] = []

    def execute(self, name: str, command: list[str]) -> None:
        assert name == "guard"
        self.executed += command[command.index("reap") + 1 :]


@pytest.mark.parametrize(
    ("alive", "removed", "stays"),
    [
        (set(), [ENTRIES[0], ENTRIES[1], ENTRIES[2], ENTRIES[4]], {"aarch64-linux"}),
        (
            {"0e0ecafebabe", "0e0e01234567", "compose"},
            [ENTRIES[0], ENTRIES[2]],
            {"aarch64-linux", "riscv64-linux"},
        ),
    ],
)
def test_entries_of_this_engines_dead_runs_are_removed_and_no_others(
    alive: set[str], removed: list[str], stays: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The current run, whose ID ends with 01234567, counts as dead."""
    monkeypatch.setattr(census, "living_runs", lambda _: alive)
    engine = Recorder("0e0e01234567")
    assert reap(engine, Progress(PlainTeller()), "guard", ENTRIES) == stays
    assert engine.executed == removed


def test_nothing_is_executed_for_other_engines_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "living_runs", lambda _: set())
    engine = Recorder("0e0e01234567")
    reap(engine, Progress(PlainTeller()), "guard", ENTRIES[3:4])
    assert engine.executed == []
