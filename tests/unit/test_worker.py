"""Tests of the worker: what its SSH server allows, and when it does not start."""

import dataclasses

import pytest

from orchestrator.agents.builder import sandbox, worker
from orchestrator.agents.builder.nix import Nix
from orchestrator.agents.failure import AgentError
from orchestrator.run import runs
from orchestrator.shared.builders import read_line
from orchestrator.shared.errors import UsageError
from orchestrator.verbs import registry
from orchestrator.verbs import worker as verb
from orchestrator.verbs.registry import Session
from orchestrator.verbs.worker import Worker, describe
from tests.unit.requests import CALLER

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMD6ccbLnqR7RHMUG3pljNRvLPqSBNAnJUJlHpatnROK"


def test_the_server_takes_keys_alone_runs_one_command_and_forwards_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/tmp/home")
    monkeypatch.setattr(worker, "preloaded", lambda library: library)
    said = dict(line.split(" ", 1) for line in worker.sshd_config().splitlines())
    assert said["AuthenticationMethods"] == "publickey"
    assert (said["PasswordAuthentication"], said["KbdInteractiveAuthentication"]) == ("no", "no")
    assert said["ForceCommand"].endswith("nix-daemon --stdio")
    assert (said["DisableForwarding"], said["PermitTTY"]) == ("yes", "no")
    assert said["AllowUsers"] == "builder"


def test_nobody_is_let_in_without_a_key() -> None:
    assert worker.authorized_keys(f"{KEY}, {KEY} me,") == (KEY, f"{KEY} me")
    with pytest.raises(AgentError, match="no public key"):
        worker.authorized_keys(" , ")


def test_a_worker_without_a_sandbox_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def obtain(_nix: Nix, _user: str, *, strict: bool) -> Nix:
        assert strict
        raise AgentError("Nix' sandbox does not work here: no user namespaces")

    monkeypatch.setattr(sandbox, "obtain", obtain)
    monkeypatch.setattr(worker, "answers", lambda _url: "no network")
    with pytest.raises(AgentError, match="sandbox does not work") as error:
        worker.sandboxed()
    assert "--strict" not in error.value.hint


def test_the_builders_line_of_a_worker_is_one_that_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIXOS_IMAGE_WORKER_ADDRESS", "192.0.2.7")
    monkeypatch.setenv("NIXOS_IMAGE_WORKER_JOBS", "3")
    told = worker.builder(KEY)
    assert read_line(told.line("key")) == dataclasses.replace(told, key="key")
    assert (told.uri, told.jobs) == ("ssh-ng://builder@192.0.2.7:2222", 3)
    monkeypatch.delenv("NIXOS_IMAGE_WORKER_ADDRESS")
    assert worker.builder(KEY).uri == "ssh-ng://builder@127.0.0.1:2222"
    monkeypatch.setenv("NIXOS_IMAGE_WORKER_LISTEN", "192.0.2.8")
    assert worker.builder(KEY).uri == "ssh-ng://builder@192.0.2.8:2222"


def ask(*words: str) -> Worker:
    found: Worker = registry.verb("worker").ask(list(words), CALLER)
    return found


def test_a_worker_listens_on_its_machine_alone_unless_told() -> None:
    assert ask().listen == "127.0.0.1"
    assert ask("--listen", "::1", "--port", "22").port == 22
    for wrong in (
        ["--listen", "host"],
        ["stop", "--port", "2222"],
        ["--port", "\N{ARABIC-INDIC DIGIT FIVE}"],
        ["--port", "0"],
        ["--port", "0000019999999"],
        ["--port", "0" * 5000 + "1"],
        ["--jobs", "x"],
        ["--jobs", "000001" + "9" * 5000],
        ["status", "--jobs", "2"],
    ):
        with pytest.raises(UsageError):
            ask(*wrong)


def test_its_orders_name_the_keys_that_were_named() -> None:
    orders = registry.verb("worker").orders
    assert orders(ask("--authorized-key", "k.pub")) == [
        ["terminal"],
        ["send", "--authorized-key", "/home/me/project/k.pub"],
    ]
    assert orders(ask()) == [["terminal"], ["send_keys"]]
    assert orders(ask("stop")) == [["terminal"]]


def test_where_there_is_no_worker_status_says_how_to_start_one() -> None:
    assert "./run.sh worker starts one" in describe(None)


def test_nobody_who_could_log_in_is_told_before_an_image_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def begun(*_arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr(runs, "run_workspace", begun)
    monkeypatch.setattr(verb, "keys_at_home", lambda _who: ())
    with pytest.raises(UsageError, match=r"no public key in ~/\.ssh"):
        verb.VERB.work(ask(), Session(CALLER, stream=1, began=0.0, sent=True))
