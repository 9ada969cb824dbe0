"""Where partitions lie: sizes and offsets, computed before a byte is written.

All numbers are bytes. Tables are those of nixpkgs' make-disk-image.nix, with the same numbers of
partitions; the root file system is always the last one, so that it can grow.
"""

import dataclasses

from orchestrator.shared.constants import MIB
from orchestrator.shared.spec import PartitionTable

SECTOR = 512

#: Code of a BIOS boot loader in the MBR: behind it lie the disk's signature and the table.
CODE_BYTES = 440

#: Partitions start on whole MiB: what every partitioner does, and a multiple of any flash's erase
#: block in use.
ALIGNMENT = MIB

#: GPT needs 34 sectors at the start and 33 at the end (UEFI specification, section 5.3.1); a whole
#: MiB each keeps alignment. An MBR's first MiB holds the boot loader's second stage.
RESERVE = MIB

#: Types as sfdisk knows them: aliases, MBR codes, and the BIOS boot partition's GUID (GRUB manual,
#: "BIOS installation").
BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"
ESP, XBOOTLDR, LINUX = "uefi", "xbootldr", "linux"
MBR_FAT32, MBR_FAT32_LBA, MBR_LINUX = "b", "c", "83"

ROOT_NAME = "nixos"


class LayoutError(Exception):
    """The parts do not fit; the message has both numbers."""


@dataclasses.dataclass(frozen=True)
class Partition:
    """A slot of the disk: `number` in the table, `start` and `size` in bytes, `type` for sfdisk.

    Number 0 is a file system without a table.
    """

    number: int
    name: str
    type: str
    start: int
    size: int
    active: bool = False


@dataclasses.dataclass(frozen=True)
class Layout:
    """Partitions in the order in which they lie, the table's kind, and the disk's size."""

    label: str
    partitions: tuple[Partition, ...]
    size: int

    def find(self, name: str) -> Partition | None:
        """The partition `name`, if the table has one."""
        return next((part for part in self.partitions if part.name == name), None)

    @property
    def root(self) -> Partition:
        """The root file system's slot."""
        return self.partitions[-1]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What the parts need: `disk` 0 means as large as that. `firmware_offset` is the SD card's."""

    root: int
    boot: int = 0
    esp: int = 0
    firmware: int = 0
    firmware_offset: int = RESERVE
    disk: int = 0


def plan_layout(table: PartitionTable, sizes: Sizes) -> Layout:
    """Lay the parts of `table` out.

    Raises `LayoutError` where a given disk size is too small.
    """
    label, parts = _parts(table, sizes)
    partitions = []
    at = 0 if table == "none" else sizes.firmware_offset if table == "sd-card" else RESERVE
    for part in parts:
        partitions.append(dataclasses.replace(part, start=at, size=_round_up(part.size)))
        at += partitions[-1].size
    end = RESERVE if label == "gpt" else 0
    needed = at + end
    size = sizes.disk // ALIGNMENT * ALIGNMENT if sizes.disk else needed
    if size < needed:
        raise LayoutError(
            f"the disk of {size // MIB} MiB is too small: its parts need {needed // MIB} MiB"
            " (--disk-size)"
        )
    partitions[-1] = dataclasses.replace(partitions[-1], size=size - end - partitions[-1].start)
    return Layout(label, tuple(partitions), size)


def _parts(table: PartitionTable, sizes: Sizes) -> tuple[str, list[Partition]]:
    """Kind of the table and its partitions in the order in which they lie, not yet placed."""

    def part(number: int, name: str, kind: str, size: int, *, active: bool = False) -> Partition:
        return Partition(number, name, kind, 0, size, active)

    match table:
        case "none":
            return "", [part(0, ROOT_NAME, "", sizes.root)]
        case "legacy":
            return "dos", [part(1, ROOT_NAME, MBR_LINUX, sizes.root, active=True)]
        case "legacy+boot":
            return "dos", [
                part(1, "BOOT", MBR_FAT32_LBA, sizes.boot, active=True),
                part(2, ROOT_NAME, MBR_LINUX, sizes.root),
            ]
        case "legacy+gpt":
            return "gpt", [
                part(1, "BIOS", BIOS_BOOT, MIB),
                part(2, ROOT_NAME, LINUX, sizes.root),
            ]
        case "efi":
            return "gpt", [part(1, "ESP", ESP, sizes.boot), part(2, ROOT_NAME, LINUX, sizes.root)]
        case "efixbootldr":
            return "gpt", [
                part(1, "ESP", ESP, sizes.esp),
                part(2, "BOOT", XBOOTLDR, sizes.boot),
                part(3, ROOT_NAME, LINUX, sizes.root),
            ]
        case "hybrid":
            return "gpt", [
                part(2, "BIOS", BIOS_BOOT, MIB),
                part(1, "ESP", ESP, sizes.boot),
                part(3, ROOT_NAME, LINUX, sizes.root),
            ]
        case "sd-card":
            return "dos", [
                part(1, "FIRMWARE", MBR_FAT32, sizes.firmware),
                part(2, ROOT_NAME, MBR_LINUX, sizes.root, active=True),
            ]


def _round_up(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
