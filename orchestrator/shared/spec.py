"""The image spec: what Nix says an image is made of (JSON in, frozen types out).

Nix evaluates a configuration to this; everything after it is assembly. Unknown fields are an error,
because a spec that asks for something that is silently left out makes an image that is not what was
asked for. Names of fields are the JSON's own; sizes are MiB, 0 means as large as needed.
"""

# ruff: noqa: N815

import dataclasses
import json
import re
import typing
import uuid

from orchestrator.shared.architectures import PCS
from orchestrator.shared.disk_formats import DISK_FORMATS, DiskFormat
from orchestrator.shared.filesystems import FILESYSTEMS, FsType
from orchestrator.shared.json_reader import JsonError, MiB, Natural, from_json, read_json

#: Version of the spec that this assembler reads.
SCHEMA = 1

#: Any constant will do: it makes the identifiers of one image from its spec, the same on every run.
_NAMESPACE = uuid.UUID("6b0f4c1e-7a6e-5d0c-9a53-0f2c7b9d1e11")

#: Those of nixpkgs' make-disk-image.nix, and the SD card's of its sd-image.nix.
PartitionTable = typing.Literal[
    "none", "legacy", "legacy+boot", "legacy+gpt", "efi", "efixbootldr", "hybrid", "sd-card"
]
Compression = typing.Literal["none", "zstd", "xz", "gz"]
Firmware = typing.Literal["uefi", "bios", "u-boot"]

#: What compression adds to a file's name.
COMPRESSED_SUFFIX = {"none": "", "zstd": ".zst", "xz": ".xz", "gz": ".gz"}

#: Which loaders each partition table needs: fields of `BootLoader`.
LOADERS = {
    "none": (),
    "legacy": ("grub",),
    "legacy+boot": ("grub",),
    "legacy+gpt": ("grub",),
    "efi": ("systemdBoot",),
    "efixbootldr": ("systemdBoot",),
    "hybrid": ("systemdBoot", "grub"),
    "sd-card": ("extlinux",),
}

#: Which firmware starts a loader. U-Boot reads an ESP, too, but that is not what it is made for.
FIRMWARE: dict[str, Firmware] = {"grub": "bios", "systemdBoot": "uefi", "extlinux": "u-boot"}

#: Tables whose loader reads its files from the root file system.
BOOTS_FROM_ROOT = ("legacy", "legacy+gpt", "sd-card")

#: The longest name of a file (bytes, ext4's limit) with what names of its parts add to it.
FILE_NAME_BYTES = 255 - len(".plain.bmap")

#: A user's and a group's largest number: the one after it means none (chown(2)).
LARGEST_ID = (1 << 32) - 2


class SpecError(JsonError):
    """A spec or bootspec that cannot be; the message names the field."""


@dataclasses.dataclass(frozen=True)
class Extlinux:
    """generic-extlinux-compatible.

    With `deviceTree` the device trees go with the kernel, `deviceTreeName` picks one of them.
    """

    deviceTree: bool = True
    deviceTreeName: str = ""


@dataclasses.dataclass(frozen=True)
class BootLoader:
    """Loaders that the system can have; the partition table says which of them are installed.

    `systemdBoot` is the store path of the EFI program, `grub` of the folder with GRUB's i386-pc
    modules, `clover` of the folder with Clover's stages and its EFI folder, which starts
    systemd-boot on a BIOS; `timeout` is in seconds, -1 for ever.
    """

    timeout: int
    systemdBoot: str = ""
    grub: str = ""
    clover: str = ""
    extlinux: Extlinux | None = None


@dataclasses.dataclass(frozen=True)
class Fat:
    """A FAT32 partition."""

    label: str
    sizeMiB: MiB = 0


@dataclasses.dataclass(frozen=True)
class FirmwarePartition:
    """The SD card's first partition: `files` maps names on it to store paths.

    `identifier` is the MBR's disk signature and the FAT's serial number, 8 hex digits.
    """

    label: str = "FIRMWARE"
    sizeMiB: MiB = 30
    offsetMiB: MiB = 8
    identifier: str = "2178694e"
    files: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Root:
    """The root file system: `additionalSpaceMiB` is what stays free beside the closure.

    `uuid` and `partUuid` fix what is otherwise derived from the spec.
    """

    fsType: FsType
    label: str
    additionalSpaceMiB: MiB = 512
    uuid: str = ""
    partUuid: str = ""


@dataclasses.dataclass(frozen=True)
class Content:
    """A file or folder of the store (`source`) that goes to `target` in the root file system.

    `mode` is octal, empty for that of the store; `user` and `group` are numbers.
    """

    source: str
    target: str
    mode: str = ""
    user: Natural = 0
    group: Natural = 0


