"""Tests that every place of a TOML document is found, with line and column."""

import tomllib
import typing

import hypothesis
import pytest
from hypothesis import strategies as st

from orchestrator.blueprint.positions import Path, positions

DOCUMENT = '''# comment with [brackets] = "x"
a = 1
"x y".b = [1, [2, 3], {k = "v, ]", l = [4]}]
d = 1979-05-27T07:32:00.5Z
f = [1.5, -2e3, inf]
m = """
[not] = "a table"
"""
[t.u]
z = [
  "a", # "c"
  'b',
]
[[r]]
k = 1
[[r.s]]
q = 2
[[r]]
k = [[1],[2]]
[r.y]
o = true
'''


def places(value: object, path: Path = ()) -> typing.Iterator[Path]:
    """Yield the places of all values in a parsed document."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield (*path, name)
            yield from places(one, (*path, name))
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield (*path, index)
            yield from places(one, (*path, index))


def test_each_value_has_its_line_and_column() -> None:
    found = positions(DOCUMENT)
    assert set(places(tomllib.loads(DOCUMENT))) == set(found)
    lines = DOCUMENT.splitlines()
    for path, word in (
        (("a",), "a = 1"),
        (("x y", "b"), "b = ["),
        (("x y", "b", 1, 1), "3]"),
        (("x y", "b", 2, "l", 0), "4]"),
        (("f", 1), "-2e3"),
        (("t", "u", "z", 1), "'b'"),
        (("r", 1), "r]]"),
        (("r", 0, "s", 0, "q"), "q = 2"),
        (("r", 1, "k", 1, 0), "2]]"),
        (("r", 1, "y", "o"), "o = true"),
    ):
        line, column = found[path]
        assert lines[line - 1][column - 1 :].startswith(word), path


NAMES = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=8)
VALUES = st.recursive(
    st.integers() | st.booleans() | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(NAMES, below, max_size=3),
    max_leaves=12,
)


def quoted(text: str) -> str:
    """Write a basic string of TOML."""
    plain = (f"\\U{ord(one):08x}" if not one.isprintable() or one in '"\\' else one for one in text)
    return f'"{"".join(plain)}"'


def written(value: object) -> str:
    """Write a value of TOML on one line."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return quoted(value)
        case list():
            return f"[{', '.join(written(one) for one in value)}]"
        case dict():
            pairs = (f"{quoted(name)} = {written(one)}" for name, one in value.items())
            return f"{{{', '.join(pairs)}}}"
    return str(value)


@hypothesis.given(document=st.dictionaries(NAMES, VALUES, max_size=4))
@hypothesis.settings(max_examples=2 * hypothesis.settings().max_examples)
def test_no_document_hides_a_place(document: dict[str, object]) -> None:
    text = "".join(f"{quoted(name)} = {written(value)}\n" for name, value in document.items())
    assert tomllib.loads(text) == document
    assert set(positions(text)) == set(places(document))


@pytest.mark.parametrize("text", ["", "# only a comment", "\n\n"])
def test_an_empty_document_has_no_places(text: str) -> None:
    assert positions(text) == {}
