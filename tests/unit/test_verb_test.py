"""`test`: its words are for pytest."""

import pytest

from orchestrator.verbs.test import Suite
from tests.unit.asking import ask, orders


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["test"], Suite(())),
        (["test", "-k", "lease", "--help"], Suite(("-k", "lease", "--help"))),
    ],
)
def test_words_become_a_request(argv: list[str], expected: object) -> None:
    assert ask(argv) == expected


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Suite(()), [["terminal"]]),
    ],
)
def test_orders(request_: object, expected: list[list[str]]) -> None:
    assert orders("test", request_) == expected