@dataclasses.dataclass(frozen=True)
class ImageSpec:
    """One image: `toplevel` is the store path of the NixOS system.

    `name` is the file's name without its suffix, `boot` the FAT partition that holds what the
    loader reads (the ESP, or where there are two, the one beside it), `esp` the other one.
    """

    schema: Natural
    name: str
    system: str
    toplevel: str
    format: str
    partitionTable: PartitionTable
    bootLoader: BootLoader
    root: Root
    boot: Fat = Fat("ESP")
    esp: Fat = Fat("ESP", 40)
    firmware: FirmwarePartition = FirmwarePartition()
    diskSizeMiB: MiB = 0
    contents: tuple[Content, ...] = ()
    additionalPaths: tuple[str, ...] = ()
    onlyNixStore: bool = False
    registration: bool = True
    diskFormat: DiskFormat = "raw"
    compression: Compression = "none"
    readyText: str = ""

    def identifier(self, what: str) -> uuid.UUID:
        """A UUID for `what` (a file system, a partition).

        The same for the same spec, different between specs.
        """
        given = {"root": self.root.uuid, "partition nixos": self.root.partUuid}.get(what)
        if given:
            return uuid.UUID(given)
        return uuid.uuid5(
            _NAMESPACE, f"{json.dumps(dataclasses.asdict(self), sort_keys=True)}/{what}"
        )

    @property
    def file_name(self) -> str:
        """Name of the image file."""
        suffix = DISK_FORMATS[self.diskFormat].suffix
        return f"{self.name}.{suffix}{COMPRESSED_SUFFIX[self.compression]}"

    @property
    def boots_under(self) -> tuple[Firmware, ...]:
        """The firmware that can start this image, the one to prefer first."""
        found = tuple(FIRMWARE[name] for name in LOADERS[self.partitionTable])
        return (*found, "bios") if self.bootLoader.clover else found


def read_spec(text: str) -> ImageSpec:
    """Parse an image spec.

    Raises `SpecError` for unknown or missing fields, wrong types, unknown values and parts that do
    not go together.
    """
    try:
        spec = from_json(ImageSpec, read_json(text, "image spec"), "spec")
    except JsonError as error:
        raise SpecError(str(error)) from error
    check(spec)
    return spec


def check(spec: ImageSpec) -> None:
    """Raise `SpecError` for what each field allows by itself, but not with the others."""
    if spec.schema != SCHEMA:
        raise SpecError(
            f"spec.schema: {spec.schema} is not supported, this assembler reads {SCHEMA}"
        )
    if not is_file_name(spec.file_name):
        raise SpecError(f"spec.name: {spec.name!r} cannot be a file name")
    _check_loaders(spec)
    _check_root(spec)
    _check_labels(spec)
    _check_contents(spec)


def _check_loaders(spec: ImageSpec) -> None:
    """The partition table's loaders are there, and start what they are asked to."""
    for loader in () if spec.onlyNixStore else LOADERS[spec.partitionTable]:
        if not getattr(spec.bootLoader, loader):
            raise SpecError(
                f"spec.bootLoader.{loader} is missing: partition table {spec.partitionTable} is"
                f" started by {FIRMWARE[loader]}, which {spec.system} has no loader for here"
            )
    if spec.bootLoader.clover and (spec.partitionTable != "efi" or spec.system not in PCS):
        raise SpecError(
            "spec.bootLoader.clover: emulates UEFI on a PC's BIOS, with partition table efi alone"
        )


def _check_root(spec: ImageSpec) -> None:
    """The root file system can be made, is read by its loader, and has identifiers."""
    row = FILESYSTEMS[spec.root.fsType]
    if row.refused:
        raise SpecError(f"spec.root.fsType: {row.name} is not made: {row.refused}")
    if spec.partitionTable in BOOTS_FROM_ROOT and not spec.onlyNixStore:
        (loader,) = LOADERS[spec.partitionTable]
        if loader not in row.read_by:
            raise SpecError(
                f"spec.root.fsType: with partition table {spec.partitionTable}, {loader} reads its"
                f" files from the root file system, and cannot read {row.name}"
            )
    for name in ("uuid", "partUuid"):
        try:
            uuid.UUID(getattr(spec.root, name) or str(_NAMESPACE))
        except ValueError as error:
            raise SpecError(f"spec.root.{name}: {error}") from error


def _check_labels(spec: ImageSpec) -> None:
    """Each label fits its file system; the SD card's FAT has a serial number."""
    labels: dict[str, tuple[str, str]] = {"root.label": (spec.root.label, spec.root.fsType)}
    labels |= {f"{name}.label": (getattr(spec, name).label, "vfat") for name in ("boot", "esp")}
    labels["firmware.label"] = (spec.firmware.label, "vfat")
    for name, (label, holder) in labels.items():
        if len(label.encode()) > FILESYSTEMS[holder].label_bytes:
            raise SpecError(f"spec.{name}: {label!r} is longer than {holder} allows")
    if not re.fullmatch("[0-9a-fA-F]{8}", spec.firmware.identifier):
        raise SpecError(f"spec.firmware.identifier: {spec.firmware.identifier!r} is not 8 digits")


def _check_contents(spec: ImageSpec) -> None:
    """Files beside the closure have a place, a mode and an owner."""
    if spec.onlyNixStore and spec.contents:
        raise SpecError("spec.contents: there is no place for them in a store alone")
    for one in spec.contents:
        if one.mode and not re.fullmatch("[0-7]{3,4}", one.mode):
            raise SpecError(f"spec.contents: {one.target}: {one.mode!r} is not an octal mode")
        if max(one.user, one.group) > LARGEST_ID:
            raise SpecError(f"spec.contents: {one.target}: no user or group has such a number")


def is_file_name(name: str) -> bool:
    """Whether a file of that name can be handed over.

    It is a line of a list, is shown on terminals and stands where shells expect options.
    """
    good = name.isprintable() and name == name.strip() and "/" not in name
    return good and name[:1] not in {"", ".", "-"} and len(name.encode()) <= FILE_NAME_BYTES
