"""What an image file is: by what its own run has said of it, else by what it looks like."""

import dataclasses
import json
import pathlib
import typing

from orchestrator.image.examine import ISO_NAME, ISO_OFFSET
from orchestrator.image.layout import CODE_BYTES
from orchestrator.shared.architectures import SYSTEMS
from orchestrator.shared.disk_formats import DISK_FORMATS, of_suffix
from orchestrator.shared.errors import UsageError
from orchestrator.shared.spec import Firmware

#: The file that UEFI looks for on an ESP, as a FAT folder has its name: of machines that can be
#: booted here.
EFI_NAMES = {row.name: row.efi_entry for row in SYSTEMS.values() if row.guest}

#: What `extlinux.conf` begins its lines with, where NixOS has written it.
EXTLINUX = b"  LINUX ../nixos/"

#: In the header of a RISC-V kernel image: both of its magic numbers (the kernel's
#: `Documentation/arch/riscv/boot-image-header.rst`).
RISCV_KERNEL = b"RISCV\0\0\0RSC\x05"

#: Suffixes of what says nothing until it is unpacked.
COMPRESSED = frozenset({".zst", ".xz", ".gz"})

#: Boot partitions lie within the first of these bytes.
HEAD_BYTES = 512 << 20

#: They are read in pieces of this size.
PIECE_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class ImageFacts:
    """Empty where it could not be told."""

    system: str
    firmware: tuple[str, ...]
    disk_format: str


def probe(image: pathlib.Path, result: pathlib.Path) -> ImageFacts:
    """Facts of `image`; `result` is the `result.json` beside it, if there is one."""
    try:
        document = json.loads(result.read_text())
        for one in document["images"]:
            if pathlib.PurePosixPath(one["path"]).name == image.name:
                facts = ImageFacts(one["system"], tuple(one["firmware"]), one["disk_format"])
                _check(facts)
                return facts
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        pass  # it is another's, or an older one: the image itself tells
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
    """Which of `needles` the first `HEAD_BYTES` of `file` hold."""
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
    """Raise `ValueError` for words that no run here says: they would become names of images."""
    good = facts.system in SYSTEMS and facts.disk_format in DISK_FORMATS
    if not good or not set(facts.firmware) <= set(typing.get_args(Firmware)):
        raise ValueError


def needed(system: str, firmware: str, name: str) -> None:
    """Raise `UsageError` for what the caller has to say himself."""
    if not system or not firmware:
        raise UsageError(
            f"{name}: which machine is it for?", hint="--system SYSTEM --firmware uefi|bios|u-boot"
        )
