"""Types of the fields of an appliance.toml: texts, names and paths, with what is wrong in words."""

import re
import typing
from collections.abc import Callable

import pydantic
import pydantic_core

from orchestrator.blueprint import places
from orchestrator.blueprint.marks import GITHUB, PATHS
from orchestrator.blueprint.tables import BOARDS, others
from orchestrator.shared import nixos_formats
from orchestrator.shared.architectures import SYSTEMS
from orchestrator.shared.filesystems import ROOTS
from orchestrator.shared.json_reader import UNUSABLE, UNWRITABLE
from orchestrator.shared.spec import Compression, PartitionTable
from orchestrator.shared.text import USER_NAME

#: The key `services` of the context in which a blueprint is validated: whether a text is a public
#: SSH key. Without a context, keys are not looked into.
IS_KEY = "is_public_key"

#: Beginning of a private key, of OpenSSH or PuTTY.
PRIVATE = re.compile("-----BEGIN [A-Z ]*PRIVATE KEY-----|PuTTY-User-Key-File")


def _line(text: str) -> str:
    if UNUSABLE.search(text):
        raise ValueError("control characters are not allowed")
    return text


def _free(text: str) -> str:
    if UNWRITABLE.search(text):
        raise ValueError("the character U+0000 is not allowed")
    return text


class _Form:
    """Annotation of a text that `wanted` matches as a whole; `fault` tells about another.

    The JSON Schema has the pattern, too.
    """

    def __init__(self, wanted: str, fault: Callable[[str], str]) -> None:
        self._wanted = wanted
        self._fault = fault

    def __get_pydantic_core_schema__(
        self, source: type, handler: pydantic.GetCoreSchemaHandler
    ) -> pydantic_core.CoreSchema:
        return pydantic.AfterValidator(self._check).__get_pydantic_core_schema__(source, handler)

    def __get_pydantic_json_schema__(
        self, _schema: pydantic_core.CoreSchema, _handler: pydantic.GetJsonSchemaHandler
    ) -> dict[str, typing.Any]:
        return {"type": "string", "pattern": f"^(?:{self._wanted})$"}

    def _check(self, text: str) -> str:
        if not re.fullmatch(self._wanted, text):
            raise ValueError(self._fault(text))
        return text


def pattern(wanted: str, what: str) -> _Form:
    """Return an annotation: the whole text matches `wanted`; `what` says what was expected."""
    return _Form(wanted, lambda text: f"{text!r} is not {what}")


def _group(text: str) -> str:
    if text in {"sudo", "admin"}:  # Debian's and Ubuntu's
        raise ValueError(f"NixOS has no group {text}: administrators are in wheel")
    return text


def _no_size(text: str) -> str:
    other = re.fullmatch(r"([1-9][0-9]*) ?([kmgt])i?b?", text.lower())
    wanted = f"write {other[1]}{other[2].upper()}" if other else "auto, or a number of MiB, or 8G"
    return f"{text!r} is not a size: {wanted}"


def hidden_pattern(wanted: str, fault: str) -> _Form:
    """Return an annotation: as `pattern`, but `fault` is told without the text."""
    return _Form(wanted, lambda _text: fault)


def _near(known: Callable[[], list[str]], what: str, **more: object) -> pydantic.AfterValidator:
    """Return a validator: the text is one of `known`, the names of `what`, listed when needed.

    `more` goes to `meant.suggestion`.
    """

    def check(text: str) -> str:
        if text not in (names := known()):
            raise pydantic_core.PydanticCustomError(
                "unknown", "{text} is no {what}", {"what": what, "known": names, "more": more}
            )
        return text

    return pydantic.AfterValidator(check)


def _country(text: str) -> str:
    # Of two letters every code is like every other: no likely one is named.
    if text.upper() in places.countries() and text != text.upper():
        raise ValueError(f"{text!r} is not a country of two capital letters: write {text.upper()}")
    if text not in places.countries():
        raise ValueError(f"{text!r} is no country's code of ISO 3166, such as DE, GB or US")
    return text


def _formats() -> list[str]:
    table = nixos_formats.read_formats()
    return sorted(name for one in table for name in (one.name, *one.aliases))


class _Enum:
    """Annotation of a text that is one of `known`, the names of `what`.

    `more` goes to `meant.suggestion`.
    """

    def __init__(self, known: typing.Iterable[str], what: str, **more: object) -> None:
        self._names = sorted(known)
        self._what = what
        self._more = more

    def __get_pydantic_core_schema__(
        self, source: type, handler: pydantic.GetCoreSchemaHandler
    ) -> pydantic_core.CoreSchema:
        near = _near(lambda: self._names, self._what, **self._more)
        return near.__get_pydantic_core_schema__(source, handler)

    def __get_pydantic_json_schema__(
        self, _schema: pydantic_core.CoreSchema, _handler: pydantic.GetJsonSchemaHandler
    ) -> dict[str, typing.Any]:
        return {"type": "string", "enum": self._names}


