"""The content of an appliance.toml as frozen types; pydantic checks it.

The field descriptions are the reference (docs/appliance.md) and the JSON Schema's.
"""

import posixpath
import re
import typing

import pydantic
import pydantic_core

from orchestrator.blueprint.marks import GITHUB, PATHS
from orchestrator.blueprint.tables import BOARDS, SERVICES, ServiceOption
from orchestrator.image import wifi
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


def _pattern(pattern: str, what: str) -> pydantic.AfterValidator:
    """Return a validator: the whole text matches `pattern`; `what` says what was expected."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{text!r} is not {what}")
        return text

    return pydantic.AfterValidator(check)


def _near(known: typing.Iterable[str], what: str) -> pydantic.AfterValidator:
    """Return a validator: the text is one of `known`, the names of `what`."""
    names = list(known)

    def check(text: str) -> str:
        if text not in names:
            raise pydantic_core.PydanticCustomError(
                "unknown", "{text} is no {what}", {"text": text, "what": what, "known": names}
            )
        return text

    return pydantic.AfterValidator(check)


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
        return _near(self._names, self._what).__get_pydantic_core_schema__(source, handler)

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
    _pattern(r"auto|[0-9]{1,9}[KMGT]?", "a size: auto, or a number of MiB, or one with M, G or T"),
]
UserName = typing.Annotated[str, _pattern(r"[a-z_][a-z0-9_-]{0,31}", "a user's name")]
GroupName = typing.Annotated[str, _pattern(r"[a-z_][a-z0-9_-]{0,31}", "a group's name")]
Key = typing.Annotated[str, pydantic.AfterValidator(_line), pydantic.AfterValidator(_key)]
Package = typing.Annotated[
    str,
    _pattern(r"[A-Za-z_][A-Za-z0-9_'-]*(\.[A-Za-z_0-9][A-Za-z0-9_'-]*)*", "a package's name"),
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


class Image(Table):
    """`[image.NAME]`: one image file for each of its formats."""

    board: BoardName | None = about("the machine; it decides format and system")
    format: FormatName | None = about("the image's format, instead of a board")
    formats: typing.Annotated[tuple[FormatName, ...], Many] = some("several formats")
    system: SystemName | None = about(
        "the system to build for (default: the board's, else this computer's if the format has it)"
    )
    host_name: HostName | None = about("the machine's name (default: the image's name)")
    time_zone: typing.Annotated[
        str | None, pydantic.Field(pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$")
    ] = about("a time zone: Europe/Berlin")
    locale: typing.Annotated[
        str | None, pydantic.Field(pattern=r"^[A-Za-z]+(_[A-Z]{2})?(\.[A-Za-z0-9-]+)?(@[a-z]+)?$")
    ] = about("the language: de_DE.UTF-8")
    keymap: typing.Annotated[str | None, pydantic.Field(pattern=r"^[A-Za-z0-9_+-]+$")] = about(
        "the console's keyboard: de-latin1"
    )
    disk_size: Size | None = about("size of the disk: auto (default), 8G")
    partition_table: TableName | None = about("the partition table (default: the format's)")
    root_fs: FsName | None = about("the root file system (default: ext4)")
    compress: CompressionName | None = about("compression of the file (default: the format's)")

    @pydantic.model_validator(mode="after")
    def _one_kind(self) -> typing.Self:
        given = [
            name
            for name, value in (
                ("board", self.board),
                ("format", self.format),
                ("formats", self.formats),
            )
            if value
        ]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: keep one")
        if not given:
            raise ValueError("a board or a format is missing: board = … or format = …")
        table = nixos_formats.read_formats()
        system = self.system or (BOARDS[self.board].system if self.board else "")
        for name in self.names:
            (one,) = nixos_formats.chosen((name,), table)
            if system and system not in one.systems:
                raise ValueError(f"format {name} is not for {system}: {', '.join(one.systems)}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its formats."""
        if self.board:
            return (BOARDS[self.board].format,)
        return (self.format,) if self.format else self.formats


class User(Table):
    """`[[users]]`: a person who may log in."""

    name: UserName = pydantic.Field(description="the user's name")
    keys: typing.Annotated[tuple[Key, ...], Many] = some(
        "public SSH keys: the line of a .pub file, the path of one, or github:NAME"
    )
    groups: typing.Annotated[tuple[GroupName, ...], Many] = some(
        "groups; wheel makes an administrator (sudo)"
    )
    hashed_password: typing.Annotated[str | None, pydantic.Field(pattern=r"^\$[!-9;-~]+$")] = about(
        "a password for the console, as mkpasswd prints it; everybody on the machine can read it"
    )


class Wifi(Table):
    """`[wifi]`: the network that the machine joins; it is put into the finished image."""

    ssid: Line = pydantic.Field(description="the network's name")
    country: typing.Annotated[
        str | None, _pattern("[A-Z]{2}", "a country of two capital letters")
    ] = about("the country whose rules for radio hold: DE")
    password_file: Path | None = about("a file with the password, which never gets into the store")

    @pydantic.field_validator("ssid")
    @classmethod
    def _network(cls, text: str) -> str:
        try:
            wifi.check(text, "", "wifi")
        except SpecError as error:
            raise ValueError(f"{text!r} is not a network's name: at most 32 bytes") from error
        return text


