"""Types of the fields of an appliance.toml: texts, names and paths, with what is wrong in words."""

import re
import typing
from collections.abc import Callable

import pydantic
import pydantic_core

from orchestrator.blueprint import places
from orchestrator.blueprint.marks import GITHUB, PATHS
from orchestrator.blueprint.tables import BOARDS
from orchestrator.image.late import check_host
from orchestrator.shared import nixos_formats
from orchestrator.shared.architectures import SYSTEMS
from orchestrator.shared.filesystems import ROOTS
from orchestrator.shared.json_reader import UNUSABLE, UNWRITABLE
from orchestrator.shared.spec import Compression, PartitionTable, SpecError

#: The key `services` of the context in which a blueprint is validated: whether a text is a public
#: SSH key. Without a context, keys are not looked into.
IS_KEY = "is_public_key"


def _line(text: str) -> str:
    if UNUSABLE.search(text):
        raise ValueError("control characters are not allowed")
    return text


def _free(text: str) -> str:
    if UNWRITABLE.search(text):
        raise ValueError("the character U+0000 is not allowed")
    return text


def _host(text: str) -> str:
    try:
        check_host(text, "host-name")
    except SpecError as error:
        raise ValueError(f"{text!r} is not a host name: letters, digits and -") from error
    return text


def pattern(wanted: str, what: str) -> pydantic.AfterValidator:
    """Return a validator: the whole text matches `wanted`; `what` says what was expected."""

    def check(text: str) -> str:
        if not re.fullmatch(wanted, text):
            raise ValueError(f"{text!r} is not {what}")
        return text

    return pydantic.AfterValidator(check)


def _near(known: Callable[[], list[str]], what: str) -> pydantic.AfterValidator:
    """Return a validator: the text is one of `known`, the names of `what`, listed when needed."""

    def check(text: str) -> str:
        if text not in (names := known()):
            raise pydantic_core.PydanticCustomError(
                "unknown", "{text} is no {what}", {"text": text, "what": what, "known": names}
            )
        return text

    return pydantic.AfterValidator(check)


def _country(text: str) -> str:
    # Of two letters every code is like every other: no likely one is named.
    if text not in places.countries():
        raise ValueError(f"{text!r} is no country's code of ISO 3166, such as DE, GB or US")
    return text


def _formats() -> list[str]:
    table = nixos_formats.read_formats()
    return sorted(name for one in table for name in (one.name, *one.aliases))


class _Enum:
    """Annotation of a text that is one of `known`, the names of `what`."""

    def __init__(self, known: typing.Iterable[str], what: str) -> None:
        self._names = sorted(known)
        self._what = what

    def __get_pydantic_core_schema__(
        self, source: type, handler: pydantic.GetCoreSchemaHandler
    ) -> pydantic_core.CoreSchema:
        return _near(lambda: self._names, self._what).__get_pydantic_core_schema__(source, handler)

    def __get_pydantic_json_schema__(
        self, _schema: pydantic_core.CoreSchema, _handler: pydantic.GetJsonSchemaHandler
    ) -> dict[str, typing.Any]:
        return {"type": "string", "enum": self._names}


def _key(text: str, info: pydantic.ValidationInfo) -> str:
    judge = (info.context or {}).get(IS_KEY)
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
HostName = typing.Annotated[str, pydantic.AfterValidator(_host)]
Port = typing.Annotated[int, pydantic.Field(ge=1, le=65535)]
Ports = tuple[Port, ...]
Path = typing.Annotated[str, pydantic.Field(min_length=1), pydantic.AfterValidator(_line)]
Size = typing.Annotated[
    str,
    pattern(r"auto|[0-9]{1,9}[KMGT]?", "a size: auto, or a number of MiB, or one with M, G or T"),
]
SMALL = r"[a-z_][a-z0-9_-]{0,31}"
UserName = typing.Annotated[str, pattern(SMALL, "a user's name: small letters, digits, - and _")]
GroupName = typing.Annotated[str, pattern(SMALL, "a group's name: small letters, digits, - and _")]
Key = typing.Annotated[str, pydantic.AfterValidator(_line), pydantic.AfterValidator(_key)]
Package = typing.Annotated[
    str,
    pattern(r"[A-Za-z_][A-Za-z0-9_'-]*(\.[A-Za-z_0-9][A-Za-z0-9_'-]*)*", "a package's name"),
]
TimeZone = typing.Annotated[
    str,
    pydantic.Field(pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$"),
    _near(places.zones, "time zone"),
]
Country = typing.Annotated[
    str,
    pattern("[A-Z]{2}", "a country of two capital letters"),
    pydantic.AfterValidator(_country),
]
BoardName = typing.Annotated[str, _Enum(BOARDS, "board")]
FormatName = typing.Annotated[str, _Enum(_formats(), "format")]
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
        extra="forbid", frozen=True, strict=True, alias_generator=_dashed, validate_by_name=True
    )


def about(text: str) -> typing.Any:  # noqa: ANN401 - as pydantic.Field
    """Return an optional field without a value, with its description."""
    return pydantic.Field(default=None, description=text)


def some(text: str) -> typing.Any:  # noqa: ANN401 - as pydantic.Field
    """Return a field that is empty by default, with its description."""
    return pydantic.Field(default=(), description=text)


Many = pydantic.Strict(False)  # TOML has arrays, a frozen model tuples
