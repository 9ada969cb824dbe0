"""Computes sizes and offsets of all partitions before anything is written.

All numbers are bytes. Partition tables and partition numbers are those of nixpkgs'
make-disk-image.nix. The root file system is always the last partition, so that it can grow.
"""

import dataclasses

from orchestrator.shared.constants import MIB
from orchestrator.shared.spec import PartitionTable

SECTOR = 512

#: Bytes of boot code in the MBR; the disk signature and the partition table follow.
CODE_BYTES = 440

#: Partitions start on whole MiB, as with every partitioning tool: flash erase blocks divide it.
ALIGNMENT = MIB

#: Bytes reserved at the start of a disk, and at the end of a GPT disk. GPT needs 34 and 33 sectors
#: (UEFI specification, section 5.3.1); on an MBR disk GRUB's core image lies in this gap.
RESERVE = MIB

#: Partition types for sfdisk: aliases, MBR codes, and the GUID of a BIOS boot partition (GRUB
#: manual, "BIOS installation").
BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"
ESP, XBOOTLDR, LINUX = "uefi", "xbootldr", "linux"
MBR_FAT32, MBR_FAT32_LBA, MBR_LINUX = "b", "c", "83"

ROOT_NAME = "nixos"


class LayoutError(Exception):
    """The disk is too small for its partitions; the message has both sizes."""


@dataclasses.dataclass(frozen=True)
class Partition:
    """A partition: `number` in the table, `start` and `size` in bytes, `type` for sfdisk.

    Number 0 is a file system on a disk without a partition table.
    """

    number: int
    name: str
    type: str
    start: int
    size: int
    active: bool = False


@dataclasses.dataclass(frozen=True)
class Layout:
    """Kind of partition table ("gpt", "dos", ""), partitions by offset, and disk size."""

    label: str
    partitions: tuple[Partition, ...]
    size: int

    def find(self, name: str) -> Partition | None:
        """Return the partition `name`, None if there is none."""
        return next((part for part in self.partitions if part.name == name), None)

    @property
    def root(self) -> Partition:
        """The root file system's partition."""
        return self.partitions[-1]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of partitions; `disk` 0 means as small as possible; `firmware_offset`: SD card only."""

    root: int
    boot: int = 0
    esp: int = 0
    firmware: int = 0
    firmware_offset: int = RESERVE
    disk: int = 0


def plan_layout(table: PartitionTable, sizes: Sizes) -> Layout:
    """Compute the layout of a disk with the partition table `table`.

    Raises `LayoutError` if `sizes.disk` is given and too small.
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
            f"disk size {size // MIB} MiB is too small: the partitions need {needed // MIB} MiB"
            " (--disk-size)"
        )
    partitions[-1] = dataclasses.replace(partitions[-1], size=size - end - partitions[-1].start)
    return Layout(label, tuple(partitions), size)


def _parts(table: PartitionTable, sizes: Sizes) -> tuple[str, list[Partition]]:
    """Return the kind of partition table, and its partitions in order, all with offset 0."""

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
