"""Tests locked flakes: their sources as the lock names them, and their evaluation as locked."""

import json
import pathlib
import typing

import pytest

from orchestrator.agents.builder import flakes, nixos
from orchestrator.agents.builder.flakes import Flake, lock_flake, material
from orchestrator.agents.builder.nix import Nix
from orchestrator.agents.builder.nix_settings import Settings
from orchestrator.agents.failure import AgentError
from orchestrator.shared.artifact import Material
from orchestrator.shared.task import Commit
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
    "path": "/nix/store/p-source",
    "locked": {
        "__final": True,
        "type": "github",
        "owner": "me",
        "repo": "pi",
        "rev": "b" * 40,
        "narHash": "sha256-P=",
        "lastModified": 60,
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

REMOTE = task(flake="github:me/pi", attribute="pi", configuration="")


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> pathlib.Path:
    """Make a store of source trees, each named by the letter in its hash."""
    SayingNix.asked.clear()
    monkeypatch.setattr(flakes, "store_path", lambda nar_hash: f"{tmp_path}/{nar_hash[7]}")
    return tmp_path


def test_a_flake_and_each_of_its_inputs_are_told_with_revisions() -> None:
    assert lock_flake(REMOTE, NIX, ["-I", "x=/y"]).materials == (
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


def test_it_is_evaluated_as_it_was_locked(store: pathlib.Path) -> None:
    """A branch may move meanwhile; an input in the store is not fetched again."""
    flake = lock_flake(REMOTE, NIX, [])
    given = nixos.inputs_of(REMOTE, nixos.Nixpkgs(None), flake)
    assert given["flakeGiven"] == "github:me/pi"
    own = {
        "outPath": "/nix/store/p-source",
        "narHash": "sha256-P=",
        "rev": "b" * 40,
        "shortRev": "b" * 7,
        "lastModified": 60,
        "lastModifiedDate": "19700101000100",
    }
    assert given["flake"] == {"lock": SAID["locks"], "sources": {"root": own}, "folder": ""}
    assert flake.readable == ["-I", "nixos-image-flake0=/nix/store/p-source"]
    (store / "N").mkdir()
    flake = lock_flake(REMOTE, NIX, [])
    assert flake.document["sources"]["nixpkgs"]["outPath"] == f"{store}/N"
    assert flake.readable[1::2] == [
        f"nixos-image-flake0={store}/N",
        "nixos-image-flake1=/nix/store/p-source",
    ]


def test_inputs_are_replaced_before_anybody_is_asked_for_them() -> None:
    asked = task(flake="path:/f", overrides=(("nixpkgs", "channel:x"), ("nixpkgs", "path:/n")))
    lock_flake(asked, NIX, [])
    (words,) = SayingNix.asked
    at = words.index("--override-input")
    assert words[at : at + 6] == [
        *("--override-input", "nixpkgs", "https://channels.nixos.org/x/nixexprs.tar.xz"),
        *("--override-input", "nixpkgs", "path:/n"),
    ]


@pytest.mark.parametrize("name", ["nixos", "nixpkgs/lib"])
def test_an_input_that_the_flake_does_not_have_is_not_replaced_in_silence(name: str) -> None:
    with pytest.raises(AgentError, match=f"^the flake has no input {name} that") as caught:
        lock_flake(task(flake="path:/f", overrides=((name, "path:/n"),)), NIX, [])
    assert (caught.value.kind, caught.value.hint) == ("usage", "its inputs: nixpkgs")


def test_an_input_of_an_input_is_found_where_it_follows_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = {
        "root": {"inputs": {"home": "home", "nixpkgs": "nixpkgs", "again": ["home"]}},
        "home": {"inputs": {"nixpkgs": ["nixpkgs"]}, "locked": NIXPKGS},
        "nixpkgs": {"locked": NIXPKGS},
    }
    said = SAID | {"locks": {"nodes": nodes, "root": "root"}}
    monkeypatch.setattr(SayingNix, "said", json.dumps(said))
    lock_flake(task(flake="path:/f", overrides=(("again/nixpkgs", "path:/n"),)), NIX, [])


@pytest.mark.parametrize(
    ("commit", "facts"),
    [
        (None, {}),
        (
            Commit("c" * 40, 61, 5, clean=True),
            {"rev": "c" * 40, "shortRev": "c" * 7, "revCount": 5},
        ),
        (
            Commit("c" * 40, 61, 0, clean=True, submodules=True),
            {"rev": "c" * 40, "shortRev": "c" * 7},
        ),
        (
            Commit("c" * 40, 61, 5, clean=False),
            {"dirtyRev": f"{'c' * 40}-dirty", "dirtyShortRev": f"{'c' * 7}-dirty"},
        ),
    ],
)
def test_a_sent_folder_is_what_it_is_to_git(
    commit: Commit | None, facts: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = {"type": "path", "path": "/f", "narHash": "sha256-P=", "lastModified": 60}
    monkeypatch.setattr(SayingNix, "said", json.dumps(SAID | {"locked": sent}))
    own = lock_flake(task(flake="path:/f", commit=commit), NIX, []).document["sources"]["root"]
    seconds = 61 if commit else 60
    (itself, _input) = lock_flake(task(flake="path:/f", commit=commit), NIX, []).materials
    assert ("gitCommit" in itself.digest) is ("rev" in facts), "only of exactly its files"
    known: dict[str, object] = {
        "outPath": "/nix/store/p-source",
        "narHash": "sha256-P=",
        "lastModified": seconds,
    }
    known |= {"submodules": commit.submodules} if commit else {}
    copy = lock_flake(task(flake="path:/f"), NIX, []).copy
    assert copy == ("/nix/store/p-source", "/f"), "errors name the sent folder"
    assert own == known | facts | {"lastModifiedDate": f"1970010100010{seconds - 60}"}


@pytest.mark.parametrize("seconds", [10**12, 10**17, 1 << 63, -(10**17)])
def test_a_commit_of_no_year_is_told(seconds: int) -> None:
    with pytest.raises(AgentError, match="is from no year between 1 and 9999") as caught:
        lock_flake(task(flake="path:/f", commit=Commit("c" * 40, seconds, 5, clean=True)), NIX, [])
    assert caught.value.kind == "usage"


def _locked_to(reference: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Flake:
    """Lock a sent flake that has an input `reference`, whose content Nix has copied."""
    said = json.loads(json.dumps(SAID))
    said["locks"]["nodes"]["x"] = {"locked": reference | {"narHash": "sha256-X="}}
    monkeypatch.setattr(SayingNix, "said", json.dumps(said))
    return lock_flake(task(flake="path:/f", sources="/var/nixos-image/1/input"), NIX, [])


@pytest.mark.parametrize(
    "reference",
    [
        {"type": "path", "path": "/var/nixos-image/1/task.json"},
        {"type": "path", "path": "/var/nixos-image/1/input/../task.json"},
        {"type": "path", "path": "/nix/store/other-source"},
        {"type": "path", "path": "/var/nixos-image/1/inputs"},
        {"type": "file", "url": "file:///etc/passwd"},
        {"type": "tarball", "url": "file:///nix/var/nix/db/db.sqlite"},
        {"type": "git", "url": "file:///var/nixos-image/%31"},
        {"type": "git", "url": "git+file:///var/nixos-image/1"},
        {"type": "git", "url": "file:/var/nixos-image/1"},
        {"type": "git", "url": "file:../../var/nixos-image/1"},
        {"type": "git", "url": "file:var/nixos-image/1/input"},
    ],
)
def test_an_input_is_no_way_to_files_that_were_not_sent(
    reference: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nix copies such an input without asking `restrict-eval`."""
    with pytest.raises(AgentError, match=r"the flake's input x is [./v].*, which was not sent"):
        _locked_to(reference, monkeypatch)


@pytest.mark.parametrize(
    "reference",
    [
        {"type": "path", "path": "/var/nixos-image/1/input/home/me/lib"},
        {"type": "path", "path": "./sub"},
        {"type": "git", "url": "https://example.org/file:///x.git", "rev": "c" * 40},
    ],
)
def test_an_input_that_was_sent_or_is_remote_is_taken(
    reference: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "x" in _locked_to(reference, monkeypatch).document["lock"]["nodes"]


def test_without_a_flake_nobody_is_asked() -> None:
    assert lock_flake(task(), NIX, []) == Flake()
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
        lock_flake(REMOTE, NIX, [])
