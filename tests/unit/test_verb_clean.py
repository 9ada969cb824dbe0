"""Tests `clean`: requests, usage errors and orders."""

import dataclasses
import typing

import pytest

from orchestrator.docker.engine import Engine
from orchestrator.docker.images import state
from orchestrator.docker.labels import SOURCE_LABEL
from orchestrator.shared.display import Display
from orchestrator.shared.errors import UsageError
from orchestrator.verbs.clean import Clean, _collector
from tests.unit.asking import ask, orders
from tests.unit.requests import CALLER


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["clean"], Clean(False, False, Display())),
        (["clean", "--store"], Clean(False, True, Display())),
        (["clean", "--all", "--log-format", "plain"], Clean(True, False, Display("plain"))),
    ],
)
def test_words_become_a_request(argv: list[str], expected: object) -> None:
    assert ask(argv) == expected


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (["clean", "--al1"], "unrecognized arguments: --al1", "did you mean --all?"),
    ],
)
def test_what_is_wrong_is_told_with_a_way_out(argv: list[str], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        ask(argv)
    assert message in str(caught.value)
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Clean(False, False, Display()), []),
    ],
)
def test_orders(request_: object, expected: list[list[str]]) -> None:
    assert orders("clean", request_) == expected


@dataclasses.dataclass
class FakeEngine:
    """Fake engine with one image, which has the checksum label `source`, or none."""

    source: str | None

    def image(self, name: str) -> dict[str, typing.Any] | None:
        if self.source is None:
            return None
        return {"Id": f"id of {name}", "Config": {"Labels": {SOURCE_LABEL: self.source}}}

    def parent(self, own: str) -> str:
        return "sha256:1"


NOW = state("Dockerfile.builder", "sha256:1")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (NOW, "id of nixos-image-builder"),
        (f"{NOW}-locked", "id of nixos-image-builder"),
        (state("Dockerfile.qemu-setup", "sha256:1"), ""),
        ("another checkout's", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_the_store_is_collected_by_this_checkouts_builder(
    source: str | None, expected: str
) -> None:
    """Its container can write to the store: an image of anybody's must not get that."""
    assert _collector(typing.cast("Engine", FakeEngine(source)), CALLER) == expected
