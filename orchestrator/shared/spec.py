"""The image spec: what Nix says an image consists of (JSON in, frozen types out).

Nix evaluates a configuration to a spec, and the assembler makes the image from it. Unknown fields
are errors, because a request must not be ignored silently. Field names are the JSON's; sizes are
MiB, 0 means as large as needed.
"""

# ruff: noqa: N815

import dataclasses
import json
import re
import typing
import uuid

from orchestrator.shared.disk_formats import DISK_FORMATS, DiskFormat
from orchestrator.shared.filesystems import FsType
from orchestrator.shared.json_reader import FreeText, JsonError, MiB, Natural

#: Version of the image spec that this assembler reads.
SCHEMA = 1

#: UUID namespace of all identifiers that are derived from a spec; an arbitrary constant.
_NAMESPACE = uuid.UUID("6b0f4c1e-7a6e-5d0c-9a53-0f2c7b9d1e11")

#: Partition tables of nixpkgs' make-disk-image.nix, and the SD card's from sd-image.nix.
PartitionTable = typing.Literal[
    "none", "legacy", "legacy+boot", "legacy+gpt", "efi", "efixbootldr", "hybrid", "sd-card"
]
Compression = typing.Literal["none", "zstd", "xz", "gz"]
Firmware = typing.Literal["uefi", "bios", "u-boot"]

#: Suffix that compression adds to a file name.
COMPRESSED_SUFFIX = {"none": "", "zstd": ".zst", "xz": ".xz", "gz": ".gz"}

#: Boot loaders that each partition table needs, as fields of `BootLoader`; those of efi and hybrid
#: may have Limine in their place.
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

#: Firmware that starts each boot loader. That U-Boot can also act as UEFI firmware, and start
#: systemd-boot, is not counted here.
FIRMWARE: dict[str, Firmware] = {
    "grub": "bios",
    "systemdBoot": "uefi",
    "extlinux": "u-boot",
    "limine": "uefi",
    "limineBios": "bios",
}

#: Partition tables whose boot loader reads its files from the root file system.
BOOTS_FROM_ROOT = ("legacy", "legacy+gpt", "sd-card")

#: Partition tables with a partition for kernels and boot entries: the ESP, or a BIOS' BOOT.
WITH_BOOT = ("legacy+boot", "efi", "efixbootldr", "hybrid")

#: Partition tables that are an MBR, whose numbers of sectors have 32 bits: it ends at 2 TiB.
MBR = ("legacy", "legacy+boot", "sd-card")
MBR_END_MIB = 2 << 20

#: Volume labels whose names below /dev/disk/by-label are the same: udev escapes other letters
#: (systemd's src/basic/devnum-util.c, encode_devnode_name). A FAT label has no dots, signs and
#: commas either (mkfs.fat(8)).
LABEL = re.compile(r"[A-Za-z0-9#+.:=@_-]+")
FAT_LABEL = re.compile(r"[A-Za-z0-9#@_-]+")

#: Programs that join Wi-Fi networks.
WIFI = ("networkmanager", "wpa_supplicant", "iwd")

#: Longest name of an image file in bytes: ext4's limit without the suffixes of derived files.
FILE_NAME_BYTES = 255 - len(".plain.bmap")

#: Largest user or group number: the next one, -1, means "no change" (chown(2)).
LARGEST_ID = (1 << 32) - 2


class SpecError(JsonError):
    """A spec or bootspec is invalid; the message names the field."""


@dataclasses.dataclass(frozen=True)
class Extlinux:
    """Settings of NixOS' generic-extlinux-compatible boot loader.

    With `deviceTree` the kernel's device trees are copied, `deviceTreeName` selects one.
    """

    deviceTree: bool = True
    deviceTreeName: str = ""


