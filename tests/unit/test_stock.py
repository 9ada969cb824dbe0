"""The agent stock: what it asks of Nix and how it reads the answers."""

import json
import os
import pathlib
import time
import types
import typing

import pytest

from orchestrator.agents.builder import collect, sandbox, stock
from orchestrator.agents.builder.nix_settings import CACHE, CACHE_KEY
from orchestrator.agents.failure import AgentError
from orchestrator.image import closure
from orchestrator.shared import command
from orchestrator.shared.store import Wish

MODIFIED = (
    "checking contents\npath '/nix/store/a-x' was modified! expected hash 'sha256:0', got '1'\n"
)

#: Its file is gone: by hand, or with a disk that lost power.
GONE = (
    "path '/nix/store/a-x' disappeared, but it still has valid referrers!\n"
    "warning: not all store errors were fixed\n"
)


class Nix:
    """Stands in for Nix' programs: records commands, gives the next answer."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.code = 0
        self.text = ""
        self.error = ""
        self.settings = ""

    def run(self, words: list[str], variables: dict[str, str] | None = None, **_: object) -> object:
        self.asked.append(words)
        self.settings = (variables or os.environ)["NIX_CONFIG"]
        return types.SimpleNamespace(
            code=self.code,
            text=self.text,
            stderr=self.error.encode(),
            last=self.error.strip().splitlines()[-1:] and self.error.strip().splitlines()[-1],
        )


@pytest.fixture
def nix(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Nix:
    found = Nix()
    monkeypatch.setattr(command, "run", found.run)
    monkeypatch.setattr("orchestrator.agents.builder.nix_settings.preloaded", str)
    monkeypatch.setattr(collect, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(collect, "GATE", tmp_path / "gate")
    monkeypatch.setattr(collect, "ROOTS", tmp_path / "roots")
    monkeypatch.setattr(stock, "STORE", tmp_path)
    return found


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, typing.Any]]]:
    events: list[tuple[str, dict[str, typing.Any]]] = []

    def emit(event: str, **fields: object) -> None:
        events.append((event, fields))

    monkeypatch.setattr("orchestrator.agents.events.emit", emit)
    return events


def wishes(wish: Wish, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the agent as the verb does."""
    words = {field: value for field, value in vars(wish).items() if value is not None}
    monkeypatch.setattr("sys.argv", ["stock", json.dumps(words)])
    monkeypatch.setattr(os, "environ", dict(os.environ))
    stock.stock()


