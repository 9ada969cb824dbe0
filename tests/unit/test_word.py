"""Tests the question whether a costly build may go on: the orchestrator's side and run.sh's."""

import os
import pathlib
import pty
import shlex
import signal
import subprocess

import pytest

from orchestrator.run.word import NO, YES, Word
from orchestrator.shared.errors import BuildError, InterruptedRunError
from orchestrator.shared.paths import ROOT
from orchestrator.shared.progress import PlainTeller, Progress


def read(stream: int) -> bytes:
    os.set_blocking(stream, False)
    return os.read(stream, 100)


def ask(answer: int | None, *, yes: bool = False, stream: bool = True) -> bytes:
    """Obtain the word with an answer by signal; returns what run.sh reads."""
    reading, writing = os.pipe()
    progress = Progress(PlainTeller())

    def look() -> None:
        assert answer is not None, "nobody is asked"
        os.kill(os.getpid(), answer)

    word = Word(writing if stream else None, yes=yes)
    try:
        word.obtain(["it is large"], progress, look)
        word.obtain(["it is large"], progress, look)
        word.settle()
        os.write(writing, b"files")
        return read(reading)
    finally:
        progress.close()
        os.close(reading)
        os.close(writing)


def test_a_person_is_asked_once() -> None:
    before = signal.getsignal(YES)
    assert ask(YES) == b"ask\nfiles"
    assert signal.getsignal(YES) == before


def test_no_ends_the_run() -> None:
    with pytest.raises(InterruptedRunError, match="the answer was no") as caught:
        ask(NO)
    assert caught.value.stage == "plan"


def test_yes_on_the_command_line_is_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(None, yes=True) == b"go\nfiles"
    assert "it is large. It goes on: --yes says so." in capsys.readouterr().err


def test_without_a_terminal_it_goes_on_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(None, stream=False) == b"files"
    assert "no terminal can be asked" in capsys.readouterr().err


def test_a_run_that_fails_meanwhile_waits_for_nobody() -> None:
    reading, writing = os.pipe()
    progress = Progress(PlainTeller())

    def look() -> None:
        raise BuildError("gone")

    with pytest.raises(BuildError):
        Word(writing, yes=False).obtain(["it is large"], progress, look)
    progress.close()
    os.close(reading)
    os.close(writing)


CALLER = ROOT / "caller"

#: A docker that notes its arguments.
DOCKER = '#!/bin/sh\necho "$@" >> "$CALLS"\n'


def run_sh(tmp_path: pathlib.Path, line: str, typed: bytes, stopped: bool = False) -> list[str]:
    """Let run.sh read a stream that begins with `line`; returns its calls of Docker, and the rest.

    A person types `typed`.
    """
    calls, state = tmp_path / "calls", tmp_path / "state"
    calls.touch()
    state.mkdir()
    if stopped:
        (state / "stopped").touch()
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    program = f"""
        PATH={shlex.quote(os.fspath(tmp_path))}:$PATH CALLS={shlex.quote(os.fspath(calls))}
        export CALLS
        . {shlex.quote(os.fspath(CALLER / "variables.sh"))}
        . {shlex.quote(os.fspath(CALLER / "signals.sh"))}
        . {shlex.quote(os.fspath(CALLER / "engine.sh"))}
        . {shlex.quote(os.fspath(CALLER / "terminal.sh"))}
        state={shlex.quote(os.fspath(state))} patience=9 container=c
        answer_question
        cat
    """
    above, below = pty.openpty()
    os.write(above, typed)
    given = f"exec 3< {os.ttyname(below)}\n{program}"
    done = subprocess.run(
        ["sh", "-c", given],
        input=line.encode(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    os.close(above)
    os.close(below)
    return [*calls.read_text().splitlines(), done.stdout.decode()]


@pytest.mark.parametrize(
    ("line", "typed", "expected"),
    [
        ("go\nfiles", b"", ["files"]),
        ("ask\nfiles", b"y\n", ["kill --signal USR1 c", "files"]),
        ("ask\nfiles", b"\nmaybe\nYes\n", ["kill --signal USR1 c", "files"]),
        ("ask\nfiles", b"no\n", ["kill --signal USR2 c", "files"]),
        ("", b"", [""]),
    ],
)
def test_run_sh_passes_the_answer_on(
    line: str, typed: bytes, expected: list[str], tmp_path: pathlib.Path
) -> None:
    assert run_sh(tmp_path, line, typed) == expected


def test_run_sh_waits_for_no_answer_after_a_signal(tmp_path: pathlib.Path) -> None:
    assert run_sh(tmp_path, "ask\nfiles", b"", stopped=True) == ["files"]
