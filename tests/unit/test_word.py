"""Tests the question whether a costly build may go on: the orchestrator's side."""

import os
import signal

import pytest

from orchestrator.run.word import NO, YES, Word
from orchestrator.shared.errors import BuildError, InterruptedRunError
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
