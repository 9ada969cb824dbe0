"""Tests `--debug-shell`: what is noted of a failed derivation, and the shell's start file."""

import json
import os
import pathlib
import subprocess

import pytest

from orchestrator.agents.builder import debug
from orchestrator.agents.builder.debug import Failed, kept_folder, known_of, read_failed, start_file
from orchestrator.agents.builder.nix_settings import Settings
from orchestrator.agents.failure import AgentError
from orchestrator.docker.engine import Engine
from orchestrator.docker.workspace import KEPT, ROOTS_OWN, Workspace, open_to_agents, take
from orchestrator.run import debug_shell
from orchestrator.shared import command
from orchestrator.shared.task import FAILED, DemoTask, Task
from tests.unit.asking import ask, demo, orders
from tests.unit.requests import CALLER, DEMO

SHOWN: dict[str, dict[str, object]] = {
    "env": {"name": "x", "src": "/nix/store/a b", "n": 1},
    "outputs": {"out": {}, "dev": {}},
}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            {"/nix/store/x.drv": SHOWN},
            ({"name": "x", "src": "/nix/store/a b", "n": "1"}, ["out", "dev"]),
        ),
        (
            {"version": 4, "derivations": {"x.drv": SHOWN}},
            ({"name": "x", "src": "/nix/store/a b", "n": "1"}, ["out", "dev"]),
        ),
        ({}, ({}, [])),
        ({"a": {}, "b": {}}, ({}, [])),
        ([], ({}, [])),
        ({"a": {"env": 1, "outputs": {}}}, ({}, [])),
    ],
)
def test_what_nix_tells_of_a_derivation_is_read_in_each_form(
    said: object, expected: tuple[dict[str, str], list[str]]
) -> None:
    assert known_of(json.dumps(said)) == expected
    assert known_of("nonsense") == ({}, [])


def test_what_was_noted_is_read_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "mkdir $out\n\tcp $src $out\n"
    shown = {**SHOWN, "env": {**SHOWN["env"], "buildCommand": script}}
    said = command.Done("nix", 0, json.dumps({"x": shown}).encode(), b"", 0.1)
    monkeypatch.setattr(command, "run", lambda *_, **__: said)
    debug.note(tmp_path / FAILED, "/nix/store/0-x.drv")
    found = read_failed(tmp_path)
    assert found.path == "/nix/store/0-x.drv"
    assert found.outputs == ("out", "dev")
    assert found.variables["src"] == "/nix/store/a b"
    assert found.variables["buildCommand"] == script


@pytest.mark.parametrize("text", [None, "", "[]", '{"path": 1, "variables": {}, "outputs": []}'])
def test_a_note_that_is_none_is_an_error(text: str | None, tmp_path: pathlib.Path) -> None:
    if text is not None:
        (tmp_path / FAILED).write_text(text)
    with pytest.raises(AgentError, match="the failed derivation, for a shell in it, was not noted"):
        read_failed(tmp_path)


def test_the_last_folder_that_nix_has_kept_counts(tmp_path: pathlib.Path) -> None:
    with pytest.raises(AgentError):
        kept_folder(tmp_path)
    for number, name in enumerate(("nix-1-1", "nix-2-2")):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (number, number))
    assert kept_folder(tmp_path) == tmp_path / "nix-2-2"
    (tmp_path / "nix-2-2/build").mkdir()
    os.utime(tmp_path / "nix-2-2", (9, 9))
    assert kept_folder(tmp_path) == tmp_path / "nix-2-2/build"


