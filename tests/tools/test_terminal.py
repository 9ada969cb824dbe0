"""Tests what run.sh knows of its terminal and tells the orchestrator (caller/terminal.sh)."""

import fcntl
import os
import pathlib
import pty
import shlex
import struct
import subprocess
import termios

import pytest

from orchestrator.shared.live import SIZE
from orchestrator.shared.paths import ROOT

CALLER = ROOT / "caller"

#: A docker that notes its arguments, and an stty that knows the terminal's size.
PROGRAMS = {
    "docker": '#!/bin/sh\nprintf "%s\\n" "$*" >> "$CALLS"\n',
    "stty": '#!/bin/sh\n[ "$*" != size ] || echo "$SIZE"\n',
}


def run_sh(
    tmp_path: pathlib.Path, program: str, tty: bool = True, **variables: str
) -> tuple[str, list[str]]:
    """Run `program` with the functions of run.sh; returns its output and the calls of docker."""
    calls, state = tmp_path / "calls", tmp_path / "state"
    calls.touch()
    state.mkdir()
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    above, below = pty.openpty()
    fcntl.ioctl(below, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    place = os.ttyname(below) if tty else "/dev/null"
    sources = "".join(
        f". {shlex.quote(os.fspath(CALLER / f'{name}.sh'))}\n"
        for name in ("variables", "signals", "engine", "terminal")
    )
    done = subprocess.run(
        ["sh", "-uc", f"exec 2> {place} 3< {place}\n{sources}{program}"],
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "CALLS": os.fspath(calls),
            "SIZE": "24 80",
            "STATE": os.fspath(state),
            **variables,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
        text=True,
    )
    os.close(above)
    os.close(below)
    return done.stdout, calls.read_text().splitlines()


FIND = 'find_terminal; echo "$columns $rows ${asks:-0} ${ci:-none}"'


@pytest.mark.parametrize(
    ("tty", "variables", "expected"),
    [
        (True, {"TERM": "xterm"}, "80 24 1 none"),
        (True, {"TERM": "dumb"}, "0 0 1 none"),
        (True, {}, "0 0 1 none"),
        (True, {"TERM": "xterm", "SIZE": "0 0"}, "0 0 1 none"),
        (True, {"TERM": "xterm", "SIZE": ""}, "80 24 1 none"),
        (False, {"TERM": "xterm"}, "0 0 0 none"),
        (False, {"GITHUB_ACTIONS": "true"}, "0 0 0 github"),
        (False, {"GITLAB_CI": "true"}, "0 0 0 gitlab"),
        (False, {"GITHUB_ACTIONS": "false"}, "0 0 0 none"),
    ],
)
def test_the_terminal_is_known(
    tty: bool, variables: dict[str, str], expected: str, tmp_path: pathlib.Path
) -> None:
    said, _calls = run_sh(tmp_path, FIND, tty, **variables)
    assert said.strip() == expected


#: Sets the trap of signals.sh off twice, which two changes of the size within a second do.
RESIZE = """
    state=$STATE patience=9 container=$CONTAINER columns=80
    kill -WINCH $$; kill -WINCH $$
    wait
"""


def test_a_change_of_the_size_is_told_once_a_second(tmp_path: pathlib.Path) -> None:
    _said, calls = run_sh(tmp_path, RESIZE, CONTAINER="c", SIZE="30 50")
    assert calls == [f'exec c sh -c echo "$0 $1" > {SIZE} 30 50']


def test_a_change_of_the_size_before_the_run_is_nobodys_business(tmp_path: pathlib.Path) -> None:
    assert run_sh(tmp_path, RESIZE, CONTAINER="") == ("", [])
