"""Tests the lines that an error ends a run with."""

import errno
import os
import shlex

import pytest

from orchestrator.__main__ import main, tell
from orchestrator.shared.codes import CODES
from orchestrator.shared.errors import (
    ApplianceError,
    BugError,
    BuildError,
    HostError,
    InterruptedRunError,
    UsageError,
)


def told(error: ApplianceError, capsys: pytest.CaptureFixture[str], command: str = "") -> list[str]:
    tell(error, command)
    return capsys.readouterr().err.splitlines()


def test_all_that_is_known_is_told_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    error = BuildError(
        "/pi.nix:4: there is no option x",
        hint="did you mean y?",
        detail="the end of a log",
        code="option-missing",
        excerpt="  4 | x = 1;",
        trace="while evaluating",
    )
    error.stage, error.log = "build", "/out/build.log"
    assert told(error, capsys, "./run.sh -c 'a b.nix'") == [
        "the end of a log",
        "error: /pi.nix:4: there is no option x",
        "  4 | x = 1;",
        "while evaluating",
        "try: did you mean y?",
        "see: docs/errors.md#option-missing",
        "stage: build",
        "again: ./run.sh -c 'a b.nix'",
        "log: /out/build.log",
    ]


def test_what_is_not_known_has_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    remedy = f"try: {CODES['build'].remedy}"
    assert told(BuildError("no"), capsys, "x") == ["error: no", remedy, "see: docs/errors.md#build"]
    assert told(UsageError("no", hint="x"), capsys)[1:] == ["try: x", "see: docs/errors.md#usage"]


def test_who_pressed_ctrl_c_needs_no_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(InterruptedRunError("interrupted"), capsys) == ["error: interrupted"]


def test_no_part_of_an_error_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    error = BuildError("a\x1b[2J", hint="b\x1b]0;x\x07", excerpt="c\x9b1m", trace="d\x1b[m")
    error.stage, error.log = "e\x1b[m", "f\x1b[m"
    lines = told(error, capsys, "g\x1b[m")
    assert not any("\x1b" in line or "\x9b" in line for line in lines)
    assert [line[-1] for line in lines] == ["a", "c", "d", "b", "d", "e", "g", "f"]


def ends(error: Exception, words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Have the command line `words` end with `error`; return the exit code."""

    def fail(_argv: list[str]) -> None:
        raise error

    monkeypatch.setattr("orchestrator.verbs.registry.find", fail)
    monkeypatch.setattr("sys.argv", ["orchestrator", *words])
    monkeypatch.setattr("os.dup2", lambda *_: None)
    monkeypatch.setenv("NIXOS_IMAGE_CWD", "/home/me")
    monkeypatch.setenv("NIXOS_IMAGE_ROOT", "/home/me/appliance")
    monkeypatch.setattr("signal.signal", lambda *_: None)
    return main()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_is_no_bug(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full = number != errno.EIO
    error = OSError(number, os.strerror(number), "/var/nixos-image/x")
    expected = HostError if full else BugError
    assert ends(error, ["demo"], monkeypatch) == expected.exit_code
    said = capsys.readouterr().err
    assert ("docs/errors.md#disk-full" in said) is full
    assert ("Traceback" in said) is not full


def test_the_command_is_repeated_as_it_was_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A word that a shell would take apart is quoted; the path is that of run.sh."""
    words = ["doctor", "--bundle", "it's a file", "--emulation", "native", "$HOME"]

    error = BuildError("no")
    error.stage = "build"
    assert ends(error, words, monkeypatch) == BuildError.exit_code
    (again,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("again: "))
    assert shlex.split(again)[1:] == ["appliance/run.sh", *words]
