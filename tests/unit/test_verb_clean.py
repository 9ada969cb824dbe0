"""Tests `clean`: requests, usage errors and orders."""

import pytest

from orchestrator.shared.errors import UsageError
from orchestrator.verbs.clean import Clean
from tests.unit.asking import ask, orders


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["clean"], Clean(False, False, "auto")),
        (["clean", "--store"], Clean(False, True, "auto")),
        (["clean", "--all", "--log-format", "plain"], Clean(True, False, "plain")),
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
        (Clean(False, False, "auto"), []),
    ],
)
def test_orders(request_: object, expected: list[list[str]]) -> None:
    assert orders("clean", request_) == expected
