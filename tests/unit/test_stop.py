"""Tests signals at bad moments: they are reported, and the teardown completes."""

import concurrent.futures
import os
import pathlib
import signal
from collections.abc import Iterator

import pytest

from orchestrator import __main__ as entry
from orchestrator.deliver import stream
from orchestrator.docker import workspace
from orchestrator.docker.containers import signals_wait
from orchestrator.docker.engine import Engine
from orchestrator.run import appliance, runs
from orchestrator.shared.errors import (
    ApplianceError,
    BuildError,
    DockerError,
    EmulatorCrashError,
    InterruptedRunError,
    TerminatedRunError,
    UsageError,
)
from orchestrator.verbs import registry
from tests.unit.requests import CALLER


@pytest.fixture
def handled() -> Iterator[None]:
    """Install the orchestrator's signal handlers during a test."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, entry._interrupt) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handled")
def test_a_signal_waits_for_docker_and_counts_more_than_its_failure() -> None:
    came = []

    def ask_docker() -> None:
        with signals_wait():
            os.kill(os.getpid(), signal.SIGTERM)
            came.append(signal.SIGTERM)
            raise DockerError("no such device")

    with pytest.raises(TerminatedRunError):
        ask_docker()
    assert came


def test_a_signal_during_the_end_is_no_failure_of_the_end() -> None:
    ended: concurrent.futures.Future[None] = concurrent.futures.Future()
    ended.set_exception(TerminatedRunError("terminated"))
    with pytest.raises(TerminatedRunError):
        appliance._first(EmulatorCrashError("an emulator crashed"), ended)


@pytest.mark.parametrize("problem", [None, BuildError("a derivation failed")])
def test_the_end_fails_only_if_nothing_has_before(problem: ApplianceError | None) -> None:
    failed: concurrent.futures.Future[None] = concurrent.futures.Future()
    failed.set_exception(DockerError("a network is left"))
    assert isinstance(appliance._first(problem, failed), type(problem) if problem else DockerError)


def test_taking_down_is_done_again_after_a_signal(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "WORK", tmp_path)
    calls = []

    def down(_: Engine) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise InterruptedRunError("interrupted")

    monkeypatch.setattr(Engine, "down", down)
    with pytest.raises(UsageError), runs.run_workspace(CALLER, {}):
        raise UsageError("refused")
    assert len(calls) == 2
    assert not list(tmp_path.iterdir())


def test_what_was_received_in_part_is_removed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "WORK", tmp_path)

    def receive(_: pathlib.Path) -> None:
        (tmp_path / CALLER.run / "a key").touch()
        raise TerminatedRunError("terminated")

    monkeypatch.setattr(stream, "receive", receive)
    with pytest.raises(TerminatedRunError):
        registry.Session(CALLER, stream=1, began=0.0, sent=True).receive()
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("handled")
def test_only_the_first_signal_counts() -> None:
    with pytest.raises(InterruptedRunError):
        os.kill(os.getpid(), signal.SIGINT)
    for number in (signal.SIGINT, signal.SIGTERM):
        assert signal.getsignal(number) == signal.SIG_IGN