class File(Table):
    """`[[files]]`: a file of the image."""

    target: typing.Annotated[str, _pattern(r"/[^\x00-\x1f\x7f]+", "an absolute path")] = (
        pydantic.Field(description="its path in the image")
    )
    source: Path | None = about(
        "a file of yours; it is put into the finished image and never gets into the store"
    )
    text: FreeText | None = about(
        "the content itself, below /etc only; it passes through the store"
    )
    mode: typing.Annotated[str | None, pydantic.Field(pattern=r"^[0-7]{3,4}$")] = about(
        "permissions, octal (default: 600 with source, 644 with text)"
    )
    user: typing.Annotated[int, pydantic.Field(ge=0, le=2**32 - 2)] = pydantic.Field(
        default=0, description="number of the owner"
    )
    group: typing.Annotated[int, pydantic.Field(ge=0, le=2**32 - 2)] = pydantic.Field(
        default=0, description="number of the group"
    )

    @pydantic.model_validator(mode="after")
    def _one_content(self) -> typing.Self:
        if (self.source is None) == (self.text is None):
            raise ValueError("either source or text is needed")
        if self.text is not None and not self.target.startswith("/etc/"):
            raise ValueError("text is for files below /etc: use source")
        if self.text is not None and posixpath.normpath(self.target) != self.target:
            raise ValueError("a target must not have .., . or more slashes than it needs")
        return self


class Firewall(Table):
    """`[firewall]`: ports that are open besides those of the services."""

    enable: bool = pydantic.Field(default=True, description="whether there is a firewall")
    tcp: typing.Annotated[Ports, Many] = some("open TCP ports")
    udp: typing.Annotated[Ports, Many] = some("open UDP ports")


def _option_type(option: ServiceOption) -> typing.Any:  # noqa: ANN401 - a type
    match option.type:
        case "port":
            return Port
        case "boolean":
            return bool
        case "strings":
            return typing.Annotated[tuple[Line, ...], Many]
        case "choice":
            return typing.Literal[option.words]
        case "secret":
            return Path
    return FreeText


def _service_type(name: str) -> typing.Any:  # noqa: ANN401 - a type
    """Return the type of a service's value: a table of its options."""
    fields: dict[str, typing.Any] = {
        "enable": (bool, pydantic.Field(default=True, description="false switches it off"))
    }
    for option, row in SERVICES[name].options.items():
        kind = _option_type(row)
        fields[option.replace("-", "_")] = (kind | None, about(row.help))
    return pydantic.create_model(
        f"Service_{name.replace('-', '_')}",
        __base__=Table,
        __doc__=SERVICES[name].title,
        **fields,
    )


SERVICE_TYPES = {name: _service_type(name) for name in SERVICES}


def _table_of(value: object) -> object:
    """Take `ssh = true` for `ssh = { enable = true }`."""
    return {"enable": value} if isinstance(value, bool) else value


_SERVICES: dict[str, typing.Any] = {
    name.replace("-", "_"): (
        typing.Annotated[
            kind | None,
            pydantic.BeforeValidator(_table_of, json_schema_input_type=bool | kind),
        ],
        about(SERVICES[name].title),
    )
    for name, kind in SERVICE_TYPES.items()
}

if typing.TYPE_CHECKING:
    Services = Table
else:
    Services = pydantic.create_model(
        "Services",
        __base__=Table,
        __doc__="`[services]`: what runs on the machine; `NAME = true`, or a table with options.",
        **_SERVICES,
    )


class Blueprint(Table):
    """The whole file."""

    nixpkgs: Line | None = about(
        "NixOS' release (26.05), a folder, or a reference (github:NixOS/nixpkgs/nixos-unstable);"
        " default: the pinned one"
    )
    state_version: typing.Annotated[
        str | None, _pattern(r"[0-9]{2}\.(05|11)", "a release of NixOS: 26.05")
    ] = about("the release whose defaults for stored data the machine keeps; write it once")
    image: dict[
        typing.Annotated[str, _pattern(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", "an image's name")],
        Image,
    ] = pydantic.Field(description="the images, by name", min_length=1)
    users: typing.Annotated[tuple[User, ...], Many] = some("who may log in")
    wifi: Wifi | None = about("the network that the machine joins")
    packages: typing.Annotated[tuple[Package, ...], Many] = some(
        "programs, by their names in nixpkgs"
    )
    services: Services | None = about("what runs on the machine")
    files: typing.Annotated[tuple[File, ...], Many] = some("files of the image")
    firewall: Firewall | None = about("open ports")
    modules: typing.Annotated[tuple[Path, ...], Many] = some(
        "NixOS modules, for everything that this file has no key for"
    )

    @pydantic.model_validator(mode="after")
    def _names(self) -> typing.Self:
        seen: dict[tuple[str, str], str] = {}
        for name, image in self.image.items():
            for form in image.names:
                key = image.host_name or name, form
                if key in seen and self.image[seen[key]].system == image.system:
                    raise ValueError(
                        f"the images {seen[key]} and {name} would have the same file name: give one"
                        " another host-name"
                    )
                seen[key] = name
        users = [user.name for user in self.users]
        if twice := [name for name in users if users.count(name) > 1]:
            raise ValueError(f"the user {twice[0]} is there twice")
        targets: set[str] = set()
        for file in self.files:
            if file.target in targets:
                raise ValueError(f"two files have the target {file.target}")
            targets.add(file.target)
        return self
