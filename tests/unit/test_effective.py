"""Tests the report of Nix' effective settings: as Nix says them, without secrets."""

import json
import pathlib

import pytest

from orchestrator.agents import events
from orchestrator.agents.builder import effective
from orchestrator.agents.builder.nix import Nix
from orchestrator.agents.builder.nix_settings import Settings
from orchestrator.agents.failure import AgentError
from orchestrator.shared import command

NIX = Nix(Settings(), pathlib.Path("/nowhere/log"))


def setting(value: object, default: object = None) -> dict[str, object]:
    return {"value": value, "defaultValue": default, "description": "", "aliases": []}


SAID = {
    "sandbox": setting(True, True),
    "sandbox-fallback": setting(False, True),
    "substituters": setting(["https://me:hunter2@cache.example.org", "https://b"], []),
    "cores": setting(4, 0),
    "builders": setting("@/etc/nix/machines", "@/etc/nix/machines"),
    "access-tokens": setting({"github.com": "hunter2"}, {}),
    "netrc-file": setting("/x", "/x"),
    "impure-env": setting({"TOKEN": "hunter2"}, {}),
}


def answers(monkeypatch: pytest.MonkeyPatch, text: str, code: int = 0) -> None:
    done = command.Done("nix", code, text.encode(), b"error: because\n", 0)
    monkeypatch.setattr(Nix, "ask", lambda *_: done)


def test_settings_are_told_as_nix_says_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(monkeypatch, json.dumps(SAID))
    monkeypatch.setenv("NIXOS_IMAGE_LOG", "json")
    events.configure("builder")
    effective.tell(NIX)
    said = capsys.readouterr().out
    event = json.loads(said)
    assert event["settings"] == {
        "builders": "@/etc/nix/machines",
        "cores": "4",
        "sandbox": "true",
        "sandbox-fallback": "false",
        "substituters": "https://cache.example.org https://b",
    }
    assert event["others"] == ["access-tokens", "impure-env"]
    assert "hunter2" not in said


def test_all_that_a_run_sets_is_told() -> None:
    lines = Settings(("armv7l-linux",), ("y",), ("z",), sandbox=True, restricted=True).lines()
    assert {line.partition(" = ")[0] for line in lines} <= effective.TOLD


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"sandbox": setting(False, True)}, "sandbox = false"),
        ({"sandbox": setting("relaxed", True)}, "sandbox = relaxed"),
        ({"sandbox-fallback": setting(True, True)}, "sandbox-fallback = true"),
        ({"builders": setting("ssh://x", "@/etc/nix/machines")}, "builders = ssh://x"),
        ({"build-hook": setting(["nix", "__build-remote"])}, ""),
        ({"build-hook": setting(["/opt/nix/bin/nix", "__build-remote"], ["nix"])}, ""),
        ({"build-hook": setting([], ["nix", "__build-remote"])}, ""),
        ({"build-hook": setting(["/bin/sh", "x"], ["nix"])}, "build-hook = /bin/sh x"),
        ({"pre-build-hook": setting("/x", "")}, "pre-build-hook"),
        ({"post-build-hook": setting("/x", "")}, "post-build-hook"),
        ({"diff-hook": setting("/x")}, "diff-hook"),
        ({"plugin-files": setting(["/x"], [])}, "plugin-files"),
        (
            {"external-builders": setting([{"systems": ["x"], "program": "/x"}], [])},
            "external-builders",
        ),
        (
            {"allow-unsafe-native-code-during-evaluation": setting(True, False)},
            "allow-unsafe-native-code-during-evaluation",
        ),
        ({"store": setting("ssh-ng://x", "auto")}, "store"),
        ({"accept-flake-config": setting(True, False)}, "accept-flake-config"),
        (
            {"substituters": setting(["https://a", "ssh-ng://localhost?remote-program=/x"])},
            "substituters = ssh-ng://localhost?remote-program=/x",
        ),
        ({"substituters": setting(["ssh://other/x?remote-program=/x", "s3://b"])}, ""),
        (
            {"experimental-features": setting(["flakes", "impure-derivations"], [])},
            "experimental-features = impure-derivations",
        ),
        ({"experimental-features": setting(["flakes", "nix-command"], [])}, ""),
    ],
)
def test_what_weakens_the_sandbox_is_named(
    changes: dict[str, object], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, json.dumps(SAID | changes))
    said = effective.ask(NIX).weakens()
    assert said == (words and f"--option or --nix-conf says {words}")


@pytest.mark.parametrize("text", ["", "[]", "null", '{"sandbox": true}', '{"sandbox": {}}'])
def test_what_is_no_answer_ends_the_run(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, text)
    with pytest.raises(AgentError, match=r"Nix. output is invalid"):
        effective.ask(NIX)


def test_nix_own_error_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, "", 1)
    with pytest.raises(AgentError, match=r"Nix' settings cannot be read: .*because"):
        effective.ask(NIX)
