"""Tests `verify`: requests, usage errors and orders."""

import pathlib

import pytest

from orchestrator.ask.request import Verify
from orchestrator.shared.errors import UsageError
from tests.unit.asking import ask, orders

P = pathlib.PurePosixPath


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["verify", "x.img"], Verify(P("/home/me/project/x.img"), None, None)),
        (["verify", "--key", "/k.pub", "/x"], Verify(P("/x"), P("/k.pub"), None)),
        (["verify", "--allowed-signers", "/s", "/x"], Verify(P("/x"), None, P("/s"))),
    ],
)
def test_words_become_a_request(argv: list[str], expected: object) -> None:
    assert ask(argv) == expected


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (
            ["verify", "--key", "k", "--allowed-signers", "s", "x"],
            "argument --allowed-signers: not allowed with argument --key",
            "./run.sh verify --help",
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
        (
            Verify(P("/o/x.img"), P("/k.pub"), None),
            [
                ["send", "verify", "/o/x.img"],
                ["send_result", "verify", "/o/x.img.cdx.json"],
                ["send_result", "verify", "/o/x.img.provenance.json"],
                ["send_result", "verify", "/o/x.img.sha256"],
                ["send_result", "verify", "/o/x.img.sha256.sig"],
                ["send_result", "verify", "/o/x.img.bmap"],
                ["send_result", "verify", "/o/x.img.image-info.json"],
                ["send_result", "verify", "/o/x.img.rpi-imager.json"],
                ["send_result", "verify", "/o/x.img.report.html"],
                ["send", "--key", "/k.pub"],
            ],
        ),
    ],
)
def test_orders(request_: object, expected: list[list[str]]) -> None:
    assert orders("verify", request_) == expected
