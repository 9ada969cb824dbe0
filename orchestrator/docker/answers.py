"""What is wanted of the answers of Docker's API, and of its containers' reports.

An engine may be broken, of another kind, or hostile: what it says is read like any other file of
others. A field without a value may be missing or null.
"""

import datetime
import ipaddress
import re
import typing

from orchestrator.shared.errors import DockerError
from orchestrator.shared.json_reader import (
    FreeText,
    JsonError,
    Natural,
    Whole,
    from_json,
    read_json,
)

#: A name or an id: of an object, or of an image. It becomes part of Compose's variables.
WORD = re.compile(r"[A-Za-z0-9][\w.:@/+-]{0,500}", re.ASCII)

#: Longest text of the engine's that a message has, in letters.
TOLD = 500

HINT = "./run.sh doctor examines Docker"


class LostEngineError(DockerError):
    """The engine cannot be worked with: no other error may hide that."""


class OddAnswerError(LostEngineError):
    """The engine, or a container, has answered what cannot be understood."""


def read[Kind](kind: type[Kind], value: object, what: str) -> Kind:
    """Read an answer as `kind`; the message of `OddAnswerError` begins with `what`."""
    try:
        return from_json(kind, value, "answer")
    except JsonError as error:
        raise odd(what, error) from error


def read_text[Kind](kind: type[Kind], text: str, what: str) -> Kind:
    """Read JSON that a container has printed as `kind`; raises `OddAnswerError`."""
    try:
        return from_json(kind, read_json(text, "answer"), "answer")
    except JsonError as error:
        raise odd(what, error) from error


def odd(what: str, problem: object) -> OddAnswerError:
    """Return the error for an answer of Docker's that cannot be understood."""
    said = one_line(str(problem))
    return OddAnswerError(f"{what}: this answer cannot be understood: {said}", hint=HINT)


def one_line(text: str) -> str:
    """Return a text of the engine's as one line that is not too long."""
    return " ".join(text.split())[:TOLD]


def word(value: str) -> None:
    """Rule: the text is one word, such as a name or an id."""
    if not WORD.fullmatch(value):
        raise ValueError(f"{value[:100]!r} is no name")


def moment(value: str) -> None:
    """Rule: the text is a time with a time zone, or empty."""
    if value and datetime.datetime.fromisoformat(value).tzinfo is None:
        raise ValueError(f"{value[:100]!r} has no time zone")


def address(value: str) -> None:
    """Rule: the text is an IP address, or empty."""
    if value:
        ipaddress.ip_address(value)


def port(value: str) -> None:
    """Rule: the text is a number of a port."""
    if not re.fullmatch("[0-9]{1,5}", value):
        raise ValueError(f"{value[:100]!r} is no port")


def version(value: str) -> None:
    """Rule: the text is a version of the API."""
    if not re.fullmatch("[0-9]{1,3}[.][0-9]{1,3}", value):
        raise ValueError(f"{value[:100]!r} is no version")


Address = typing.Annotated[str, address]
ApiVersion = typing.Annotated[str, version]
Port = typing.Annotated[str, port]
Word = typing.Annotated[str, word]
Moment = typing.Annotated[str, moment]


class Named(typing.TypedDict):
    """What has been made, or exists."""

    Id: Word


class Ended(typing.TypedDict):
    """A container has ended."""

    StatusCode: Whole


class Executed(typing.TypedDict):
    """A command in a container has ended."""

    ExitCode: Whole | None


class Ps(typing.TypedDict):
    """A container of a list."""

    Names: list[str] | None
    Labels: typing.NotRequired[dict[str, FreeText] | None]
    State: str
    Created: typing.NotRequired[Whole | None]


class State(typing.TypedDict):
    """How a container is."""

    Running: bool
    OOMKilled: typing.NotRequired[bool]
    StartedAt: typing.NotRequired[Moment]
    FinishedAt: typing.NotRequired[Moment]


class Stated(typing.TypedDict):
    """An inspected container, of which only its state is wanted."""

    State: State


class Settings(typing.TypedDict):
    """A container's settings."""

    User: typing.NotRequired[str | None]


class Device(typing.TypedDict):
    """A device that a container has."""

    PathOnHost: str


