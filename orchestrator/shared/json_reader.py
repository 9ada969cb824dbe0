"""Reads JSON into frozen dataclasses, strictly.

A type is a dataclass or a type of its fields: `str`, `int`, `float`, `bool`, `typing.Any`,
`typing.Literal`, `X | None`, a union of dataclasses, `tuple`, `list`, `dict[str, X]`. Further rules
are annotations: `typing.Annotated[int, natural]`. A rule is a function that raises `ValueError`
with the reason. Unknown fields are errors, because a request must not be ignored silently.

Another program's answer is a `typing.TypedDict` with the fields that are wanted of it. The others,
which another version may have, are left out.
"""

import dataclasses
import functools
import json
import math
import re
import reprlib
import types
import typing
from collections.abc import Callable, Collection

#: Characters not allowed in a line of text: control characters, and surrogates, which UTF-8 cannot
#: encode.
UNUSABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")

#: Characters that no program argument can contain: NUL, and surrogates, which UTF-8 cannot encode.
UNWRITABLE = re.compile("[\x00\ud800-\udfff]")

#: Upper bound of all other numbers: those above have no float, or no sum.
LARGEST = 1 << 63

#: Upper bound of sizes, 16 TiB in MiB, as on the command line: larger ones overflow in some tool.
TOO_LARGE_MIB = 1 << 24

#: Field that names the dataclass in a union of dataclasses.
KIND = "kind"


class JsonError(Exception):
    """A JSON document is invalid; the message begins with the field's path."""


def natural(value: int) -> None:
    """Rule: the number is not negative, and not above LARGEST."""
    if value < 0:
        raise ValueError(f"{_shown(value)} is negative")
    if value > LARGEST:
        raise ValueError(f"{_shown(value)} is too large")


def counted(value: int) -> int:
    """Return the number, or the nearest one that `natural` allows."""
    return min(max(value, 0), LARGEST)


def bounded(value: int) -> None:
    """Rule: the number is not above LARGEST, and not below -LARGEST."""
    if abs(value) > LARGEST:
        raise ValueError(f"{_shown(value)} is too large")


def mebibytes(value: int) -> None:
    """Rule: the number is a size in MiB below TOO_LARGE_MIB."""
    if value >= TOO_LARGE_MIB:
        raise ValueError(f"{_shown(value)} MiB is more than the limit of 16 TiB")
    natural(value)


def one_of(names: Collection[str]) -> Callable[[str], None]:
    """Return a rule: the text is one of `names`."""

    def rule(value: str) -> None:
        if value not in names:
            raise ValueError(f"{_shown(value)} is not one of {', '.join(names)}")

    return rule


def free_text(value: str) -> None:
    """Rule: the text may have several lines; texts without this rule are one line."""
    if UNWRITABLE.search(value):
        raise ValueError(f"{_shown(value)} has characters that are not allowed in a text")


#: Any type expression, also those that `type[T]` excludes: `int | None`, `tuple[int, ...]`.
type Form = typing.Any

Natural = typing.Annotated[int, natural]
Whole = typing.Annotated[int, bounded]
MiB = typing.Annotated[int, mebibytes]
FreeText = typing.Annotated[str, free_text]


def read_json(text: str, where: str) -> object:
    """Parse JSON; refuse repeated fields, NaN and infinite numbers, and excessive nesting.

    Raises `JsonError`.
    """

    def number(name: str) -> float:
        raise JsonError(f"{where}: {name} is no JSON number")

    def finite(digits: str) -> float:
        value = float(digits)
        return value if math.isfinite(value) else number(digits[:40])

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        fields: dict[str, object] = {}
        for name, value in pairs:
            if name in fields:
                raise JsonError(f"{where}: field {_shown(name)} is repeated")
            fields[name] = value
        return fields

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=number, parse_float=finite)
    except (ValueError, RecursionError) as error:
        raise JsonError(f"{where}: not JSON: {error}") from error


def from_json[T](kind: type[T], value: object, where: str) -> T:
    """Convert a parsed JSON value to `kind`; `where` begins the paths in error messages.

    Raises `JsonError` with the path of the first invalid field.
    """
    return typing.cast("T", _build(kind, value, where))


def _build(kind: Form, value: object, where: str) -> object:
    """Convert `value` to the type expression `kind`."""
    if kind is typing.Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _build_fields(typing.cast("type", kind), value, where)
    if typing.is_typeddict(kind):
        return _build_known(typing.cast("type", kind), value, where)
    origin: object = typing.get_origin(kind)
    parts = typing.get_args(kind)
    if origin is typing.NotRequired:
        return _build(parts[0], value, where)
    if origin is typing.Annotated:
        return _build_annotated(parts[0], kind.__metadata__, value, where)
    if origin is typing.Literal:
        if value not in parts:
            raise JsonError(f"{where}: {_shown(value)} is not one of {', '.join(map(str, parts))}")
        return value
    if origin is types.UnionType or origin is typing.Union:
        return _build_union(parts, value, where)
    if origin is tuple:
        return _build_tuple(parts, value, where)
    if origin is list:
        return list(_build_tuple((*parts, ...), value, where))
    if origin is dict:
        if not isinstance(value, dict):
            raise JsonError(f"{where}: expected an object, found {_shown(value)}")
        return {
            _build(str, name, where): _build(parts[1], item, f"{where}.{name}")
            for name, item in value.items()
        }
    return _build_plain(kind, value, where)


