"""Tests the emulators' package: its source, and the extracted programs."""

import pathlib
import re

import pytest

from orchestrator.agents import debian, events
from orchestrator.agents.emulation import qemu_user
from orchestrator.agents.failure import AgentError
from orchestrator.docker.images import SUPERSEDED
from orchestrator.shared.architectures import SYSTEMS

PIN = debian.Pin(
    "qemu-user", "qemu-user-static", "1:7.2-1", "bookworm", "pool/q_7.2-1.deb", "0" * 64
)

EMULATORS = sorted(system.emulator for system in SYSTEMS.values())


def fetched(monkeypatch: pytest.MonkeyPatch, *results: bool) -> None:
    outcomes = iter(results)
    monkeypatch.setattr(debian, "fetch", lambda *_: next(outcomes))


class FakeIndex:
    """Fake apt index of the pin's suite, with a newer package."""

    def __init__(self, _state: pathlib.Path, _arch: str, without: list[str], suite: str) -> None:
        assert (without, suite) == (["trixie-updates"], "bookworm")

    def newest(self, role: str, package: str) -> debian.Pin:
        return debian.Pin(role, package, "1:7.2-2", "bookworm", "pool/new.deb", "1" * 64)


def test_what_is_pinned_is_taken_where_it_can_be_had(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    fetched(monkeypatch, True)
    assert qemu_user.obtain(PIN, "amd64", "S", tmp_path / "deb", [], locked=True) == PIN


def test_a_successor_is_taken_with_a_warning_that_names_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched(monkeypatch, False, True)
    monkeypatch.setattr(debian, "Index", FakeIndex)
    events.configure("qemu-user")
    without = ["trixie-updates"]
    got = qemu_user.obtain(PIN, "amd64", "S", tmp_path / "deb", without, locked=False)
    assert got.version == "1:7.2-2"
    # The pattern that searches a build's log must match.
    (told,) = SUPERSEDED.findall(capsys.readouterr().out)
    assert PIN.version in told
    assert "using qemu-user-static 1:7.2-2" in told


def test_where_there_is_no_successor_another_rung_is_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    fetched(monkeypatch, False, False)
    monkeypatch.setattr(debian, "Index", FakeIndex)
    with pytest.raises(AgentError, match=r"neither 1:7\.2-1 nor 1:7\.2-2") as caught:
        qemu_user.obtain(PIN, "amd64", "S", tmp_path / "deb", ["trixie-updates"], locked=False)
    assert "bookworm" in caught.value.hint
    assert "--qemu" in caught.value.hint


def test_locked_takes_no_successor(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    fetched(monkeypatch, False)
    monkeypatch.setattr(debian, "Index", lambda *_: pytest.fail("the index was asked"))
    with pytest.raises(AgentError, match=re.escape(PIN.version)):
        qemu_user.obtain(PIN, "amd64", "S", tmp_path / "deb", [], locked=True)
