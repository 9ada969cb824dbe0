"""Tests `store`: requests, usage errors, what it prints."""

import json

import pytest

from orchestrator.docker.answers import read
from orchestrator.run.reports import Holding, Stock
from orchestrator.run.tree_records import Record
from orchestrator.shared.display import Display
from orchestrator.shared.errors import UsageError
from orchestrator.shared.store import Wish
from orchestrator.verbs.store import Store, as_json, describe
from tests.unit.asking import ask
from tests.unit.requests import CACHE_KEY as KEY

EVENT: Stock = {
    "paths": 3,
    "size": 5 << 30,
    "unneeded": 1 << 30,
    "free": 7 << 30,
    "holdings": [
        {"root": "a", "name": "old", "since": 0.0, "size": 1, "alone": 0},
        {"root": "b", "name": "new\x1b[2J", "since": 86400.0, "size": 4 << 30, "alone": 1 << 20},
    ],
}


@pytest.mark.parametrize(
    ("words", "wish"),
    [
        ("", Wish("list")),
        ("gc", Wish("gc")),
        ("gc --keep 3 --older-than 2w --max-size 20G", Wish("gc", 3, 14 * 86400, 20 << 30)),
        ("gc --keep 0 --older-than 90m", Wish("gc", 0, 5400)),
        ("verify", Wish("verify")),
        (
            f"verify --repair --substituter https://a --trusted-public-key {KEY}",
            Wish("verify", repair=True, substituters=("https://a",), trusted_keys=(KEY,)),
        ),
        ("optimise", Wish("optimise")),
    ],
)
def test_words_become_a_request(words: str, wish: Wish) -> None:
    assert ask(["store", *words.split()]) == Store(wish, False, Display())


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("--keep 3", "--keep is no option of store list", "./run.sh store gc --keep …"),
        ("verify --older-than 3d", "--older-than is no option of store verify", "gc --older-than"),
        ("gc --repair", "--repair is no option of store gc", "./run.sh store verify --repair …"),
        ("gc --json", "--json is no option of store gc", "./run.sh store --json …"),
        (
            "verify --substituter https://x",
            "for a repair alone",
            "verify --repair --substituter URL",
        ),
        ("gc --older-than 3", "'3' is not an age", ""),
        ("gc --older-than 3y", "'3y' is not an age", ""),
        ("gc --keep -1", "'-1' is not a whole number", ""),
        ("gc --max-size 3x", "'3x' is not a size", ""),
        ("empty", "invalid choice: 'empty'", ""),
        (
            "verify --repair --substituter 10.0.0.1:5000",
            "--substituter: an address has a scheme",
            "",
        ),
        ("verify --repair --trusted-public-key k", "'k' is not NAME:KEY", ""),
        ("--keap 3", "unrecognized arguments: --keap", "did you mean --keep?"),
        ("-k 3", "unrecognized arguments: -k", "./run.sh store --help"),
        ("gc --keep -k", "unrecognized arguments: -k", "./run.sh store --help"),
    ],
)
def test_what_is_wrong_is_told_with_a_way_out(words: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        ask(["store", *words.split()])
    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_a_person_reads_sizes_and_the_newest_result_first() -> None:
    lines = describe(EVENT).splitlines()
    assert lines[0].split(maxsplit=2)[2] == "5,120 MiB in 3 paths"
    assert "1,024 MiB" in lines[1]
    assert "./run.sh store gc" in lines[1]
    assert [line.split()[0] for line in lines[5:]] == ["new", "old"]
    assert lines[5].split()[1:] == ["1970-01-02", "00:00", "4,096", "MiB", "1", "MiB"]
    assert "\x1b" not in "".join(lines)


def test_nothing_is_offered_for_removal_where_all_is_needed() -> None:
    text = describe({**EVENT, "unneeded": 0, "holdings": []})
    assert "store gc" not in text
    assert "No result is kept" in text


def test_a_program_reads_bytes_and_all_results() -> None:
    document = json.loads(as_json(EVENT))
    assert (document["type"], document["schema"]) == ("urn:nixos-image:store:v1", 1)
    assert document["size"] == 5 << 30
    assert document["holdings"] == EVENT["holdings"]


def test_a_result_of_any_year_is_listed() -> None:
    """A build without a sandbox may set the time of a root."""
    one: Holding = {"root": "a", "name": "far", "since": 1e18, "size": 1, "alone": 0}
    told = read(Stock, {**EVENT, "event": "stock", "holdings": [one]}, "store")
    assert "far            ?" in describe(told)


def test_copies_of_sent_folders_are_told() -> None:
    copy = Record("/home/me/nixpkgs", "today", "f", 3, 442 << 20, 5.0)
    assert "copy of a sent folder  442 MiB /home/me/nixpkgs" in describe(EVENT, (copy,))
    (told,) = json.loads(as_json(EVENT, (copy,)))["folders"]
    assert told == {"path": "/home/me/nixpkgs", "files": 3, "size": 442 << 20, "used": 5.0}
