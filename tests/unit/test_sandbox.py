"""Tests the sandbox probe: its script, and the evaluation of its output."""

import dataclasses
import os
import pathlib
import subprocess

import pytest

from orchestrator.agents.builder import sandbox
from orchestrator.agents.builder.nix import Settings
from orchestrator.agents.failure import AgentError

ALONE = sandbox.View("1000", ("root", "nixbld", "nobody"), ("lo",), "read-only")


def ask(script: str, **variables: str) -> sandbox.View:
    """Run the probe's script in this environment; return its output."""
    command = ["sh", "-c", script]
    environment = {**os.environ, **variables}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1  # it fails, so that Nix keeps no output
    lines = [f"{sandbox.NAME}> {line}" for line in done.stdout.splitlines()]
    view, cause = sandbox.parse("\n".join(lines))
    assert view
    assert not cause
    return view


def test_the_script_tells_what_it_sees() -> None:
    view = ask(sandbox.SCRIPT)
    status = pathlib.Path("/proc/self/status").read_text()
    assert f"Uid:\t{view.user}\t" in status
    users = pathlib.Path("/etc/passwd").read_text().splitlines()
    assert list(view.names) == [line.partition(":")[0] for line in users]
    assert "lo" in view.interfaces
    assert view.inputs == "untried"


@pytest.mark.parametrize(
    ("tool", "text", "seen"),
    [
        ('#!/bin/sh\nexec "$@"\n', "input\n", "writable"),
        ("#!/bin/sh\nexit 1\n", "input\n", "read-only"),
        ('#!/bin/sh\nexec "$@"\n', "another\n", "untried"),
    ],
)
def test_whether_an_input_can_be_changed_is_tried(
    tool: str, text: str, seen: str, tmp_path: pathlib.Path
) -> None:
    busybox, given = tmp_path / "busybox", tmp_path / "input"
    busybox.write_text(tool)
    busybox.chmod(0o755)
    given.write_text(text)
    given.chmod(0o444)
    script = sandbox.SCRIPT.replace(sandbox.BUSYBOX, str(busybox))
    if seen == "read-only":  # root can write to any file, but not to a folder
        script = script.replace(f'echo {sandbox.INPUT} > "$input"', f"echo > {tmp_path}")
    assert ask(script, input=str(given)).inputs == seen
    assert given.read_text() == text
    assert given.stat().st_mode & 0o777 == 0o444


def test_what_a_sandbox_should_have_kept_away_is_named() -> None:
    assert ALONE.leaks("builder") == []
    names = ALONE.names
    assert sandbox.View("0", names, ("lo",), "read-only").leaks("builder") == ["it runs as root"]
    seen = sandbox.View("1000", ("root", "builder"), ("lo", "eth0"), "read-only").leaks("builder")
    assert seen == ["it sees the container's users", "it sees a network"]
    assert sandbox.View("1000", names, (), "read-only").leaks("builder") == ["it sees a network"]
    for inputs in ("writable", "untried", ""):
        view = dataclasses.replace(ALONE, inputs=inputs)
        assert view.leaks("builder") == ["it can change its inputs"]


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("error: this system does not support the kernel namespaces", "this system does not"),
        ("building\n       error: cannot pivot old root: Operation not permitted", "cannot pivot"),
        ("", "Nix printed no cause"),
    ],
)
def test_where_there_is_no_sandbox_the_cause_is_nix_last_word(said: str, cause: str) -> None:
    view, found = sandbox.parse(said)
    assert view is None
    assert found.startswith(cause)


@pytest.mark.parametrize(
    ("view", "cause"),
    [
        (None, "it is forbidden"),
        (
            dataclasses.replace(ALONE, names=("builder",)),
            "not alone: it sees the container's users",
        ),
        (dataclasses.replace(ALONE, inputs="writable"), "not alone: it can change its inputs"),
    ],
)
def test_strict_fails_and_otherwise_it_is_told(
    view: sandbox.View | None,
    cause: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sandbox, "look", lambda _: (view, "" if view else cause))
    with pytest.raises(AgentError, match=cause) as caught:
        sandbox.obtain(Settings(), "builder", strict=True)
    assert caught.value.kind == "host"
    found = sandbox.obtain(Settings(), "builder", strict=False)
    assert found.text() == Settings().text()
    assert "sandbox = false\n" in found.text()
    assert cause in capsys.readouterr().out


def test_where_it_works_nix_is_told_to_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "look", lambda _: (ALONE, ""))
    found = sandbox.obtain(Settings(sandbox_paths=("/x",)), "builder", strict=True)
    text = found.text()
    assert "sandbox = true\n" in text
    assert "sandbox-fallback = false\n" in text
    assert "extra-sandbox-paths = /x\n" in text