def test_the_shell_has_the_builds_variables_functions_and_folder(tmp_path: pathlib.Path) -> None:
    """The start file is run by a shell; the sandbox's folders become those that were kept."""
    stdenv, folder = tmp_path / "stdenv", tmp_path / "a b/build"
    stdenv.mkdir()
    folder.mkdir(parents=True)
    (stdenv / "setup").write_text("set -eu; trap 'exit 9' EXIT; genericBuild() { echo builds; }\n")
    (folder / "env-vars").write_text("declare -x PHASE=build TMPDIR=/build\n")
    variables = {"stdenv": str(stdenv), "src": "it's $HOME", "TMPDIR": "/build", "no-name": "x"}
    text = start_file(Failed("/nix/store/0-hello.drv", variables, ("out", "dev")), folder)
    names = ("$PWD", "$TMPDIR", "$src", "$PHASE", "$dev", "$(genericBuild)")
    asked = "".join(f'echo "{name}"\n' for name in names) + "false\nexit 5"
    done = subprocess.run(
        ["bash", "--noprofile", "-c", f"{text}{asked}"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    outputs = folder.parent / "outputs"
    assert done.stderr == ""
    assert done.returncode == 5
    assert "failed derivation hello" in lines[0]
    assert lines[2:] == [
        str(folder),
        str(folder),
        "it's $HOME",
        "build",
        f"{outputs}/dev",
        "builds",
    ]
    assert outputs.is_dir()


def test_nix_keeps_a_failed_build_only_if_asked() -> None:
    assert "keep-failed = true" in Settings(keep_failed=True).lines()
    assert "keep-failed" not in Settings().text()


def test_the_option_becomes_an_order_and_a_dry_run_needs_none() -> None:
    assert ask(["demo", "--debug-shell"]) == demo(debug_shell=True)
    assert ["debug_shell"] in orders("demo", demo(debug_shell=True))
    assert ["debug_shell"] not in orders("demo", demo(debug_shell=True, dry_run=True))
    assert ["debug_shell"] not in orders("demo", DEMO)


def test_a_runs_folder_is_kept_only_if_a_derivation_was_noted(tmp_path: pathlib.Path) -> None:
    workspace = Workspace(tmp_path / "shared", tmp_path / "own")
    (workspace.shared / ROOTS_OWN).mkdir(parents=True)
    workspace.own.mkdir()
    workspace.variables.write_text("A='b'\n")
    debug_shell.keep(workspace)
    assert not (workspace.shared / ROOTS_OWN / KEPT).exists()
    (workspace.shared / FAILED).symlink_to("/etc/passwd")
    debug_shell.keep(workspace)
    assert not (workspace.shared / ROOTS_OWN / KEPT).exists(), (
        "a link is none of the builder's notes"
    )
    (workspace.shared / FAILED).unlink()
    (workspace.shared / FAILED).write_text("{}")
    debug_shell.keep(workspace)
    assert (workspace.shared / ROOTS_OWN / KEPT).read_text() == "A='b'\n"


def test_an_image_of_that_name_is_no_file_of_variables(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recipe gives its files any name; Compose's variables say what containers may do."""
    monkeypatch.setattr(debug_shell, "WORK", tmp_path)
    monkeypatch.setattr(os, "chown", lambda *_arguments, **_options: None)
    folder = tmp_path / CALLER.run
    (folder / "image").mkdir(parents=True)
    open_to_agents(folder)
    (folder / "image" / KEPT).write_text("NIXOS_IMAGE_ID_BUILDER='hostile'\n")
    take(folder, f"image/{KEPT}", KEPT)
    assert debug_shell.open_shell(CALLER) == 0
    assert "no derivation has failed" in capsys.readouterr().err


@pytest.mark.parametrize("private", [(), ("aarch64-linux",)])
def test_the_shell_gets_the_emulators_that_the_build_had(
    private: tuple[str, ...],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    did: list[str] = []
    monkeypatch.setattr(debug_shell, "WORK", tmp_path)
    monkeypatch.setattr(Engine, "run_to_end", lambda _self, name: did.append(name))
    monkeypatch.setattr(Engine, "run_on_terminal", lambda _self, name, *_: did.append(name))
    monkeypatch.setattr(Engine, "down", lambda _self: did.append("down"))
    assert debug_shell.open_shell(CALLER) == 0
    assert "no derivation has failed" in capsys.readouterr().err
    assert did == []
    folder = tmp_path / CALLER.run
    (folder / ROOTS_OWN).mkdir(parents=True)
    (folder / ROOTS_OWN / KEPT).write_text("")
    Task(DemoTask("aarch64-linux"), leased=False, foreign=private, private=private).write(folder)
    assert debug_shell.open_shell(CALLER) == 0
    assert did == [*(["emulators"] if private else []), "debug", "down"]
