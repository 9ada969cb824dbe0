"""Tests locked flakes: their sources as the lock names them, and their evaluation as locked."""

import json
import pathlib
import typing

import pytest

from orchestrator.agents.builder import nixos
from orchestrator.agents.builder.flakes import lock_flake, material
from orchestrator.agents.builder.nix import Nix, Settings
from orchestrator.agents.failure import AgentError
from orchestrator.shared.artifact import Material
from tests.unit.test_nixos import task

NIXPKGS = {
    "type": "github",
    "owner": "NixOS",
    "repo": "nixpkgs",
    "rev": "a" * 40,
    "narHash": "sha256-N=",
    "lastModified": 1,
}

SAID = {
    "url": f"github:me/pi/{'b' * 40}?narHash=sha256-P%3D",
    "locked": {
        "type": "github",
        "owner": "me",
        "repo": "pi",
        "rev": "b" * 40,
        "narHash": "sha256-P=",
    },
    "locks": {
        "nodes": {
            "root": {"inputs": {"nixpkgs": "nixpkgs"}},
            "nixpkgs": {"locked": NIXPKGS, "original": {"type": "indirect", "id": "nixpkgs"}},
        },
        "root": "root",
        "version": 7,
    },
}


class SayingNix(Nix):
    """Nix that answers `SAID` and records what it is asked."""

    asked: typing.ClassVar[list[list[str]]] = []
    said: typing.ClassVar[str] = json.dumps(SAID)

    def run(self, arguments: list[str]) -> str:
        self.asked.append(arguments)
        return self.said


NIX = SayingNix(Settings(), pathlib.Path("/nowhere/log"))


def test_a_flake_and_each_of_its_inputs_are_told_with_revisions() -> None:
    SayingNix.asked.clear()
    found = lock_flake("github:me/pi", NIX, ["-I", "x=/y"])
    assert found.reference == SAID["url"]
    assert found.materials == (
        Material(
            "flake",
            "b" * 40,
            f"github:me/pi/{'b' * 40}",
            {"narHash": "sha256-P=", "gitCommit": "b" * 40},
        ),
        Material(
            "flake input nixpkgs",
            "a" * 40,
            f"github:NixOS/nixpkgs/{'a' * 40}",
            {"narHash": "sha256-N=", "gitCommit": "a" * 40},
        ),
    )
    (asked,) = SayingNix.asked
    assert asked[-1] == "github:me/pi"
    assert "--no-write-lock-file" in asked, "what was sent stays as it is"


def test_it_is_evaluated_as_it_was_locked() -> None:
    """A branch may move meanwhile; inputs without a lock are not looked up again."""
    flake = lock_flake("github:me/pi", NIX, [])
    asked = task(flake="github:me/pi", attribute="pi", configuration="")
    given = nixos.inputs_of(asked, nixos.Nixpkgs(None), flake)
    assert (given["flake"], given["flakeGiven"]) == (SAID["url"], "github:me/pi")
    assert "tarball-ttl" in nixos.nix_arguments(asked, nixos.Nixpkgs(None))


def test_without_a_flake_nobody_is_asked() -> None:
    SayingNix.asked.clear()
    assert lock_flake("", NIX, []).materials == ()
    assert SayingNix.asked == []


@pytest.mark.parametrize(
    ("locked", "uri", "digest"),
    [
        (
            {"type": "git", "url": "https://me:hunter2@example.org/x.git", "rev": "c" * 40},
            "git+https://example.org/x.git",
            {"gitCommit": "c" * 40},
        ),
        (
            {"type": "tarball", "url": "https://example.org/x.tar.gz", "narHash": "sha256-T="},
            "tarball+https://example.org/x.tar.gz",
            {"narHash": "sha256-T="},
        ),
        (
            {"type": "path", "path": "/var/nixos-image/1/input/home/me/pi", "narHash": "sha256-D="},
            "path:pi",
            {"narHash": "sha256-D="},
        ),
        (
            {"type": "gitlab", "owner": "o", "repo": "r", "rev": "d" * 40, "dir": "sub"},
            f"gitlab:o/r/{'d' * 40}?dir=sub",
            {"gitCommit": "d" * 40},
        ),
    ],
)
def test_an_input_is_told_without_secrets_and_homes(
    locked: dict[str, str], uri: str, digest: dict[str, str]
) -> None:
    found = material("x", locked)
    assert (found.uri, found.digest) == (uri, digest)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"locked": {"type": "github"}, "locks": {}}'])
def test_an_answer_that_is_none_ends_the_run(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SayingNix, "said", text)
    with pytest.raises(AgentError, match=r"Nix. output is invalid"):
        lock_flake("x", NIX, [])
