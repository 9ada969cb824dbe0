"""Tests `flash`: requests, orders, and which of a hostile engine's orders run.sh obeys."""

import pathlib

import pytest

from orchestrator.ask.request import Caller
from orchestrator.verbs.flash import Flash
from tests.unit.asking import ask, orders
from tests.unit.orders import asked, obeyed, words

P = pathlib.PurePosixPath


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["x.img"], Flash(P("/home/me/project/x.img"), None, False, False, True)),
        (["/x", "/dev/sdb"], Flash(P("/x"), P("/dev/sdb"), False, False, True)),
        (["/x", "--yes", "/dev/sdb"], Flash(P("/x"), P("/dev/sdb"), False, True, True)),
        (["--dry-run", "/x", "d"], Flash(P("/x"), P("/home/me/project/d"), True, False, True)),
        (["/x", "--no-verify"], Flash(P("/x"), None, False, False, False)),
    ],
)
def test_words_become_a_request(argv: list[str], expected: Flash) -> None:
    assert ask(["flash", *argv]) == expected


def test_orders_name_image_disk_and_options() -> None:
    assert orders("flash", Flash(P("/x"), P("/dev/sdb"), True, True, False)) == [
        ["flash", "flash", "/x"],
        ["disk", "flash", "/dev/sdb"],
        ["yes"],
        ["no_verify"],
    ]
    assert orders("flash", Flash(P("/x"), None, False, False, True)) == [["flash", "flash", "/x"]]


@pytest.mark.parametrize(
    "argv",
    [
        ["flash", "x.img", "/dev/sdb", "--yes", "--dry-run", "--no-verify"],
        ["flash", "--yes", "x.img", "--no-verify", "--dry-run", "--", "/dev/sdb"],
    ],
)
def test_run_sh_obeys_its_own_command_line(argv: list[str], who: Caller) -> None:
    text = asked(argv, who)
    assert len(words(text)) == 4
    assert obeyed(text, argv, who) == words(text)


@pytest.mark.parametrize(
    "order",
    [
        "disk\tflash\t/dev/sda",  # not named
        "disk\tflash\t/x.img",  # the image is no disk
        "flash\tflash\t/dev/sdb",  # nor the disk an image
        "disk\t\t/dev/sdb",
        "yes",
        "no_verify",
        "dry_run",
        "send\tflash\t/x.img",  # the image stays on the caller's computer
    ],
)
def test_run_sh_does_not_obey_anything_else(order: str, who: Caller) -> None:
    assert obeyed(f"{order}\n", ["flash", "/x.img", "/dev/sdb"], who) == []


@pytest.mark.parametrize("order", ["flash\tflash\t/x.img", "disk\tflash\t/x.img", "yes"])
def test_run_sh_writes_no_disk_for_another_verb(order: str, who: Caller) -> None:
    assert obeyed(f"{order}\n", ["verify", "/x.img", "--yes"], who) == []
