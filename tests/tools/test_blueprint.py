"""Tests with the real Nix that no text of an appliance.toml is code in the module made of it."""

import json
import pathlib
import random

import pytest

from orchestrator.blueprint import nix
from orchestrator.blueprint.reader import read
from orchestrator.shared import command
from orchestrator.shared.json_reader import UNWRITABLE

pytestmark = pytest.mark.needs("nix-instantiate")

#: What ends, begins or escapes something in Nix, and characters that lexers get wrong.
PIECES = (
    *("$", "{", "}", '"', "\\", "''", "\n", "\r", "\t", "$${", "${", "\\${", "''${", "''\\n", "#"),
    *("/*", "*/", ";", "]", "builtins.abort 1", "\x01", "\x7f", "\x85", "\u2028", "\ufeff", "é"),
    *("🔑", "/", "..", " ", "a"),
)


CHANCE = random.Random(1)  # noqa: S311 - no secret

TEXTS = (
    *PIECES,
    *(chr(code) for code in range(0x3000) if not UNWRITABLE.search(chr(code))),
    *("".join(CHANCE.choices(PIECES, k=CHANCE.randint(1, 9))) for _ in range(2000)),
)


def evaluated(expression: str, tmp_path: pathlib.Path) -> object:
    file = tmp_path / "x.nix"
    file.write_text(expression)
    words = ["nix-instantiate", "--eval", "--strict", "--json", "--read-write-mode", str(file)]
    return json.loads(command.run(words).stdout)


def test_nix_reads_each_text_as_it_was(tmp_path: pathlib.Path) -> None:
    files = ""
    for number, text in enumerate(TEXTS):
        quoted = json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
        files += f'[[files]]\ntarget = "/etc/{number}"\ntext = {quoted}\n'
    blueprint = read(f'image.a.board = "pc"\n{files}', "a.toml", lambda _key: True)
    (tmp_path / "module.nix").write_text(nix.module(blueprint, "a", path=str, keys={}))
    found = evaluated(
        "map (file: file.text) (builtins.attrValues (import ./module.nix"
        " { lib.mkDefault = x: x; pkgs = { }; }).environment.etc)",
        tmp_path,
    )
    assert isinstance(found, list)
    assert found == [TEXTS[number] for number in sorted(range(len(TEXTS)), key=str)]


def test_nix_reads_each_path_as_it_was(tmp_path: pathlib.Path) -> None:
    names = [text.replace("/", "") for text in TEXTS]
    names = [name for name in names if name.strip(".")]
    paths = "\n".join(
        nix.quoted_path(f"{start}/{name}/x") for name in names for start in (".", "/y")
    )
    found = evaluated(f"map toString [\n{paths}\n]", tmp_path)
    assert found == [f"{start}/{name}/x" for name in names for start in (str(tmp_path), "/y")]