def _build_plain(kind: type, value: object, where: str, *, one_line: bool = True) -> object:
    """Convert to a number, bool or str."""
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not abs(value) <= LARGEST:  # NaN is not, either
            raise JsonError(f"{where}: {_shown(value)} is too large")
        return float(value)
    if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
        raise JsonError(f"{where}: expected {kind.__name__}, found {_shown(value)}")
    if one_line and isinstance(value, str) and UNUSABLE.search(value):
        raise JsonError(f"{where}: {_shown(value)} has characters that are not allowed in a text")
    return value


def _build_annotated(
    kind: Form, rules: tuple[typing.Any, ...], value: object, where: str
) -> object:
    if kind is str:
        built = _build_plain(str, value, where, one_line=free_text not in rules)
    else:
        built = _build(kind, value, where)
    for rule in rules:
        try:
            rule(built)
        except ValueError as error:
            raise JsonError(f"{where}: {error}") from error
    return built


def _build_union(parts: tuple[typing.Any, ...], value: object, where: str) -> object:
    """Convert to one of `parts`: None for null, else the dataclass that field KIND names."""
    if value is None and types.NoneType in parts:
        return None
    kinds = {part.__name__: part for part in parts if isinstance(part, type)}
    kinds = {name: part for name, part in kinds.items() if dataclasses.is_dataclass(part)}
    if len(kinds) < 2:
        return _build(next(part for part in parts if part is not types.NoneType), value, where)
    if not isinstance(value, dict):
        raise JsonError(f"{where}: expected an object, found {_shown(value)}")
    name = _build_annotated(str, (one_of(kinds),), value.get(KIND), f"{where}.{KIND}")
    fields = {field: item for field, item in value.items() if field != KIND}
    return _build_fields(kinds[str(name)], fields, where)


def _build_tuple(parts: tuple[typing.Any, ...], value: object, where: str) -> tuple[object, ...]:
    if not isinstance(value, list):
        raise JsonError(f"{where}: expected a list, found {_shown(value)}")
    kinds = [parts[0]] * len(value) if parts[1:] == (...,) else list(parts)
    if len(kinds) != len(value):
        raise JsonError(f"{where}: expected {len(kinds)} values, found {_shown(value)}")
    return tuple(
        _build(kind, item, f"{where}[{at}]")
        for at, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


@functools.cache
def _fields_of(kind: type) -> tuple[dict[str, typing.Any], frozenset[str]]:
    """Return the types of a dataclass' fields by name, and the names of required fields."""
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = dataclasses.fields(kind)
    needed = {
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    return {field.name: hints[field.name] for field in fields}, frozenset(needed)


def _build_fields(kind: type, value: object, where: str) -> object:
    if not isinstance(value, dict):
        raise JsonError(f"{where}: expected an object, found {_shown(value)}")
    hints, needed = _fields_of(kind)
    unknown = sorted(value.keys() - hints.keys())
    if unknown:
        raise JsonError(f"{where}: unknown field {', '.join(unknown)[:200]}")
    missing = sorted(needed - value.keys())
    if missing:
        raise JsonError(f"{where}: field {', '.join(missing)} is missing")
    return kind(
        **{name: _build(hints[name], item, f"{where}.{name}") for name, item in value.items()}
    )


@functools.cache
def _known_of(kind: type) -> tuple[dict[str, typing.Any], frozenset[str]]:
    """Return the types of a TypedDict's fields by name, and the names of required fields."""
    needed: frozenset[str] = kind.__required_keys__  # type: ignore[attr-defined]
    return typing.get_type_hints(kind, include_extras=True), needed


def _build_known(kind: type, value: object, where: str) -> object:
    """Convert to a TypedDict, without the fields that it does not have."""
    if not isinstance(value, dict):
        raise JsonError(f"{where}: expected an object, found {_shown(value)}")
    hints, needed = _known_of(kind)
    if missing := sorted(needed - value.keys()):
        raise JsonError(f"{where}: field {', '.join(missing)} is missing")
    return {
        name: _build(hint, value[name], f"{where}.{name}")
        for name, hint in hints.items()
        if name in value
    }


def _shown(value: object) -> str:
    """Shorten `value` to one line."""
    return reprlib.repr(value)
