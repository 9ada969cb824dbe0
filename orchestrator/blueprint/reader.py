"""Reads an appliance.toml: returns a `Blueprint`, or an error that tells all faults at once."""

import functools
import json
import re
import tomllib
import typing
from collections.abc import Callable

import pydantic
from pydantic_core import ErrorDetails

from orchestrator.blueprint import syntax
from orchestrator.blueprint.fields import IS_KEY
from orchestrator.blueprint.marks import BARE
from orchestrator.blueprint.meant import header, home, named, near, suggestion
from orchestrator.blueprint.model import Blueprint
from orchestrator.blueprint.positions import Path, Position, check_shape, positions
from orchestrator.blueprint.tables import SERVICES, others
from orchestrator.shared.errors import UsageError
from orchestrator.shared.text import whole

#: Faults that are told at most: a file that has more is another kind of file.
MOST = 30

#: Characters that stand for bytes that are not UTF-8: Docker's client writes the first one for
#: them, Python the others.
NO_UTF_8 = re.compile("[\ufffd\ud800-\udfff]")

#: What kinds of values TOML has, as messages name them.
KINDS = {
    str: "a text",
    bool: "true or false",
    int: "a number",
    float: "a number with a fraction",
    list: "an array",
    dict: "a table",
}

#: What was expected, by pydantic's error type.
EXPECTED = {
    "string_type": "a text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "tuple_type": "an array",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


#: Errors of a value that is no table, or no array of tables, where one was expected.
TABLES = {"tuple_type", "dict_type", "model_type", "model_attributes_type"}


class Fault(typing.NamedTuple):
    """One fault: where it stands, and what is wrong."""

    position: Position
    text: str


def read(text: str, name: str, is_public_key: Callable[[str], bool]) -> Blueprint:
    """Parse the text of the file `name`; `is_public_key` judges the users' keys.

    Raises `UsageError` with one line for each fault: file, line, column, what is wrong.
    """
    document = _parse(text, name)
    try:
        return Blueprint.model_validate(document, context={IS_KEY: is_public_key})
    except pydantic.ValidationError as error:
        places = positions(text)
        found = error.errors(include_url=False)
    between = [one for error in found for one in error.get("ctx", {}).get("faults", ())]
    found = [error for error in found if error["type"] != "between"]
    found.sort(key=lambda one: _position(one, places))
    faults = {_fault(one, places) for one in found[:MOST]}
    faults |= {Fault(places[path], text) for path, text in between[:MOST]}
    lines = [f"{name}:{line}:{column}: {what}" for (line, column), what in sorted(faults)]
    more = len(found) + len(between) - MOST
    lines += [f"{name}: and {more} more mistakes"] if more > 0 else []
    raise UsageError(
        "\n".join(lines), hint="docs/appliance.md has all keys; ./run.sh init writes a new file"
    )


def _parse(text: str, name: str) -> dict[str, typing.Any]:
    if bad := NO_UTF_8.search(text):
        line = text.count("\n", 0, bad.start()) + 1
        raise UsageError(f"{name}:{line}: not TOML: it is not UTF-8", hint="save the file as UTF-8")
    text = text.removeprefix("\ufeff")  # which editors of Windows put there
    try:
        check_shape(text)
        return tomllib.loads(text)
    except ValueError as error:
        told = syntax.tell(error, text)
        raise UsageError(f"{name}:{told.text}", hint=told.hint) from error


def _path(error: ErrorDetails, places: dict[Path, Position]) -> Path:
    """Return where in the document a fault is."""
    # Parts of the place that no document has are names of types: of a union, of a wrapper.
    path: Path = ()
    for part in error["loc"]:
        if (*path, part) in places:
            path = (*path, part)
    return path


def _position(error: ErrorDetails, places: dict[Path, Position]) -> Position:
    return places.get(_path(error, places), (1, 1))


def _fault(error: ErrorDetails, places: dict[Path, Position]) -> Fault:
    path = _path(error, places)
    unknown = error["type"] == "extra_forbidden"
    missing = error["type"] == "missing"
    shown = _shown(path)
    where = _position(error, places)
    if unknown:
        return Fault(where, f"{shown} is unknown{_unknown(path)}")
    if missing:
        return Fault(where, f"{_prefix(shown)}{error['loc'][-1]} is missing")
    if path[:1] == ("services",) and len(path) == 2 and error["type"] == "model_type":
        found = _kind(error["input"])
        return Fault(where, f"{shown}: expected true, false or a table, found {found}")
    return Fault(where, f"{_prefix(shown)}{why(error)}{_rewritten(path, error)}")


def _unknown(path: Path) -> str:
    """Return what the last key of `path`, which is unknown where it stands, should have been."""
    name, known = str(path[-1]), _siblings(path)
    words = others(SERVICES) if path[:-1] == ("services",) else {}
    misspelled = near(name, known, words, likeness=0.9)
    return (not misspelled and home(name, _schema())) or suggestion(name, known, words)


def _rewritten(path: Path, error: ErrorDetails) -> str:
    """Return how a value of the wrong kind is written, as the end of a message, or ""."""
    kind, given = error["type"], error["input"]
    if kind == "tuple_type" and isinstance(given, str | int) and not isinstance(given, bool):
        return f": write [{json.dumps(given, ensure_ascii=False)}]"
    if kind == "int_type" and isinstance(given, str) and (number := whole(given)) is not None:
        return f": write {number}"
    if kind == "bool_type" and isinstance(given, str) and given.lower() in syntax.TRUTHS:
        return f": write {syntax.TRUTHS[given.lower()]}"
    table = str(path[0]) if path else ""
    if kind in TABLES and (len(path) == 1 or path[0] == "image"):
        title = header(table, _schema()["properties"][table], _schema())
        return f": write {title}" if title else ""
    return ""


def why(error: ErrorDetails) -> str:
    """Return what is wrong with a value, in words for people."""
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "unknown":
        known = list(context["known"])
        return f"{given!r} is no {context['what']}{suggestion(given, known, **context['more'])}"
    if kind == "string_type" and isinstance(given, int | float) and not isinstance(given, bool):
        return f'expected a text, found a number: write "{given}"'
    if kind in EXPECTED:
        return f"expected {EXPECTED[kind]}, found {_kind(given)}"
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return f"{given!r} is not one of {context['expected']}"
    if kind in {"greater_than_equal", "less_than_equal"}:
        limits = {"ge": "at least", "le": "at most"}
        bound = next(f"{word} {context[key]}" for key, word in limits.items() if key in context)
        return f"{given} must be {bound}"
    if kind == "too_short":
        return "at least one is needed"
    if kind == "string_too_short":
        return "the text is empty"
    return error["msg"][:1].lower() + error["msg"][1:]


def _kind(value: object) -> str:
    return KINDS.get(type(value), "a date or time")


def _siblings(path: Path) -> list[str]:
    """Return the keys that are known where `path` ends."""
    schema = _schema()
    shapes = [schema]
    for part in path[:-1]:
        shapes = [below for shape in shapes for below in _below(shape, part, schema)]
    return sorted({name for shape in shapes for name in shape.get("properties", {})})


@functools.cache
def _schema() -> dict[str, typing.Any]:
    return Blueprint.model_json_schema(by_alias=True)


def _below(
    shape: dict[str, typing.Any], part: str | int, schema: dict[str, typing.Any]
) -> list[dict[str, typing.Any]]:
    """Return the schemas of the values at `part`."""
    if isinstance(part, int):
        found = [shape.get("items", {})]
    else:
        found = [shape.get("properties", {}).get(part, named(shape))]
    flat: list[dict[str, typing.Any]] = []
    for one in found:
        for choice in one.get("anyOf", [one]):
            reference = choice.get("$ref", "").rpartition("/")[2]
            flat.append(schema["$defs"][reference] if reference else choice)
    return flat


def _shown(path: Path) -> str:
    """Write a path as TOML's users know it, on one line: users[1].keys[0]."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            text += ("." if text else "") + (
                part if BARE.fullmatch(part) else json.dumps(part, ensure_ascii=False)
            )
    return text


def _prefix(shown: str) -> str:
    return f"{shown}: " if shown else ""