@dataclasses.dataclass(frozen=True)
class GrubMenu:
    """What GRUB's menu has besides the entries, where GRUB is the only boot loader.

    `head`, `settings`, `before`, `after` are commands: at the begin, after the theme, before and
    after the entries of the system. `perEntry` are those of each entry. `entryOptions` are the
    system's entry's. `theme` is a folder in the store; `files` maps paths below /boot to files
    there.
    """

    head: FreeText = ""
    theme: str = ""
    settings: FreeText = ""
    before: FreeText = ""
    after: FreeText = ""
    perEntry: FreeText = ""
    entryOptions: str = "--class nixos --unrestricted"
    files: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Limine:
    """Limine, which takes the place of systemd-boot, and of GRUB beside it.

    `program` is the EFI program in the store. `bios` is the folder in the store with the stages for
    a BIOS, which partition table hybrid has room for. One of them may be missing.

    The rest is what limine.conf has: `head` begins it, `style` are the lines about the menu's look
    after the wallpapers, `entries` ends it. `wallpapers` are paths in the store, `files` maps paths
    in Limine's folder to such. With `checksums` each file is checked as it is read, with `panic` a
    wrong one ends the boot. `resolution` is the kernel's, "" for Limine's choice.
    """

    program: str = ""
    bios: str = ""
    head: FreeText = ""
    style: FreeText = ""
    entries: FreeText = ""
    wallpapers: tuple[str, ...] = ()
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    checksums: bool = True
    panic: bool = False
    resolution: str = ""


@dataclasses.dataclass(frozen=True)
class BootLoader:
    """Boot loaders available for the system; the partition table decides which are installed.

    Store paths: `systemdBoot` is the EFI program, `grub` the folder with GRUB's i386-pc modules,
    `clover` the folder with Clover's boot stages and EFI folder (Clover starts systemd-boot on a
    BIOS). `timeout` of the menu is in seconds, -1 waits for ever. Without `editor` no menu lets
    anybody change a kernel command line. `distroName` is the menus' name of the system.

    Of systemd-boot: `entryNames` is what the configuration's NixOS names entries by, `consoleMode`
    and `rebootForBitlocker` are its settings, `tries` the number of boots that a new entry has to
    prove itself, 0 for any. `extraEntries` (texts) and `extraFiles` (store paths) are added to the
    partition with the boot entries: the former by name below loader/entries, the latter by path.
    """

    timeout: int
    systemdBoot: str = ""
    grub: str = ""
    clover: str = ""
    extlinux: Extlinux | None = None
    limine: Limine | None = None
    distroName: str = "NixOS"
    editor: bool = True
    entryNames: typing.Literal["generation", "content"] = "generation"
    consoleMode: str = "keep"
    rebootForBitlocker: bool = False
    tries: Natural = 0
    grubMenu: GrubMenu = GrubMenu()
    extraEntries: dict[str, FreeText] = dataclasses.field(default_factory=dict)
    extraFiles: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Fat:
    """A FAT partition: volume label and size."""

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
    """The root file system: `additionalSpaceMiB` is the free space besides the content.

    `uuid` (file system) and `partUuid` (partition) are derived from the spec if empty.
    """

    fsType: FsType
    label: str
    additionalSpaceMiB: MiB = 512
    uuid: str = ""
    partUuid: str = ""


@dataclasses.dataclass(frozen=True)
class Content:
    """A file or folder of the store (`source`) that is copied to `target` in the image.

    `mode` is octal, or empty to keep the store's mode; `user` and `group` are numbers.
    """

    source: str
    target: str
    mode: str = ""
    user: Natural = 0
    group: Natural = 0