class Mount(typing.TypedDict):
    """A mount of a container."""

    Name: typing.NotRequired[str | None]
    Source: typing.NotRequired[str | None]
    Destination: str
    RW: typing.NotRequired[bool]


class HostConfig(typing.TypedDict):
    """What a container may do."""

    CapAdd: typing.NotRequired[list[str] | None]
    CapDrop: typing.NotRequired[list[str] | None]
    Devices: typing.NotRequired[list[Device] | None]
    MaskedPaths: typing.NotRequired[list[str] | None]
    Memory: typing.NotRequired[Natural | None]
    PidsLimit: typing.NotRequired[Whole | None]
    ReadonlyRootfs: typing.NotRequired[bool]
    SecurityOpt: typing.NotRequired[list[FreeText] | None]


class Published(typing.TypedDict):
    """A port of the host that leads to one of a container's."""

    HostIp: Address
    HostPort: Port


class NetworkSettings(typing.TypedDict):
    """A container's networks, and its ports."""

    Networks: typing.NotRequired[dict[str, typing.Any] | None]
    Ports: typing.NotRequired[dict[str, list[Published] | None] | None]


class Container(typing.TypedDict):
    """An inspected container."""

    Config: Settings
    HostConfig: HostConfig
    Image: str
    Mounts: list[Mount]
    NetworkSettings: NetworkSettings
    State: State


class ImageSettings(typing.TypedDict):
    """An image's settings."""

    Labels: typing.NotRequired[dict[str, FreeText] | None]


class Layers(typing.TypedDict):
    """An image's layers."""

    Layers: typing.NotRequired[list[str] | None]


class Image(typing.TypedDict):
    """An inspected image."""

    Id: Word
    Config: typing.NotRequired[ImageSettings | None]
    RepoDigests: typing.NotRequired[list[str] | None]
    RootFS: typing.NotRequired[Layers | None]


class ImageRow(typing.TypedDict):
    """An image of a list."""

    Id: Word
    RepoTags: typing.NotRequired[list[str] | None]
    Labels: typing.NotRequired[dict[str, FreeText] | None]
    Created: Whole


class Network(typing.TypedDict):
    """A network."""

    Name: str
    Id: Word
    Created: typing.NotRequired[str]
    Labels: typing.NotRequired[dict[str, FreeText] | None]


class Space(typing.TypedDict):
    """The disk space of a volume: -1 if it is not known."""

    Size: typing.NotRequired[Whole]


class Volume(typing.TypedDict):
    """A volume."""

    Name: str
    CreatedAt: typing.NotRequired[str | None]
    Labels: typing.NotRequired[dict[str, FreeText] | None]
    UsageData: typing.NotRequired[Space | None]


class Volumes(typing.TypedDict):
    """A list of volumes."""

    Volumes: list[Volume] | None


class ImageSpace(typing.TypedDict):
    """The disk space of an image."""

    Id: Word
    RepoTags: typing.NotRequired[list[str] | None]
    Labels: typing.NotRequired[dict[str, FreeText] | None]
    Size: typing.NotRequired[Whole | None]


class Usage(typing.TypedDict):
    """The disk space that the engine's images and volumes take."""

    Images: typing.NotRequired[list[ImageSpace] | None]
    Volumes: typing.NotRequired[list[Volume] | None]


class Part(typing.TypedDict):
    """A part of an engine."""

    Name: typing.NotRequired[str]


class Version(typing.TypedDict):
    """The engine's version."""

    ApiVersion: ApiVersion
    Components: typing.NotRequired[list[Part] | None]


class Info(typing.TypedDict):
    """The engine's facts."""

    Architecture: typing.NotRequired[str | None]
    Driver: typing.NotRequired[str | None]
    ID: typing.NotRequired[str | None]
    KernelVersion: typing.NotRequired[str | None]
    MemTotal: typing.NotRequired[Natural | None]
    OperatingSystem: typing.NotRequired[str | None]
    SecurityOptions: typing.NotRequired[list[str] | None]
    ServerVersion: typing.NotRequired[str | None]


class Told(typing.TypedDict):
    """A line of a build, or of a pull."""

    error: typing.NotRequired[FreeText | None]
    stream: typing.NotRequired[FreeText | None]
