"""Tests the documentation's blocks: each is read by what would read it, a command by our parser."""

import csv
import dataclasses
import io
import json
import pathlib
import re
import shlex
import subprocess
import typing

import pytest
import yaml

from orchestrator.blueprint import reader
from orchestrator.shared.errors import UsageError
from orchestrator.shared.paths import ROOT
from orchestrator.verbs import registry
from tests.unit.requests import CALLER

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

#: Languages of blocks. What has none is output, or a text.
LANGUAGES = frozenset("sh toml nix csv json yaml mermaid text".split())

#: What stands for an appliance.toml in the folder where a command is typed.
APPLIANCE = """
[image.pi]
board = "raspberry-pi-4"
[[users]]
name = "ada"
keys = ["ssh-ed25519 AAAA ada@example.org"]
"""


def is_key(line: str) -> bool:
    """Whether a line begins as a key does: ssh-keygen, which knows, is no program of unit tests."""
    return line.startswith(("ssh-", "ecdsa-", "sk-"))


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its text and its place for messages."""

    place: str
    language: str
    text: str


def blocks(page: pathlib.Path) -> list[Block]:
    """Return the fenced blocks of `page`."""
    found = re.finditer(r"^( *)```(\S*)\n(.*?)^\1```$", page.read_text(), re.MULTILINE | re.DOTALL)
    name = page.relative_to(ROOT).as_posix()
    return [
        Block(
            f"{name}:{match.string[: match.start()].count(chr(10)) + 1}",
            match[2],
            re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE),
        )
        for match in found
    ]


BLOCKS = [block for page in PAGES for block in blocks(page)]


def of(language: str) -> pytest.MarkDecorator:
    """Parametrize a test by all blocks of `language`; there are some."""
    found = [block for block in BLOCKS if block.language == language]
    assert found, language
    return pytest.mark.parametrize("block", found, ids=lambda block: block.place)


def commands(text: str) -> list[list[str]]:
    """Return the words of each ./run.sh in a shell text, up to what ends a command."""
    joined = text.replace("\\\n", " ")
    found = []
    for line in joined.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&<>()")
        lexer.whitespace_split = True
        words = list(lexer)
        for number, word in enumerate(words):
            if word.endswith("/run.sh") and (number == 0 or words[number - 1] in COMMAND_BEGINS):
                end = next(
                    (at for at, one in enumerate(words[number:], number) if one[0] in ";|&<>()"),
                    len(words),
                )
                found.append(words[number + 1 : end])
    return found


#: Words after which a command begins.
COMMAND_BEGINS = frozenset([";", "&&", "||", "|", "do", "then", "("])

#: A line of a CI file that runs a command.
SCRIPT_LINE = re.compile(r"^ *-? *(?:run: )?(\S*/run\.sh.*)$", re.MULTILINE)


def commands_of(page: pathlib.Path) -> list[typing.Any]:
    """Return the commands of a page, each with the page's first appliance.toml, else APPLIANCE."""
    found = blocks(page)
    appliance = next((one.text for one in found if one.language == "toml"), APPLIANCE)
    return [
        pytest.param(words, appliance, id=f"{block.place} {' '.join(words)}"[:90])
        for block in found
        if block.language in {"sh", "yaml"}
        for words in commands(
            block.text if block.language == "sh" else "\n".join(SCRIPT_LINE.findall(block.text))
        )
    ]


COMMANDS = [command for page in PAGES for command in commands_of(page)]


def test_every_block_has_a_language() -> None:
    wrong = [block.place for block in BLOCKS if block.language not in LANGUAGES]
    assert wrong == []
    assert len(BLOCKS) > 50


@of("sh")
def test_shell_blocks_are_read_by_a_shell(block: Block) -> None:
    done = subprocess.run(["sh", "-n"], input=block.text, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("words", "appliance"), COMMANDS)
def test_our_commands_are_taken(
    words: list[str], appliance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.ask.appliance.is_public_key", is_key)
    who = dataclasses.replace(
        CALLER,
        appliance="/home/ada/appliance.toml",
        appliance_text=appliance,
        builders="@/home/ada/\nssh-ng://builder@192.0.2.7 aarch64-linux key",
    )
    try:
        verb, rest = registry.find(words)
        verb.ask(rest, who)
    except UsageError as error:
        pytest.fail(f"./run.sh {' '.join(words)}: {error}")


def test_there_are_commands_of_every_verb_that_people_use() -> None:
    verbs = {param.values[0][0] for param in COMMANDS if param.values[0]}
    assert {"demo", "init", "boot", "flash", "verify", "doctor", "down"} <= verbs


def test_the_words_of_a_command_end_where_the_shell_ends_it() -> None:
    text = 'for i in out/*; do ./run.sh flash "$i" --yes; done # ./run.sh none'
    text += "\n../run.sh \\\n -f x > log && ./run.sh"
    assert commands(text) == [["flash", "$i", "--yes"], ["-f", "x"], []]


@of("toml")
def test_toml_blocks_are_what_an_appliance_may_say(block: Block) -> None:
    reader.read(block.text, block.place, is_key)


@of("csv")
def test_lists_of_devices_have_known_columns(block: Block) -> None:
    head, *rows = list(csv.reader(io.StringIO(block.text)))
    assert set(head) <= {"host", "ssh_key", "ssh_user", "wifi_ssid", "wifi_password"}
    assert rows
    assert all(len(row) == len(head) for row in rows)


@of("yaml")
def test_yaml_blocks_can_be_read(block: Block) -> None:
    assert yaml.safe_load(block.text)


def test_json_blocks_can_be_read() -> None:
    for block in BLOCKS:
        if block.language == "json":
            json.loads(block.text)


def test_the_site_has_every_page_once() -> None:
    named = re.findall(r"^ +- (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    there = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert sorted(named) == sorted(there)
