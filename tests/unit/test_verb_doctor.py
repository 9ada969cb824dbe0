"""Tests `doctor`: requests, the report as text and JSON, the exit code."""

import dataclasses
import json
import os
import pathlib
import typing
from collections.abc import Iterator

import pytest

from orchestrator.ask.orders import TERMINAL
from orchestrator.decide import sight
from orchestrator.decide.sight import Sight
from orchestrator.docker.engine import Engine
from orchestrator.docker.stored import Used
from orchestrator.run import runs
from orchestrator.shared.display import Display
from orchestrator.shared.errors import UsageError
from orchestrator.verbs import doctor
from orchestrator.verbs.doctor import Doctor
from orchestrator.verbs.registry import Session
from tests.unit.asking import ask, demo, orders
from tests.unit.requests import CALLER
from tests.unit.test_examine import GOOD, seen

USED = (
    Used("image", "nixos-image-base:latest", 3 << 20),
    Used("image", "sha256:0123", 5 << 20),
    Used("volume", "nixos-image-store", None),
)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], (False, False, False)),
        (["--json"], (False, True, False)),
        (["--bundle"], (False, False, True)),
        (["--bundle", "x.tgz", "--json"], (False, True, True)),
        (["--privileges", "--bundle=x"], (True, False, True)),
    ],
)
def test_words_become_a_request(words: list[str], expected: tuple[bool, bool, bool]) -> None:
    request = ask(["doctor", *words])
    assert isinstance(request, Doctor)
    assert (request.privileges, request.json, request.bundle) == expected
    assert orders("doctor", request) == [TERMINAL]


def test_a_word_too_many_is_refused() -> None:
    with pytest.raises(UsageError):
        ask(["doctor", "--jsno"])


@pytest.fixture
def stream(tmp_path: pathlib.Path) -> Iterator[int]:
    number = os.open(tmp_path / "said", os.O_RDWR | os.O_CREAT)
    yield number
    os.close(number)


def report(
    request: Doctor,
    host: Sight,
    stream: int,
    monkeypatch: pytest.MonkeyPatch,
    findings: str = "",
) -> tuple[int, str]:
    """Examine `host` for `request`; return exit code and stdout."""
    monkeypatch.setattr(sight, "look", lambda *_: host)
    monkeypatch.setattr(runs, "make_shared", lambda _run: pathlib.Path("/nonexistent"))
    monkeypatch.setattr(Engine, "down", lambda _self: None)
    who = dataclasses.replace(CALLER, findings=findings)
    code = doctor.VERB.work(request, Session(who, stream, 0, sent=False))
    size = os.lseek(stream, 0, os.SEEK_CUR)
    return code, os.pread(stream, size, 0).decode()


def wanted(**changes: typing.Any) -> Doctor:  # noqa: ANN401 - of all fields' types
    fields = {"privileges": False, "json": False, "bundle": False, "display": Display("plain")}
    return Doctor(demo=demo(), **{**fields, **changes})


def test_a_person_gets_findings_space_and_plan(
    stream: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = seen(used=USED, kvm=False)
    code, text = report(wanted(), host, stream, monkeypatch, "docker-engine\tok\tunix:///x\n")
    lines = text.splitlines()
    assert code == 0
    assert lines[0] == f"ok       {"Docker's engine":<26} unix:///x"
    assert any(line.startswith("warns    KVM ") for line in lines)
    assert "image      nixos-image-base:latest, 3 MiB" in lines
    assert "image      1 without a name, of earlier versions" in lines
    assert "volume     nixos-image-store, size unknown" in lines
    assert "emulation  private: the builder can have its own binfmt_misc" in lines
    assert lines[-1] == "nothing will make runs fail, 1 is a warning"


def test_what_will_fail_is_the_exit_code(stream: int, monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = report(wanted(), seen(disk=0), stream, monkeypatch)
    assert code == 4
    assert text.endswith("1 will make runs fail\n")


def test_run_shs_findings_count_too(stream: int, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _ = report(wanted(), GOOD, stream, monkeypatch, "ca-bundle\tfails\t/x cannot be read\n")
    assert code == 4


def test_a_program_gets_a_document(stream: int, monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = report(wanted(json=True), seen(used=USED), stream, monkeypatch)
    document = json.loads(text)
    assert code == 0
    assert document["type"] == "urn:nixos-image:doctor:v1"
    assert document["state"] == "ok"
    assert document["used"][0] == {
        "kind": "image",
        "name": "nixos-image-base:latest",
        "size": 3 << 20,
    }
    assert document["plan"]["mode"] == "private"
    assert document["host"]["natively"] == ["x86_64-linux"]
    page = (pathlib.Path(__file__).parents[2] / "docs/doctor.md").read_text()
    assert all(f"`{field}`" in page for field in document)


def test_a_host_without_a_plan_has_none(stream: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = seen(facts=None, plan=None)
    _, text = report(wanted(bundle=True), bare, stream, monkeypatch)
    words, _, document = text.partition(doctor.BETWEEN)
    assert words.endswith("no problem was found\n")
    found = json.loads(document)
    assert (found["plan"], found["host"]) == (None, None)
