"""Tests the JSON reader: every kind of type, and paths in error messages."""

import dataclasses
import json
import pathlib
import time
import typing

import hypothesis
import pytest
from hypothesis import strategies as st

from orchestrator.shared.json_reader import (
    Form,
    FreeText,
    JsonError,
    MiB,
    Natural,
    from_json,
    one_of,
    read_json,
)
from orchestrator.shared.task import Task


@dataclasses.dataclass(frozen=True)
class Point:
    """A dataclass without defaults."""

    x: Natural
    y: int


@dataclasses.dataclass(frozen=True)
class Name:
    """A second dataclass, for unions."""

    text: str = ""


Shape = typing.Annotated[str, one_of(("round", "square"))]

GOOD: list[tuple[typing.Any, object, object]] = [
    (int, -7, -7),
    (float, 7, 7.0),
    (float, 7.5, 7.5),
    (bool, True, True),
    (str, "a b", "a b"),
    (FreeText, "a\nb\tc", "a\nb\tc"),
    (Shape, "round", "round"),
    (MiB, 5, 5),
    (int | None, None, None),
    (int | None, 3, 3),
    (MiB | None, None, None),
    (typing.Any, {"a": [1, None]}, {"a": [1, None]}),
    (tuple[int, ...], [1, 2, 3], (1, 2, 3)),
    (tuple[str, int], ["a", 1], ("a", 1)),
    (tuple[tuple[str, str], ...], [["a", "b"]], (("a", "b"),)),
    (dict[str, Natural], {"a": 1}, {"a": 1}),
    (Point, {"x": 1, "y": -2}, Point(1, -2)),
    (Name, {}, Name()),
    (Point | Name, {"kind": "Point", "x": 1, "y": 2}, Point(1, 2)),
    (Point | Name, {"kind": "Name", "text": "t"}, Name("t")),
]


@pytest.mark.parametrize(("kind", "value", "expected"), GOOD)
def test_each_kind_is_read(kind: Form, value: object, expected: object) -> None:
    found = from_json(kind, value, "it")
    assert found == expected
    assert type(found) is type(expected)


BAD: list[tuple[typing.Any, object, str]] = [
    (int, True, r"^it: expected int, found True$"),
    (int, 1.0, r"^it: expected int, found 1\.0$"),
    (float, False, r"^it: expected float, found False$"),
    (float, "1", r"^it: expected float, found '1'$"),
    (bool, 0, r"^it: expected bool, found 0$"),
    (str, None, r"^it: expected str, found None$"),
    (str, "a\nb", r"^it: 'a\\nb' has characters that are not allowed in a text$"),
    (str, "\ud800", r"^it: .* has characters that are not allowed in a text$"),
    (FreeText, "a\0", r"^it: .* has characters that are not allowed in a text$"),
    (FreeText, "\udfff", r"^it: .* has characters that are not allowed in a text$"),
    (FreeText, 1, r"^it: expected str, found 1$"),
    (Shape, "flat", r"^it: 'flat' is not one of round, square$"),
    (typing.Annotated[str, str], "a\nb", r"^it: .* has characters that are not allowed in a text$"),
    (Shape, [], r"^it: expected str, found \[\]$"),
    (Natural, -1, r"^it: -1 is negative$"),
    (Natural, 10**400, r"^it: 1000\S+ is too large$"),
    (float, 10**400, r"^it: 1000\S+ is too large$"),
    (float, -1e300, r"^it: -1e\+300 is too large$"),
    (float, float("nan"), r"^it: nan is too large$"),
    (float, float("inf"), r"^it: inf is too large$"),
    (Natural | None, -1, r"^it: -1 is negative$"),
    (MiB, 1 << 24, r"^it: 16777216 MiB is more than the limit of 16 TiB$"),
    (tuple[int, ...], [1, "2"], r"^it\[1\]: expected int, found '2'$"),
    (tuple[int, ...], {}, r"^it: expected a list, found {}$"),
    (tuple[str, int], ["a"], r"^it: expected 2 values, found \['a'\]$"),
    (dict[str, int], [], r"^it: expected an object, found \[\]$"),
    (dict[str, int], {"a": ""}, r"^it\.a: expected int, found ''$"),
    (dict[str, int], {"a\n": 1}, r"^it: .* has characters that are not allowed in a text$"),
    (Point, {"x": 1}, r"^it: field y is missing$"),
    (Point, {"x": 1, "y": 2, "z": 3}, r"^it: unknown field z$"),
    (Point, {"x": -1, "y": 2}, r"^it\.x: -1 is negative$"),
    (Point | Name, {"x": 1, "y": 2}, r"^it\.kind: expected str, found None$"),
    (Point | Name, {"kind": "Line"}, r"^it\.kind: 'Line' is not one of Point, Name$"),
    (Point | Name, [], r"^it: expected an object, found \[\]$"),
]


@pytest.mark.parametrize(("kind", "value", "message"), BAD)
def test_what_is_wrong_is_named_by_its_path(kind: Form, value: object, message: str) -> None:
    with pytest.raises(JsonError, match=message) as caught:
        from_json(kind, value, "it")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', "{", "", "[" * 100_000])
def test_what_is_no_document_is_refused(text: str) -> None:
    with pytest.raises(JsonError, match=r"^it: "):
        read_json(text, "it")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
WORK = {"kind": "DemoTask", "system": "x86_64-linux", "authorized_keys": ["ssh-ed25519 A\tme"]}
TASK = {"work": WORK, "leased": True, "foreign": ["aarch64-linux"], "options": {"disk_size": 7}}


@hypothesis.given(st.sampled_from([*TASK, "private", "wait_seconds", "work.format"]), JSON)
@hypothesis.settings(max_examples=4 * hypothesis.settings().max_examples)
def test_any_field_of_a_task_is_read_or_refused_by_its_name(field: str, value: object) -> None:
    document = json.loads(json.dumps(TASK))
    *folders, name = field.split(".")
    inner = document
    for folder in folders:
        inner = inner[folder]
    inner[name] = value
    try:
        task = from_json(Task, document, "task")
    except JsonError as error:
        said = str(error)
    else:
        said = f"task.{field}"
        assert all(isinstance(system, str) for system in (*task.foreign, *task.private))
        assert isinstance(task.wait_seconds, float)
    assert said.startswith(f"task.{field}")


def test_a_task_that_is_no_json_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "task.json").write_text("{")
    with pytest.raises(JsonError, match=r"^task\.json: not JSON"):
        Task.read(tmp_path)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_no_json_number_is_is_refused(number: str) -> None:
    with pytest.raises(JsonError, match=f"^here: {number} is no JSON number$"):
        read_json(f'{{"a": [{number}]}}', "here")


def test_many_fields_of_which_one_is_repeated_take_no_time() -> None:
    fields = ",".join(f'"{number}":0' for number in [*range(200_000), 199_999])
    began = time.monotonic()
    with pytest.raises(JsonError, match=r"^it: field '199999' is repeated$"):
        read_json(f"{{{fields}}}", "it")
    assert time.monotonic() - began < 5


def test_a_repeated_name_is_told_in_short() -> None:
    name = "a" * 100_000
    with pytest.raises(JsonError, match=r"^it: field 'aaa.*aaa' is repeated$") as caught:
        read_json(f'{{"{name}":0,"{name}":0}}', "it")
    assert len(str(caught.value)) < 100
