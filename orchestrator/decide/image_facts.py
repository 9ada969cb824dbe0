"""Finds out system, firmware and disk format of an image file.

The facts are taken from `result.json` beside the image, or else from its content.
"""

import dataclasses
import json
import pathlib
import typing

from orchestrator.image.examine import ISO_NAME, ISO_OFFSET
from orchestrator.image.layout import CODE_BYTES
from orchestrator.shared.architectures import SYSTEMS
from orchestrator.shared.artifact import IMAGE_RESULT
from orchestrator.shared.disk_formats import DISK_FORMATS, of_suffix
from orchestrator.shared.errors import UsageError
from orchestrator.shared.spec import Firmware

#: FAT folder entry of the EFI boot loader, by Nix system, for systems that the boot check has a
#: machine for.
EFI_NAMES = {row.name: row.efi_entry for row in SYSTEMS.values() if row.guest}

#: Start of a line in NixOS' `extlinux.conf`.
EXTLINUX = b"  LINUX ../nixos/"

#: Magic numbers in the header of a RISC-V kernel image (the kernel's
#: `Documentation/arch/riscv/boot-image-header.rst`).
RISCV_KERNEL = b"RISCV\0\0\0RSC\x05"

#: Suffixes of compressed images, whose content is not examined.
COMPRESSED = frozenset({".zst", ".xz", ".gz"})

#: Number of leading bytes that are searched: boot partitions lie in them.
HEAD_BYTES = 512 << 20

#: Bytes that are read at a time.
PIECE_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class ImageFacts:
    """System, firmware kinds and disk format of an image; unknown values are empty."""

    system: str
    firmware: tuple[str, ...]
    disk_format: str


def probe(image: pathlib.Path) -> ImageFacts:
    """Return the facts of `image`, from its result file beside it if there is one."""
    try:
        document = json.loads(image.with_name(f"{image.name}{IMAGE_RESULT}").read_text())
        for one in document["images"]:
            if pathlib.PurePosixPath(one["path"]).name == image.name:
                facts = ImageFacts(one["system"], tuple(one["firmware"]), one["disk_format"])
                _check(facts)
                return facts
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        pass  # result.json is absent, foreign or old: examine the image
    *inner, suffix = ["", *image.suffixes]
    if suffix.lower() in COMPRESSED:
        return ImageFacts("", (), of_suffix(inner[-1]))
    kind = of_suffix(suffix)
    if kind not in {"raw", "iso"}:
        return ImageFacts("", (), kind)
    with image.open("rb") as file:
        code = file.read(CODE_BYTES)
        file.seek(ISO_OFFSET)
        kind = "iso" if file.read(len(ISO_NAME)) == ISO_NAME else "raw"
        file.seek(0)
        found = _found(file, (*EFI_NAMES.values(), EXTLINUX, RISCV_KERNEL))
    systems = [system for system, name in EFI_NAMES.items() if name in found]
    if len(systems) == 1:
        return ImageFacts(systems[0], ("uefi",), kind)
    if EXTLINUX in found:
        system = "riscv64-linux" if RISCV_KERNEL in found else "aarch64-linux"
        return ImageFacts(system, ("u-boot",), kind)
    if any(code):
        return ImageFacts("x86_64-linux", ("bios",), kind)
    return ImageFacts("", (), kind)


def _found(file: typing.BinaryIO, needles: tuple[bytes, ...]) -> set[bytes]:
    """Return the `needles` that occur in the first `HEAD_BYTES` of `file`."""
    found: set[bytes] = set()
    keep = b""
    for _ in range(HEAD_BYTES // PIECE_BYTES):
        if not (piece := file.read(PIECE_BYTES)):
            break
        text = keep + piece
        found |= {needle for needle in needles if needle in text}
        keep = text[-max(map(len, needles)) :]
    return found


def _check(facts: ImageFacts) -> None:
    """Raise `ValueError` for unknown values: they would become names of container images."""
    good = facts.system in SYSTEMS and facts.disk_format in DISK_FORMATS
    if not good or not set(facts.firmware) <= set(typing.get_args(Firmware)):
        raise ValueError


def needed(system: str, firmware: str, name: str) -> None:
    """Raise `UsageError` if system or firmware is unknown, so that an option must name it."""
    if not system or not firmware:
        raise UsageError(
            f"{name}: system and firmware of the image are unknown",
            hint="name them: --system SYSTEM --firmware uefi|bios|u-boot",
        )
