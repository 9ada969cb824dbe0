"""Tests `boot`: requests, usage errors and orders."""

import dataclasses
import pathlib

import pytest

from orchestrator.ask import uploads
from orchestrator.shared.errors import UsageError
from orchestrator.verbs import boot
from tests.unit.asking import BOOT, ask, orders
from tests.unit.requests import CALLER

P = pathlib.PurePosixPath


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["boot", "x.img"], dataclasses.replace(BOOT, image=P("/home/me/project/x.img"))),
        (
            ["boot", "--test", "--system", "aarch64-linux", "/x"],
            dataclasses.replace(BOOT, system="aarch64-linux", test=True),
        ),
        (
            ["boot", "--firmware", "bios", "--grow", "4G", "--identity", "key", "/x"],
            dataclasses.replace(
                BOOT, firmware="bios", grow=4096, identity=P("/home/me/project/key")
            ),
        ),
        (
            ["boot", "--test", "--user", "me", "--identity", "/k", "--print-command", "/x"],
            dataclasses.replace(BOOT, user="me", identity=P("/k"), test=True, print_command=True),
        ),
        (["boot", "--seed", "../s.iso", "/x"], dataclasses.replace(BOOT, seed=P("/home/me/s.iso"))),
    ],
)
def test_words_become_a_request(argv: list[str], expected: object) -> None:
    assert ask(argv) == expected


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (["boot", "--user", "me", "x"], "--user needs --identity", "./run.sh boot --help"),
        (["boot"], "required: IMAGE", "./run.sh boot --help"),
        (["boot", ""], "a path is empty", "name a file or folder"),
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
        (BOOT, [["send", "boot", "/x"], ["send_result", "boot", "/x.result.json"], ["terminal"]]),
    ],
)
def test_orders(request_: object, expected: list[list[str]]) -> None:
    assert orders("boot", request_) == expected


def test_no_command_is_printed_for_a_compressed_image(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.img").write_bytes(b"\xfd7zXZ\0")
    monkeypatch.setattr(uploads, "received", lambda _who, _path: tmp_path / "a.img")
    with pytest.raises(UsageError, match=r"^a\.img: the image is compressed$") as caught:
        boot._printed(dataclasses.replace(BOOT, print_command=True), CALLER)
    assert caught.value.hint == "unpack it first (xz -d), QEMU cannot"
