"""Tests `test`: arguments are passed to pytest."""

import pytest

from orchestrator.verbs import test as verb_test
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
    ("words", "expected"),
    [
        ((), True),
        (("-k", "lease"), True),
        (("tests/unit/test_plan.py", "-x"), False),
        (("tests/tools", "tests/unit"), False),
        (("tests/unit", "tests/integration/test_demo.py"), True),
    ],
)
def test_the_appliances_images_are_made_for_tests_that_start_them(
    words: tuple[str, ...], expected: bool
) -> None:
    assert verb_test.needs_images(words) == expected


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Suite(()), [["terminal"], ["send_checkout"]]),
    ],
)
def test_orders(request_: object, expected: list[list[str]]) -> None:
    assert orders("test", request_) == expected
