"""Tests remembered facts of the host: only successes, only until something changes."""

import contextlib
import pathlib
import typing
from collections.abc import Iterator

import pytest

from orchestrator.decide import host
from orchestrator.docker import facts
from orchestrator.docker.api import Api
from orchestrator.docker.engine import Engine
from tests.unit.engine_stub import Handler, Server, stub

__all__ = ["stub"]

INFO: dict[str, typing.Any] = {"ID": "one", "ServerVersion": "28", "SecurityOptions": ["name=x"]}


@pytest.fixture
def engine(stub: Server) -> Iterator[Engine]:
    """Fake engine that stores the labels of one volume."""

    def create(handler: Handler) -> None:
        labels = handler.document["Labels"]
        stub.answers["GET /volumes/nixos-image-host"] = (
            200,
            {"Name": "nixos-image-host", "Labels": labels},
        )
        handler.send(201, {})

    def remove(handler: Handler) -> None:
        stub.answers.pop("GET /volumes/nixos-image-host", None)
        handler.send(204, b"")

    stub.answers |= {
        "GET /info": (200, INFO),
        "GET /images/nixos-image-orchestrator/json": (200, {"Id": "sha256:1"}),
        "GET /networks": (200, [{"Name": "bridge", "Id": "b1", "Created": "today"}]),
        "POST /volumes/create": create,
        "DELETE /volumes/nixos-image-host": remove,
    }
    with contextlib.closing(Api(5)) as api:
        yield Engine("0badcafe", pathlib.Path("/nonexistent"), api)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Results that the next probes will have: error texts, "" for a success."""
    answers: list[str] = []
    monkeypatch.setattr(host, "_try_private", lambda _: answers.pop(0))
    return answers


def test_a_success_is_tried_once(engine: Engine, tried: list[str], stub: Server) -> None:
    tried += [""]
    assert [host.probe_private(engine, engine.info()) for _ in range(3)] == ["", "", ""]
    labels = stub.answers["GET /volumes/nixos-image-host"][1]["Labels"]  # type: ignore[index]
    assert labels["org.nixos-image"] == "true"  # `down -v` removes volumes with this label


def test_a_failure_is_tried_again(engine: Engine, tried: list[str]) -> None:
    tried += ["no", "no", ""]
    assert [host.probe_private(engine, engine.info()) for _ in range(4)] == ["no", "no", "", ""]


def test_what_was_wrong_is_forgotten(engine: Engine, tried: list[str]) -> None:
    tried += ["", "no"]
    assert host.probe_private(engine, engine.info()) == ""
    facts.forget(engine)
    assert host.probe_private(engine, engine.info()) == "no"


CHANGES: dict[str, dict[str, tuple[int, object]]] = {
    "another engine": {"GET /info": (200, INFO | {"ID": "two"})},
    "another version": {"GET /info": (200, INFO | {"ServerVersion": "29"})},
    "userns-remap": {"GET /info": (200, INFO | {"SecurityOptions": ["name=userns"]})},
    "other images": {"GET /images/nixos-image-orchestrator/json": (200, {"Id": "sha256:2"})},
    "no image": {"GET /images/nixos-image-orchestrator/json": (404, {"message": "no such image"})},
    "an engine's start": {
        "GET /networks": (200, [{"Name": "bridge", "Id": "b2", "Created": "later"}])
    },
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_host_is_tried_anew(
    change: str, engine: Engine, tried: list[str], stub: Server
) -> None:
    tried += ["", "no"]
    assert host.probe_private(engine, engine.info()) == ""
    stub.answers |= CHANGES[change]
    assert host.probe_private(engine, engine.info()) == "no"


def test_another_profile_is_tried_anew(
    engine: Engine, tried: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried += ["", "no"]
    assert host.probe_private(engine, engine.info()) == ""
    monkeypatch.setenv("NIXOS_IMAGE_SECCOMP", "no-new-privileges")
    assert host.probe_private(engine, engine.info()) == "no"


@pytest.mark.parametrize("name", ["BOOT_ID", "SYSCTLS"])
def test_another_kernel_is_tried_anew(
    name: str,
    engine: Engine,
    tried: list[str],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "value"
    monkeypatch.setattr(facts, name, file if name == "BOOT_ID" else (str(file),))
    file.write_text("1\n")
    tried += ["", "no"]
    assert [host.probe_private(engine, engine.info()) for _ in range(2)] == ["", ""]
    file.write_text("2\n")
    assert host.probe_private(engine, engine.info()) == "no"
