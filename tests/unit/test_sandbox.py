"""Tests the sandbox probe: its script, and the evaluation of its output."""

import dataclasses
import json
import os
import pathlib
import subprocess
from unittest import mock

import pytest

from orchestrator.agents import events
from orchestrator.agents.builder import effective, sandbox
from orchestrator.agents.builder.nix import DESCRIPTOR, Nix
from orchestrator.agents.builder.nix_settings import Settings
from orchestrator.agents.failure import AgentError

NIX = Nix(Settings(), pathlib.Path("/nowhere/log"))

SOUND = {"sandbox": "true", "sandbox-fallback": "false", "builders": "@/etc/nix/machines"}


@pytest.fixture(autouse=True)
def _as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIXOS_IMAGE_LOG", "json")
    events.configure("builder")


def says(monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    """Make Nix report `settings` in place of the same ones of a sound sandbox."""
    found = effective.Effective(SOUND | settings, (), frozenset(settings))
    monkeypatch.setattr(effective, "ask", lambda _: found)


ALONE = sandbox.View("1000", ("root", "nixbld", "nobody"), ("lo",), "read-only")


def ask(script: str, **variables: str) -> sandbox.View:
    """Run the probe's script in this environment; return its output."""
    command = ["sh", "-c", script]
    environment = {**os.environ, **variables}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1  # the script fails, so that Nix keeps no output
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
    says(monkeypatch)
    monkeypatch.setattr(sandbox, "look", lambda _: (view, "" if view else cause))
    with pytest.raises(AgentError, match=cause) as caught:
        sandbox.obtain(NIX, "builder", strict=True)
    assert caught.value.kind == "host"
    found = sandbox.obtain(NIX, "builder", strict=False)
    assert found == NIX
    assert "sandbox = false\n" in found.settings.text()
    assert cause in capsys.readouterr().out


def test_where_it_works_nix_is_told_to_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch)
    monkeypatch.setattr(sandbox, "look", lambda _: (ALONE, ""))
    nix = dataclasses.replace(NIX, settings=Settings(sandbox_paths=("/x",)))
    found = sandbox.obtain(nix, "builder", strict=True)
    assert found.isolated
    text = found.settings.text()
    assert "sandbox = true\n" in text
    assert "sandbox-fallback = false\n" in text
    assert "extra-sandbox-paths = /x\n" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [("sandbox", "false"), ("sandbox", "relaxed"), ("sandbox-fallback", "true"), ("builders", "x")],
)
def test_what_the_caller_sets_against_it_is_refused_or_told(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both hold even if the probe is isolated: another build need not be.

    What is refused is not probed: the setting may be a program that Nix runs for each build.
    """
    says(monkeypatch, **{name: value})
    look = mock.Mock(return_value=(ALONE, ""))
    monkeypatch.setattr(sandbox, "look", look)
    words = f"--option or --nix-conf says {name} = {value}"
    with pytest.raises(AgentError, match=words) as caught:
        sandbox.obtain(NIX, "builder", strict=True)
    assert (caught.value.kind, look.call_count) == ("host", 0)
    assert not sandbox.obtain(NIX, "builder", strict=False).isolated
    (event,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (event["event"], event["level"], event["sandbox"]) == ("sandbox", "warning", False)
    assert words in event["message"]


def test_the_probe_has_the_settings_that_builds_have(tmp_path: pathlib.Path) -> None:
    """The probe has the settings of --option and of --nix-conf, too."""
    spy = tmp_path / "nix"
    spy.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" "$NIX_CONFIG" > {tmp_path}/said\n'
        f"cat /proc/self/fd/{DESCRIPTOR} >> {tmp_path}/said\n"
    )
    spy.chmod(0o755)
    nix = dataclasses.replace(NIX, secret="x = secret\n", options=("--option", "sandbox", "false"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.agents.builder.nix_settings.preloaded", lambda _: "")
        patch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        sandbox.look(nix)
    said = (tmp_path / "said").read_text().splitlines()
    # --option extra-sandbox-paths may show /usr, in which no further file can be made.
    assert "extra-sandbox-paths = /nixos-image-probe/busybox=/usr/bin/busybox" in said
    assert said[said.index("--option") :][:3] == ["--option", "sandbox", "false"]
    assert f"include /proc/self/fd/{DESCRIPTOR}" in said
    assert said[-1] == "x = secret"
