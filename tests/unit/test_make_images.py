"""Tests the choice of the emulators' image, and the retry after a crash."""

import contextlib
import dataclasses
import unittest.mock
from collections.abc import Iterator

import pytest

from orchestrator.agents.emulation import ladder
from orchestrator.ask.request import Build, Caller, Demo
from orchestrator.decide.plan import Mode
from orchestrator.deliver import provenance
from orchestrator.run import make_images
from orchestrator.run.context import RunContext
from orchestrator.shared.errors import BuildError, EmulatorCrashError
from orchestrator.shared.progress import PlainTeller, Progress
from orchestrator.shared.task import DemoTask
from tests.unit.requests import BUILD


@pytest.mark.parametrize(
    ("asked", "tag"), [("", ""), ("auto", ""), (ladder.rungs()[0], ""), ("x", "x")]
)
def test_the_default_rungs_image_is_the_one_without_a_name(asked: str, tag: str) -> None:
    assert make_images._image_tag(asked) == tag


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ((), "warning: no SSH key was found: nobody can log in to the image (--ssh-key FILE)\n"),
        (("a",), "anna can log in, by 1 SSH key\n"),
        (("a", "b"), "anna can log in, by 2 SSH keys\n"),
    ],
)
def test_who_can_log_in_to_the_demo_is_told(
    keys: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = DemoTask("x86_64-linux", authorized_keys=keys, user="anna")
    make_images.tell_login(demo, Progress(PlainTeller()))
    assert capsys.readouterr().err == told


FIRST, SECOND, *_, LAST = ladder.rungs()


@pytest.mark.parametrize(
    ("asked", "mode", "tried", "hint"),
    [
        ("", "shared", [""], f"--qemu {SECOND}; the log"),
        (FIRST, "shared", [FIRST], f"--qemu {SECOND}; the log"),
        (LAST, "shared", [LAST], f"--qemu {FIRST}; the log"),
        ("", "host", [""], f"--qemu {FIRST}; the log"),
        ("auto", "shared", ["auto", SECOND], f"--qemu {ladder.next_rung(SECOND)}; the log"),
    ],
)
def test_a_crash_is_told_with_the_next_rung_which_auto_tries_once(
    asked: str, mode: Mode, tried: list[str], hint: str
) -> None:
    seen: list[str] = []

    def attempt(request: Demo | Build) -> None:
        seen.append(request.qemu)
        raise EmulatorCrashError("crashed", hint="the log")

    request = dataclasses.replace(BUILD, qemu=asked)
    with pytest.raises(EmulatorCrashError) as caught:
        make_images.retry_after_crash(request, mode, attempt, Progress(PlainTeller()))
    assert (seen, caught.value.hint) == (tried, hint)


def test_auto_tells_of_the_second_attempt(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    def attempt(request: Demo | Build) -> None:
        seen.append(request.qemu)
        if request.qemu == "auto":
            raise EmulatorCrashError("crashed")

    request = dataclasses.replace(BUILD, qemu="auto")
    make_images.retry_after_crash(request, "shared", attempt, Progress(PlainTeller()))
    assert seen == ["auto", SECOND]
    assert f"warning: crashed: trying again with QEMU {SECOND}" in capsys.readouterr().err


def test_any_other_failure_is_not_tried_again() -> None:
    seen: list[str] = []

    def attempt(request: Demo | Build) -> None:
        seen.append(request.qemu)
        raise BuildError("failed", hint="as it was")

    request = dataclasses.replace(BUILD, qemu="auto")
    with pytest.raises(BuildError) as caught:
        make_images.retry_after_crash(request, "shared", attempt, Progress(PlainTeller()))
    assert (seen, caught.value.hint) == (["auto"], "as it was")


def test_what_was_sent_is_told_as_it_came(monkeypatch: pytest.MonkeyPatch, who: Caller) -> None:
    """An agent may change the sent files; a second attempt comes after the first one's builder.

    A file of public keys may be a late value, too, which `make_task` moves away.
    """
    files, keys, told = ["as sent"], ["a key"], []
    hands = []

    class Agents:
        """Stands for the appliance: changes the sent files, and crashes once."""

        def __init__(self, run: RunContext) -> None:
            told.append(run.sent)
            hands.append(run.earlier)

        def run(self, *_: object) -> None:
            files.append("changed")
            if len(told) == 1:
                raise EmulatorCrashError("crash")

    @contextlib.contextmanager
    def workspace(*_: object) -> Iterator[tuple[unittest.mock.Mock, unittest.mock.Mock]]:
        yield unittest.mock.Mock(), unittest.mock.Mock()

    def take_late(*_: object) -> unittest.mock.Mock:
        keys.clear()
        return unittest.mock.Mock()

    plan = unittest.mock.Mock(register=(), systems=("aarch64-linux",), images=(), boot=False)
    for name in ("hosts", "forget_dead_runs", "write_variables", "Images"):
        monkeypatch.setattr(make_images, name, unittest.mock.Mock())
    monkeypatch.setattr(make_images, "make_task", take_late)
    monkeypatch.setattr(make_images, "_plan", lambda *_: plan)
    monkeypatch.setattr(make_images, "run_workspace", workspace)
    monkeypatch.setattr(make_images, "Appliance", Agents)
    monkeypatch.setattr(provenance, "public_keys", lambda *_: [{"name": keys[0]}])
    monkeypatch.setattr(
        provenance, "sent", lambda _request, _who, found: [{"name": files[-1]}, *found]
    )
    request = dataclasses.replace(BUILD, qemu="auto")
    progress = Progress(PlainTeller())
    make_images.make_images(request, who, progress, 1, 0.0)
    progress.close()
    assert told == [[{"name": "as sent"}, {"name": "a key"}]] * 2
    assert hands[0] is hands[1]  # the second attempt tells of the first one's builders


def test_an_error_has_the_stage_in_which_it_came() -> None:
    """The removal of the run's files is a stage, too, and comes later."""
    progress = Progress(PlainTeller())

    @make_images.removal_shown(progress)
    def build() -> None:
        progress.to("build")
        raise BuildError("failed")

    with pytest.raises(BuildError) as caught:
        build()
    assert (caught.value.stage, progress.current) == ("build", "clean up")
    progress.close()
