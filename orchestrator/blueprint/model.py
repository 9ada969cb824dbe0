"""The content of an appliance.toml as frozen types; pydantic checks it.

The field descriptions are the reference (docs/appliance.md) and the JSON Schema's.
"""

import posixpath
import typing
from collections.abc import Iterator

import pydantic
import pydantic_core

from orchestrator.blueprint.fields import (
    BoardName,
    CompressionName,
    Country,
    FormatName,
    FreeText,
    FsName,
    GroupName,
    HashedPassword,
    HostName,
    Key,
    Keymap,
    Line,
    Locale,
    Many,
    Mode,
    Nixpkgs,
    Package,
    Path,
    Ports,
    Release,
    Size,
    SystemName,
    Table,
    TableName,
    TimeZone,
    UserName,
    about,
    pattern,
    some,
)
from orchestrator.blueprint.services import Services
from orchestrator.blueprint.tables import BOARDS
from orchestrator.image import wifi
from orchestrator.shared import nixos_formats
from orchestrator.shared.builders import read_line
from orchestrator.shared.spec import SpecError

#: Where in the file a fault between tables is seen, and what it is.
PlacedFault = tuple[tuple[str | int, ...], str]


class Image(Table):
    """`[image.NAME]`: one image file for each of its formats."""

    board: BoardName | None = about("the machine; it decides format and system")
    format: FormatName | None = about("the image's format, instead of a board")
    formats: typing.Annotated[tuple[FormatName, ...], Many] = some("several formats")
    system: SystemName | None = about(
        "the system to build for (default: the board's, else this computer's if the format has it)"
    )
    host_name: HostName | None = about("the machine's name (default: the image's name)")
    time_zone: TimeZone | None = about("a time zone: Europe/Berlin")
    locale: Locale | None = about("the language: de_DE.UTF-8")
    keymap: Keymap | None = about("the console's keyboard: de-latin1")
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
    hashed_password: HashedPassword | None = about(
        "a password for the console, as mkpasswd prints it; everybody on the machine can read it"
    )


class Wifi(Table):
    """`[wifi]`: the network that the machine joins; it is put into the finished image."""

    ssid: Line | None = about("the network's name; without, a --stamp list has that of each device")
    country: Country | None = about("the country whose rules for radio hold: DE")
    password_file: Path | None = about("a file with the password, which never gets into the store")
    images: typing.Annotated[tuple[Line, ...], Many] = some(
        "names of the images that join it (default: all)"
    )

    @pydantic.field_validator("ssid")
    @classmethod
    def _network(cls, text: str | None) -> str | None:
        if text is None:
            return None
        try:
            wifi.check(text, "", "wifi")
        except SpecError as error:
            raise ValueError(f"{text!r} is not a network's name: at most 32 bytes") from error
        return text


class File(Table):
    """`[[files]]`: a file of the image."""

    target: typing.Annotated[str, pattern(r"/[^\x00-\x1f\x7f]+", "an absolute path")] = (
        pydantic.Field(description="its path in the image")
    )
    source: Path | None = about(
        "a file of yours; it is put into the finished image and never gets into the store"
    )
    text: FreeText | None = about(
        "the content itself, below /etc only; it passes through the store"
    )
    mode: Mode | None = about("permissions, octal (default: 600 with source, 644 with text)")
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


def _builder(line: str) -> str:
    read_line(line)  # its error is a ValueError
    return line


_BUILDER = pydantic.AfterValidator(_builder)


class Blueprint(Table):
    """The whole file."""

    nixpkgs: Nixpkgs | None = about(
        "NixOS' release (26.05), a folder, or a reference (github:NixOS/nixpkgs/nixos-unstable);"
        " default: the pinned one"
    )
    state_version: Release | None = about(
        "the release whose defaults for stored data the machine keeps; write it once"
    )
    image: dict[
        typing.Annotated[str, pattern(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", "an image's name")],
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
    builders: typing.Annotated[tuple[typing.Annotated[Line, _BUILDER], ...], Many] = some(
        "other machines that build, one line each: ssh-ng://USER@HOST SYSTEM KEY …"
    )
    modules: typing.Annotated[tuple[Path, ...], Many] = some(
        "NixOS modules, for everything that this file has no key for"
    )

    def joins(self, image: str) -> bool:
        """Whether the machine of the `image` of that name joins the Wi-Fi network."""
        return self.wifi is not None and (not self.wifi.images or image in self.wifi.images)

    @pydantic.model_validator(mode="after")
    def _names(self) -> typing.Self:
        faults = [*self._equal_images(), *self._lost_images()]
        users = [user.name for user in self.users]
        for index, name in enumerate(users):
            if name in users[:index]:
                faults.append((("users", index, "name"), f"the user {name} is there twice"))
        targets = [file.target for file in self.files]
        for index, target in enumerate(targets):
            if target in targets[:index]:
                faults.append((("files", index, "target"), f"two files have the target {target}"))
        if faults:
            raise pydantic_core.PydanticCustomError("between", "{faults}", {"faults": faults})
        return self

    def _equal_images(self) -> Iterator[PlacedFault]:
        seen: dict[tuple[str, str], str] = {}
        for name, image in self.image.items():
            for form in image.names:
                key = image.host_name or name, form
                if key in seen and self.image[seen[key]].system == image.system:
                    same = f"the images {seen[key]} and {name} would have the same file name"
                    yield ("image", name), f"{same}: give one another host-name"
                seen[key] = name

    def _lost_images(self) -> Iterator[PlacedFault]:
        for index, name in enumerate(self.wifi.images if self.wifi else ()):
            if name not in self.image:
                yield ("wifi", "images", index), f"wifi.images: there is no image {name}"
