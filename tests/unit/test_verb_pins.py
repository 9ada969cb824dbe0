"""Tests `pins`: requests, usage errors and orders."""

import dataclasses

import pytest

from orchestrator.shared.constants import TRACKER
from orchestrator.shared.display import Display
from orchestrator.shared.errors import UsageError
from orchestrator.verbs.pins import Pins
from tests.unit.asking import ask, orders

PINS = Pins(update=False, installed=False, advisories=False, tracker=TRACKER, display=Display())
UPDATE = dataclasses.replace(PINS, update=True)
INSTALLED = dataclasses.replace(PINS, installed=True)
ADVISORIES = dataclasses.replace(PINS, advisories=True)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["pins"], PINS),
        (["pins", "--update"], UPDATE),
        (["pins", "--installed"], INSTALLED),
        (["pins", "--advisories"], ADVISORIES),
        (
            ["pins", "--advisories", "--tracker", "http://mirror/x"],
            dataclasses.replace(ADVISORIES, tracker="http://mirror/x"),
        ),
    ],
)
def test_words_become_a_request(argv: list[str], expected: object) -> None:
    assert ask(argv) == expected


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (
            ["pins", "--update", "--installed"],
            "argument --installed: not allowed with argument --update",
            "./run.sh pins --help",
        ),
        (
            ["pins", "--advisories", "--tracker", "file:///etc/passwd"],
            "argument --tracker: 'file:///etc/passwd': not http:// or https://",
            "./run.sh pins --help",
        ),
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
        (UPDATE, [["out_locks"]]),
        (INSTALLED, [["terminal"]]),
        (ADVISORIES, [["terminal"]]),
    ],
)
def test_orders(request_: object, expected: list[list[str]]) -> None:
    assert orders("pins", request_) == expected