def test_a_whole_store_is_told(
    nix: Nix, told: list[tuple[str, dict[str, typing.Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = {"narSize": 7, "references": ["/nix/store/a"]}
    nix.text = json.dumps({"/nix/store/a": one, "/nix/store/gone": None})
    wishes(Wish("list"), monkeypatch)
    ((name, fields),) = told
    assert name == "stock"
    assert (fields["paths"], fields["size"], fields["unneeded"]) == (1, 7, 7)
    assert fields["free"] > 0


@pytest.mark.parametrize(
    ("said", "what"), [(MODIFIED, "changed since it was built"), (GONE, "gone from the store")]
)
@pytest.mark.parametrize("repair", [False, True])
def test_what_has_changed_is_an_error_until_it_is_repaired(
    said: str,
    what: str,
    repair: bool,
    nix: Nix,
    told: list[tuple[str, dict[str, typing.Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nix.code, nix.error = 1, said
    monkeypatch.setattr(closure, "changed", list)
    with pytest.raises(AgentError, match="/nix/store/a-x") as caught:
        wishes(Wish("verify", repair=repair), monkeypatch)
    assert caught.value.kind == "store"
    assert ("down -v" if repair else "--repair") in caught.value.hint
    assert ("--repair" in nix.asked[-1]) is repair
    assert [fields["message"] for event, fields in told if event == "changed"] == [
        f"{what}: /nix/store/a-x"
    ]
    nix.code = 0
    if repair:  # Nix ends with 0, too, where it may not build
        with pytest.raises(AgentError, match="/nix/store/a-x cannot be repaired"):
            wishes(Wish("verify", repair=True), monkeypatch)
    monkeypatch.setattr(closure, "changed", lambda _: [])
    wishes(Wish("verify", repair=True), monkeypatch)
    assert told[-1][1]["message"] == "all paths of the store were checked: 1 repaired"


@pytest.mark.parametrize("code", [1, -9])
def test_a_check_that_could_not_be_made_is_no_verdict(
    code: int, nix: Nix, monkeypatch: pytest.MonkeyPatch
) -> None:
    nix.code, nix.error = code, "error: database is locked\n"
    with pytest.raises(AgentError, match="nix-store --verify: error: database is locked") as caught:
        wishes(Wish("verify"), monkeypatch)
    assert caught.value.kind == "store"


def test_a_whole_store_is_verified(
    nix: Nix, told: list[tuple[str, dict[str, typing.Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    wishes(Wish("verify"), monkeypatch)
    assert nix.asked == [["nix-store", "--verify", "--check-contents"]]
    assert told[-1][1]["message"] == "all paths of the store were checked: nothing has changed"


@pytest.mark.parametrize(("wish", "left"), [(Wish("gc"), ["a", "b"]), (Wish("gc", keep=1), ["b"])])
def test_a_collection_lets_go_of_what_is_wished(
    wish: Wish, left: list[str], nix: Nix, monkeypatch: pytest.MonkeyPatch
) -> None:
    nix.text = "{}"
    for name in ("a", "b"):
        collect.keep([pathlib.Path("/nix/store", name)])
        time.sleep(0.02)  # a file's time is that of the kernel's last tick
    wishes(wish, monkeypatch)
    assert sorted(root.name for root in collect.roots()) == left
    assert nix.asked[-1] == ["nix-store", "--gc"]


def test_a_collection_beside_a_run_lets_go_of_nothing(
    nix: Nix, monkeypatch: pytest.MonkeyPatch
) -> None:
    nix.text = "{}"
    collect.keep([pathlib.Path("/nix/store/a")])
    with collect.in_use():
        wishes(Wish("gc", keep=0), monkeypatch)
    assert [root.name for root in collect.roots()] == ["a"]
    assert nix.asked == []


#: What the sandbox' probe prints where a build is alone.
ALONE = (
    ("user", "1000"),
    ("name", "nobody"),
    ("interface", "lo"),
    ("inputs", "read-only"),
    ("end", ""),
)


@pytest.mark.parametrize(
    ("view", "builds", "cause"),
    [
        (dict(ALONE), True, ""),
        (dict(ALONE) | {"inputs": "writable"}, False, "it can change its inputs"),
        ({}, False, "Nix printed no cause"),
    ],
)
def test_a_repair_builds_in_the_sandbox_or_not_at_all(
    view: dict[str, str],
    builds: bool,
    cause: str,
    nix: Nix,
    told: list[tuple[str, dict[str, typing.Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nix.error = "".join(
        f"{sandbox.NAME}> {key} {word}\n".replace(" \n", "\n") for key, word in view.items()
    )
    wishes(Wish("verify", repair=True), monkeypatch)
    assert "--repair" in nix.asked[-1]
    assert "sandbox = true\nsandbox-fallback = false\n" in nix.settings
    assert ("max-jobs = auto\n" in nix.settings, "max-jobs = 0\n" in nix.settings) == (
        builds,
        not builds,
    )
    warned = [fields["message"] for event, fields in told if event == "sandbox"]
    assert len(warned) == (not builds)
    assert all(cause in message for message in warned)


def test_a_repair_asks_the_caches_of_the_call_beside_nixos_own(
    nix: Nix, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish = Wish("verify", repair=True, substituters=("https://a",), trusted_keys=("k", "l"))
    wishes(wish, monkeypatch)
    assert f"\nsubstituters = {CACHE} https://a\n" in nix.settings
    assert f"\ntrusted-public-keys = {CACHE_KEY} k l\n" in nix.settings
