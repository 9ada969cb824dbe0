"""Finds out system, firmware and disk format of an image file.

The facts are taken from `result.json` beside the image, or else from its content.
"""

import dataclasses
import json
import pathlib
import typing

from orchestrator.image import magic
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

#: Suffixes of compressed images.
COMPRESSED = frozenset({".zst", ".xz", ".gz"})

#: Number of leading bytes that are searched: boot partitions lie in them.
HEAD_BYTES = 512 << 20

#: Most letters that are read of a `result.json`: its values take many times as much memory.
RESULT_LETTERS = 16 << 20

#: Bytes that are read at a time.
PIECE_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class ImageFacts:
    """System, firmware kinds and disk format of an image; unknown values are empty.

    `packed` is the program that unpacks a compressed image.
    """

    system: str
    firmware: tuple[str, ...]
    disk_format: str
    packed: str = ""


def probe(image: pathlib.Path) -> ImageFacts:
    """Return the facts of `image`, from its result file beside it if there is one.

    Format and compression are always those of the content. Raises `UsageError` if the file is not
    whole, or no image.
    """
    try:
        kind = magic.kind_of(image)
    except magic.NoImageError as error:
        raise UsageError(f"{image.name}: {error}", hint=error.hint) from error
    named = image.suffix if image.suffix.lower() in COMPRESSED else of_suffix(image.suffix)
    if kind == magic.Kind("raw") and named not in {"raw", "iso"}:
        raise UsageError(
            f"{image.name}: the content is no {named.removeprefix('.')} image",
            hint="copy or download it again; if it is a raw disk, call it .img",
        )
    try:
        with image.with_name(f"{image.name}{IMAGE_RESULT}").open() as file:
            document = json.loads(file.read(RESULT_LETTERS))
        for one in document["images"]:
            if pathlib.PurePosixPath(one["path"]).name == image.name:
                facts = ImageFacts(one["system"], tuple(one["firmware"]), one["disk_format"])
                _check(facts)
                said = DISK_FORMATS[facts.disk_format].driver
                same = said == DISK_FORMATS[kind.disk_format].driver or bool(kind.packed)
                disk_format = facts.disk_format if same else kind.disk_format
                return dataclasses.replace(facts, disk_format=disk_format, packed=kind.packed)
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        pass  # result.json is absent, foreign or old: examine the image
    if kind.packed or kind.disk_format not in {"raw", "iso"}:
        return ImageFacts("", (), kind.disk_format, kind.packed)
    with image.open("rb") as data:
        code = data.read(CODE_BYTES)
        data.seek(0)
        found = _found(data, (*EFI_NAMES.values(), EXTLINUX, RISCV_KERNEL))
    systems = [system for system, name in EFI_NAMES.items() if name in found]
    if len(systems) == 1:
        return ImageFacts(systems[0], ("uefi",), kind.disk_format)
    if EXTLINUX in found:
        system = "riscv64-linux" if RISCV_KERNEL in found else "aarch64-linux"
        return ImageFacts(system, ("u-boot",), kind.disk_format)
    if any(code):
        return ImageFacts("x86_64-linux", ("bios",), kind.disk_format)
    return ImageFacts("", (), kind.disk_format)


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