@dataclasses.dataclass(frozen=True)
class Late:
    """Where the system reads late values from: folders without a slash at either end.

    `etc` is the folder that becomes /etc at boot, `keys` that of the users' public keys. `wifi` has
    the place of each program that joins a Wi-Fi network: a file for wpa_supplicant, else a folder.
    `hostKey` is the path of sshd's private Ed25519 key, "" if the system has no sshd.
    """

    etc: str = "etc"
    keys: str = "etc/ssh/authorized_keys.d"
    hostKey: str = "etc/ssh/ssh_host_ed25519_key"
    wifi: dict[str, str] = dataclasses.field(
        default_factory=lambda: {
            "networkmanager": "etc/NetworkManager/system-connections",
            "wpa_supplicant": "etc/wpa_supplicant/imperative.conf",
        }
    )


@dataclasses.dataclass(frozen=True)
class SecureBoot:
    """Files of the caller's computer by which the configuration wants the image signed.

    They are text for a message: only the command line makes run.sh send a file.
    """

    keyFile: str
    certFile: str


@dataclasses.dataclass(frozen=True)
class ImageSpec:
    """One image: `toplevel` is the store path of the NixOS system.

    `name` is the image's file name without suffix. `boot` is the FAT partition with kernels and
    boot entries: the ESP, or with partition table efixbootldr the XBOOTLDR partition; then `esp` is
    the ESP.
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
    late: Late = dataclasses.field(default_factory=Late)
    secureBoot: SecureBoot | None = None

    @property
    def disk(self) -> typing.Self:
        """The spec without what only the file around the disk has.

        Images with equal ones have the same raw image.
        """
        return dataclasses.replace(
            self, name="", format="", diskFormat="raw", compression="none", readyText=""
        )

    def identifier(self, what: str) -> uuid.UUID:
        """Return the UUID of `what` (a file system, a partition).

        The UUID is derived from the disk's spec: equal disks have equal UUIDs, whatever the names
        and formats of their files are.
        """
        given = {"root": self.root.uuid, "partition nixos": self.root.partUuid}.get(what)
        if given:
            return uuid.UUID(given)
        return uuid.uuid5(
            _NAMESPACE, f"{json.dumps(dataclasses.asdict(self.disk), sort_keys=True)}/{what}"
        )

    @property
    def sources(self) -> tuple[str, ...]:
        """Paths of the store that are read besides the closure; `contents` may have a pattern."""
        loader = self.bootLoader
        limine = loader.limine or Limine()
        named = (loader.systemdBoot, loader.grub, loader.clover, loader.grubMenu.theme)
        return (
            *filter(None, (*named, limine.program, limine.bios)),
            *limine.wallpapers,
            *limine.files.values(),
            *loader.grubMenu.files.values(),
            *loader.extraFiles.values(),
            *self.firmware.files.values(),
            *(one.source for one in self.contents),
        )

    @property
    def file_name(self) -> str:
        """File name of the image."""
        return file_name(self.name, self.diskFormat, self.compression)

    @property
    def loaders(self) -> tuple[str, ...]:
        """Boot loaders of the image, as keys of `FIRMWARE`; the first one is preferred."""
        if self.bootLoader.limine is None:
            return LOADERS[self.partitionTable]
        own = self.bootLoader.limine
        kinds = {"limine": own.program, "limineBios": own.bios}
        return tuple(kind for kind, path in kinds.items() if path)

    @property
    def boots_under(self) -> tuple[Firmware, ...]:
        """Kinds of firmware that can boot this image, preferred one first."""
        found = tuple(FIRMWARE[name] for name in self.loaders)
        return (*found, "bios") if self.bootLoader.clover else found


def file_name(name: str, disk_format: DiskFormat, compression: Compression) -> str:
    """Return the file name of the image `name`: with the suffixes of format and compression."""
    return f"{name}.{DISK_FORMATS[disk_format].suffix}{COMPRESSED_SUFFIX[compression]}"


def is_file_name(name: str) -> bool:
    """Whether an image file may have this name.

    A name must be safe as a line of a list, on a terminal, and as an argument of a shell command.
    """
    good = name.isprintable() and name == name.strip() and "/" not in name
    return good and name[:1] not in {"", ".", "-"} and len(name.encode()) <= FILE_NAME_BYTES
