"""Tests that each environment variable is in the table, is read, and has its default there."""

import functools
import pathlib
import re

import pytest

from orchestrator.shared import variables
from orchestrator.shared.paths import ROOT
from orchestrator.shared.variables import VARIABLES

#: Files that may read or set a variable.
PLACES = (
    "run.sh",
    "compose.yaml",
    "Dockerfile*",
    ".ci/*",
    "caller/*",
    "orchestrator/**/*",
    "tests/**/*",
    "benchmarks/**/*",
    "docs/*.md",
    "README.md",
)

TABLE = ROOT / "orchestrator/shared/variables.py"
OWN = (TABLE, ROOT / "docs/variables.md", pathlib.Path(__file__))

NAME = r"(?:NIXOS_IMAGE_[A-Z_]+[A-Z]|NIXOS_CONFIG|NIX_PATH|NO_COLOR)"

#: Patterns with which a shell, Compose, a Dockerfile and Python read a variable.
READS = (
    rf"\$\{{?({NAME})",
    rf'\bread\(\w+(?:\.\w+)?, "({NAME})"\)',
    rf'"({NAME})" (?:not )?in os\.environ',
)


@functools.cache
def texts() -> dict[pathlib.Path, str]:
    paths = [path for place in PLACES for path in ROOT.glob(place) if path.is_file()]
    found = {}
    for path in paths:
        if path not in OWN and "__pycache__" not in path.parts:
            found[path] = path.read_text(errors="replace")
    return found


@functools.cache
def read_somewhere() -> set[str]:
    every = "\n".join(texts().values())
    return {name for pattern in READS for name in re.findall(pattern, every)}


def test_every_variable_stands_in_the_table() -> None:
    found = {name: path for path, text in texts().items() for name in re.findall(NAME, text)}
    assert {name: path for name, path in found.items() if name not in VARIABLES} == {}


@pytest.mark.parametrize("name", VARIABLES)
def test_every_variable_of_the_table_is_read(name: str) -> None:
    assert name in read_somewhere()


@pytest.mark.parametrize(
    "name", [one.name for one in VARIABLES.values() if one.setter == "Compose"]
)
def test_what_compose_is_given_reaches_what_it_starts(name: str) -> None:
    text = (ROOT / "compose.yaml").read_text()
    assert re.search(rf"\$\{{{name}\b", text)


def test_a_default_is_that_of_the_table() -> None:
    """Defaults in files other than Python's agree with the table."""
    found = {
        (name, default)
        for text in texts().values()
        for name, default in re.findall(rf"\$\{{({NAME}):-((?:[^${{}}]|\$\{{[^}}]*\}})+)\}}", text)
    }
    assert len(found) > 5
    assert found <= {(one.name, one.default) for one in VARIABLES.values()}


def test_python_reads_them_in_one_way() -> None:
    """Python code reads variables by `read`, so that defaults are only in the table."""
    other = rf'(?:environ|environment|getenv)(?:\.get)?[\[(]"({NAME})"'
    for path in (ROOT / "orchestrator").rglob("*.py"):
        assert re.findall(other, path.read_text()) == [], path


def test_what_is_unset_or_empty_is_the_default() -> None:
    assert variables.read({}, "NIXOS_IMAGE_START_SECONDS") == "120"
    assert variables.read({"NIXOS_IMAGE_START_SECONDS": ""}, "NIXOS_IMAGE_START_SECONDS") == "120"
    assert variables.read({"NIXOS_IMAGE_START_SECONDS": "9"}, "NIXOS_IMAGE_START_SECONDS") == "9"
    with pytest.raises(KeyError):
        variables.read({"NIXOS_IMAGE_STRANGE": "1"}, "NIXOS_IMAGE_" + "STRANGE")


def test_the_documentation_has_the_table() -> None:
    assert variables.table() in (ROOT / "docs/variables.md").read_text()
