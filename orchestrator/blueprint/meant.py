"""Finds what somebody meant: the known name next to a wrong one, the table of a misplaced key."""

import difflib
import re
import typing
from collections.abc import Iterable, Mapping

#: Names that are listed in a message, at most.
LISTED = 20


def near(
    name: str,
    known: Iterable[str],
    others: Mapping[str, str] | None = None,
    *,
    likeness: float = 0.6,
) -> str:
    """Return the one of `known` that `name` means, or "".

    `others` has other words for a known name, `likeness` is that of `difflib`. Case, dashes, blanks
    and dots do not count. A name with another number means another thing: no model 5 is a model 4.
    """
    words = {_plain(one): one for one in known}
    words |= {_plain(word): one for word, one in (others or {}).items()}
    plain = _plain(name)
    if plain in words:
        return words[plain]
    found = difflib.get_close_matches(plain, words, n=3, cutoff=likeness)
    same = [one for one in found if not _numbers(plain) or _numbers(one) == _numbers(plain)]
    return words[same[0]] if same else ""


def suggestion(
    name: str,
    known: Iterable[str],
    others: Mapping[str, str] | None = None,
    *,
    lister: str = "",
) -> str:
    """Return the end of a message about the unknown `name`: the likely one, or all that are known.

    `lister` is what lists them where they are too many.
    """
    names = list(known)
    if found := near(name, names, others):
        return f": did you mean {found}?"
    if len(names) <= LISTED:
        return f"; known: {', '.join(names)}"
    return f"; {lister} lists them" if lister else ""


def _plain(name: str) -> str:
    return re.sub(r"[\s._-]", "", name.casefold())


def _numbers(name: str) -> list[str]:
    return re.findall(r"[0-9]+", name)


#: A JSON Schema, or a part of one.
Schema = dict[str, typing.Any]


def named(shape: Schema) -> Schema:
    """Return the schema of the values of a table whose keys are names, or {}."""
    found: Schema = next(iter(shape.get("patternProperties", {}).values()), {})
    return found


def header(name: str, shape: Schema, schema: Schema) -> str:
    """Return how the header of the table `name` is written whose schema is `shape`, or "".

    It is empty where the value is no table.
    """
    for one in shape.get("anyOf", [shape]):
        if named(one):
            return f"[{name}.NAME]"
        if _is_table(one, schema):
            return f"[{name}]"
        if _is_table(one.get("items", {}), schema):
            return f"[[{name}]]"
    return ""


def home(key: str, schema: Schema) -> str:
    """Return where in an appliance.toml the `key` belongs, as the end of a message, or ""."""
    name = key.replace("_", "-")
    properties = schema["properties"]
    if name in properties:
        if title := header(name, properties[name], schema):
            return f": it is a table of its own, {title}"
        return ": it belongs to the top of the file, above the first table"
    for table, shape in properties.items():
        for one in shape.get("anyOf", [shape]):
            for below in (one, one.get("items", {}), named(one)):
                if _is_table(below, schema) and name in _resolved(below, schema)["properties"]:
                    return f": it belongs to {header(table, shape, schema)}"
    return ""


def _is_table(shape: Schema, schema: Schema) -> bool:
    return "properties" in _resolved(shape, schema)


def _resolved(shape: Schema, schema: Schema) -> Schema:
    name = shape.get("$ref", "").rpartition("/")[2]
    found: Schema = schema["$defs"][name] if name else shape
    return found
