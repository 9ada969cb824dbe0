"""Tests the question whether a costly build may go on: run.sh's side (caller/terminal.sh)."""

import os
import pathlib
import pty
import shlex
import subprocess

import pytest

from orchestrator.shared.paths import ROOT

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
