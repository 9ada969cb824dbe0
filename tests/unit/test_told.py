"""What the builder tells of a run is taken as it should be, or refused: it may be anybody's."""

import types
import typing

import pytest

from orchestrator.run.account import Account
from orchestrator.run.activity import Follower
from orchestrator.run.context import RunContext
from orchestrator.run.supervisor import Event, Supervisor, read_event
from orchestrator.shared.errors import BuildError

LARGE = "1" + "0" * 400
DEEP = "[" * 5000 + "]" * 5000


def account(line: str) -> Account:
    """Return the account of a run whose builder has printed `line`."""
    event = read_event(line)
    assert event

    def said(service: str, name: str) -> Event | None:
        return event if (service, name) == ("builder", event["event"]) else None

    supervisor = typing.cast("Supervisor", types.SimpleNamespace(event=said))
    return Account(typing.cast("RunContext", None), supervisor)


@pytest.mark.parametrize(
    "fields",
    [
        f'"sandbox": {DEEP}',
        '"sandbox": "true"',
        '"sandbox": true, "user": 1',
        '"sandbox": true, "names": "root"',
        '"sandbox": true, "names": ["a\\nb"]',
        '"sandbox": true, "interfaces": [[]]',
        '"sandbox": true, "inputs": {}',
    ],
)
def test_a_sandbox_that_is_none_is_refused(fields: str) -> None:
    with pytest.raises(BuildError, match="the builder's announcement is invalid: sandbox"):
        account(f'{{"event": "sandbox", {fields}}}')._sandbox()


def test_what_is_known_of_the_sandbox_is_told() -> None:
    line = '{"event": "sandbox", "sandbox": false, "cause": "a", "names": ["root"], "more": 1}'
    assert account(line)._sandbox() == {
        "sandbox": False,
        "user": None,
        "names": ("root",),
        "interfaces": None,
        "inputs": None,
    }


def test_a_version_that_is_none_is_refused() -> None:
    assert account('{"event": "nix-version", "version": "2.34.8"}')._nix() == "2.34.8"
    for value in ("1", "[]", '"a\\u001b[2J"'):
        with pytest.raises(BuildError, match="the builder's announcement is invalid: version"):
            account(f'{{"event": "nix-version", "version": {value}}}')._nix()


@pytest.mark.parametrize(
    "state",
    [
        f'{{"received": {LARGE}}}',
        f'{{"done": {LARGE}}}',
        f'{{"running": [{{"name": "a", "kind": "native", "seconds": {LARGE}}}]}}',
        '{"running": [{"name": "a", "kind": "native", "seconds": 1e300}]}',
        '{"running": [{"name": "a", "kind": "unheard-of", "seconds": 1}]}',
    ],
)
def test_what_nix_cannot_be_doing_is_refused(state: str) -> None:
    event = read_event(f'{{"event": "nix", "state": {state}}}')
    assert event
    with pytest.raises(BuildError, match="the builder's announcement is invalid: nix"):
        Follower().activity(event["state"])
