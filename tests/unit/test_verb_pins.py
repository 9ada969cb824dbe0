"""Tests `pins`: requests, usage errors and orders."""

import pytest

from orchestrator.shared.errors import UsageError
from orchestrator.verbs.pins import Pins
from tests.unit.asking import ask, orders


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["pins"], Pins(update=False, installed=False, log_format="auto")),
        (["pins", "--update"], Pins(update=True, installed=False, log_format="auto")),
        (["pins", "--installed"], Pins(update=False, installed=True, log_format="auto")),
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
        (Pins(update=True, installed=False, log_format="auto"), [["out_locks"]]),
        (Pins(update=False, installed=True, log_format="auto"), [["terminal"]]),
    ],
)
def test_orders(request_: object, expected: list[list[str]]) -> None:
    assert orders("pins", request_) == expected
