"""Tests keys that are fetched from GitHub: the agent's questions (real HTTP), and their files."""

import dataclasses
import hashlib
import http.server
import json
import pathlib
import re
import threading
import typing
from unittest import mock

import pytest

from orchestrator.agents.github_keys import ask
from orchestrator.ask import github, uploads
from orchestrator.ask.request import Build, Caller, Demo
from orchestrator.decide import blueprint_modules
from orchestrator.deliver import provenance
from orchestrator.run import github_keys
from orchestrator.shared.errors import NetworkError, UsageError
from tests.unit import asking

KEYS = "ssh-rsa one\nssh-rsa two\n"
TEXT = 'image.a.board = "pc"\n[[users]]\nname = "ada"\nkeys = ["github:ada", "github:bob"]\n'


class Handler(http.server.BaseHTTPRequestHandler):
    """Has the keys of ada; is out of order for eve."""

    def do_GET(self) -> None:
        code = {"/ada.keys": 200, "/eve.keys": 503}.get(self.path, 404)
        self.send_response(code)
        self.end_headers()
        if code == 200:
            self.wfile.write(KEYS.encode())

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> typing.Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as one:
        threading.Thread(target=one.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{one.server_port}"
        one.shutdown()


def test_a_users_keys_are_asked_for(server: str) -> None:
    assert ask(server, ["ada"]) == {"keys": {"ada": KEYS}}
    assert ask(server, ["ada", "bob"]) == {"problem": f"bob: {server} has no such user"}
    assert ask(server, ["eve"]) == {"problem": f"eve: {server} answers with status 503"}


def test_a_server_that_is_away_is_told() -> None:
    (problem,) = ask("http://127.0.0.1:1", ["ada"]).values()
    assert problem.startswith("ada: http://127.0.0.1:1 cannot be reached: ")


@pytest.fixture
def it(who: Caller, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Caller:
    monkeypatch.setattr(uploads, "WORK", tmp_path)
    monkeypatch.setattr(github_keys, "Images", mock.Mock())
    monkeypatch.setattr("orchestrator.ask.ssh_keys.is_public_key", lambda line: "ssh-" in line)
    return dataclasses.replace(who, appliance=f"{who.cwd}/appliance.toml", appliance_text=TEXT)


def fetched(it: Caller, said: dict[str, object]) -> dict[str, tuple[str, ...]]:
    request = asking.ask([], it)
    assert isinstance(request, Build)
    assert request.appliance
    engine = mock.Mock()
    engine.run_service.return_value = json.dumps(said)
    names = github.users(request)
    github_keys.fetch(engine, mock.Mock(), names, request.appliance, it, mock.Mock())
    assert engine.run_service.call_args.args[1][1:] == [github.SERVER, "ada", "bob"]
    return blueprint_modules.keys(request.appliance, it)


def test_fetched_keys_are_the_users(it: Caller) -> None:
    found = fetched(it, {"keys": {"ada": KEYS, "bob": "ssh-dss x\n"}})
    assert found == {
        "github:ada": ("ssh-rsa one", "ssh-rsa two"),
        "github:bob": ("ssh-dss x",),
    }


def test_a_user_without_keys_is_told(it: Caller) -> None:
    with pytest.raises(UsageError, match=r"appliance.toml: github:bob: the file has no public key"):
        fetched(it, {"keys": {"ada": KEYS, "bob": ""}})


def test_a_problem_is_told_with_a_way_out(it: Caller) -> None:
    with pytest.raises(NetworkError, match=r"appliance.toml: github:bob: no such user"):
        fetched(it, {"problem": "bob: no such user"})


#: A key, and its fingerprint as ssh-keygen -l shows it.
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMj1rPZb5MVRbXBWXbT8RrDvXL7XYyzYQ7gkVJm8w9aX"
FINGERPRINT = "SHA256:QCZBS+aQfx1Ez5+yHBWgWnankGjZaGkyVLN5t68O9g0"


@pytest.mark.parametrize(
    ("argv", "used"),
    [
        ([], ["ada", "bob"]),
        (["demo"], ["ada", "bob"]),
        (["demo", "--ssh-key", "id.pub"], []),
    ],
    ids=str,
)
def test_those_whose_keys_are_used_are_asked_for_and_recorded(
    argv: list[str], used: list[str], it: Caller
) -> None:
    request = asking.ask(argv, it)
    assert isinstance(request, Build | Demo)
    assert request.appliance
    if not used:
        place = uploads.received(it, it.cwd / "id.pub")
        place.parent.mkdir(parents=True)
        place.write_text(f"{KEY} me\n")
    engine = mock.Mock()
    engine.run_service.return_value = json.dumps(
        {"keys": dict.fromkeys(used, f"{KEY}\n# no key\n{KEY} again\n")}
    )
    names = github.users(request)
    github_keys.fetch(engine, mock.Mock(), names, request.appliance, it, mock.Mock())
    assert engine.run_service.called == bool(used)
    (it_self, *found) = provenance.sent(request, it, provenance.public_keys(request, it))
    assert it_self["name"] == "appliance.toml"
    assert [(one["name"], one.get("uri")) for one in found] == [
        (f"github:{name}", f"https://github.com/{name}.keys") for name in used
    ] or [("id.pub", None)]
    for one in found:
        assert set(one["annotations"]["fingerprints"]) == {FINGERPRINT}
        assert re.fullmatch("[0-9a-f]{64}", one["digest"]["sha256"])


def test_the_demos_own_keys_are_recorded_by_file(
    who: Caller, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the caller's ~/.ssh only files with keys are named."""
    monkeypatch.setattr(uploads, "WORK", tmp_path)
    folder = uploads.received(who, who.home) / ".ssh"
    folder.mkdir(parents=True)
    (folder / "id.pub").write_text(f"# mine\n{KEY} me@home\n")
    (folder / "notes.pub").write_text("nothing\n")
    request = asking.ask(["demo"], who)
    assert isinstance(request, Demo)
    assert provenance.public_keys(request, who) == [
        {
            "name": "id.pub",
            "digest": {"sha256": hashlib.sha256((folder / "id.pub").read_bytes()).hexdigest()},
            "annotations": {"fingerprints": [FINGERPRINT]},
        }
    ]