def _key(text: str, info: pydantic.ValidationInfo) -> str:
    judge = (info.context or {}).get(IS_KEY)
    if PRIVATE.search(text):
        raise ValueError("that is a private key, which stays on your computer: write its .pub file")
    _line(text)
    if text.startswith(PATHS):
        return text
    if text.startswith(GITHUB):
        if not re.fullmatch(r"github:[A-Za-z0-9-]{1,39}", text):
            raise ValueError(f"{text!r} is not github: and a user's name")
        return text
    if judge and not judge(text):
        raise ValueError(
            f"{text[:40]!r} is no public SSH key: write the line of a .pub file, the path of one"
            " (beginning with ./, ../, ~/ or /), or github:NAME"
        )
    return text


Line = typing.Annotated[str, pydantic.AfterValidator(_line)]
FreeText = typing.Annotated[str, pydantic.AfterValidator(_free)]
HostName = typing.Annotated[
    str,
    pattern(
        r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?",
        "a host name: letters, digits and -",
    ),
]
Port = typing.Annotated[int, pydantic.Field(ge=1, le=65535)]
Ports = tuple[Port, ...]
Path = typing.Annotated[str, pydantic.Field(min_length=1), pydantic.AfterValidator(_line)]
Size = typing.Annotated[str, _Form(r"auto|0*[1-9][0-9]{0,8}[KMGT]?", _no_size)]
UserName = typing.Annotated[
    str, pattern(USER_NAME, "a user's name: small letters, digits, - and _")
]
GroupName = typing.Annotated[
    str,
    pattern(USER_NAME, "a group's name: small letters, digits, - and _"),
    pydantic.AfterValidator(_group),
]
Key = typing.Annotated[str, pydantic.AfterValidator(_key)]
Package = typing.Annotated[
    str,
    pattern(r"[A-Za-z_][A-Za-z0-9_'-]*(\.[A-Za-z_0-9][A-Za-z0-9_'-]*)*", "a package's name"),
]
TimeZone = typing.Annotated[
    str,
    _near(places.zones, "time zone"),
    pydantic.WithJsonSchema({"type": "string", "pattern": r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$"}),
]
Locale = typing.Annotated[
    str,
    pattern(
        r"(C|POSIX|[a-z]{2,3}(_[A-Z]{2})?)(\.[A-Za-z0-9-]+)?(@[a-z]+)?",
        "a language of a country: de_DE.UTF-8",
    ),
]
Keymap = typing.Annotated[str, pattern(r"[A-Za-z0-9_+-]+", "the name of a keymap: de-latin1")]
HashedPassword = typing.Annotated[
    str,
    hidden_pattern(
        r"\$[!-9;-~]+",
        "that is no hashed password, which begins with $: mkpasswd or openssl passwd -6 prints one",
    ),
]
Release = typing.Annotated[str, pattern(r"[0-9]{2}\.(05|11)", "a release of NixOS: 26.05")]
Nixpkgs = typing.Annotated[
    str,
    pydantic.AfterValidator(_line),
    pattern(
        r"[0-9]{2}\.(05|11)|(\.{1,2}|~)?/.+|.+:.+",
        "a release (26.05), a folder (./nixpkgs) or a reference (github:NixOS/nixpkgs/NAME)",
    ),
]
Mode = typing.Annotated[str, pattern(r"[0-7]{3,4}", "octal permissions: 644")]
Country = typing.Annotated[
    str,
    pydantic.AfterValidator(_country),
    pydantic.WithJsonSchema({"type": "string", "pattern": "^[A-Z]{2}$"}),
]
BoardName = typing.Annotated[str, _Enum(BOARDS, "board", others=others(BOARDS))]
FormatName = typing.Annotated[str, _Enum(_formats(), "format", lister="./run.sh formats")]
SystemName = typing.Annotated[str, _Enum(SYSTEMS, "system")]
FsName = typing.Annotated[str, _Enum(ROOTS, "root file system")]
TableName = typing.Annotated[
    str, _Enum(set(typing.get_args(PartitionTable)) - {"sd-card"}, "partition table")
]
CompressionName = typing.Annotated[str, _Enum(typing.get_args(Compression), "compression")]


def _dashed(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


class Table(pydantic.BaseModel):
    """A table: its keys are written with dashes, and no other key is allowed."""

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, strict=True, alias_generator=_dashed
    )


def about(text: str) -> typing.Any:  # noqa: ANN401 - as pydantic.Field
    """Return an optional field without a value, with its description."""
    return pydantic.Field(default=None, description=text)


def some(text: str) -> typing.Any:  # noqa: ANN401 - as pydantic.Field
    """Return a field that is empty by default, with its description."""
    return pydantic.Field(default=(), description=text)


Many = pydantic.Strict(False)  # TOML has arrays, a frozen model tuples
