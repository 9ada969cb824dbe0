"""Tests facts of an image file: from result.json, else from its content, else an error."""

import contextlib
import json
import os
import pathlib
import tracemalloc

import pytest

from orchestrator.decide import image_facts
from orchestrator.decide.image_facts import ImageFacts, needed, probe
from orchestrator.shared.errors import UsageError

MIB = 1 << 20
RESULT = {
    "images": [
        {
            "path": "/out/other.img",
            "system": "i686-linux",
            "firmware": ["bios"],
            "disk_format": "raw",
        },
        {
            "path": "/out/a.img",
            "system": "aarch64-linux",
            "firmware": ["uefi", "bios"],
            "disk_format": "vpc-fixed",
        },
    ],
}


def image(folder: pathlib.Path, *pieces: tuple[int, bytes], name: str = "a.img") -> pathlib.Path:
    """Make a sparse file with `pieces` at their offsets."""
    path = folder / name
    with path.open("wb") as file:
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)
    os.truncate(path, 4 * MIB)
    return path


def look(path: pathlib.Path) -> ImageFacts:
    return probe(path)


AARCH64 = (MIB + 70, b"BOOTAA64EFI ")
RISCV = (MIB + 70, b"BOOTRI~1EFI ")
X86 = (MIB + 102, b"BOOTX64 EFI ")
SD_CARD = (2 * MIB, b"LABEL nixos\n  LINUX ../nixos/x-Image\n")
RISCV_KERNEL = (3 * MIB, b"MZ" + bytes(46) + b"RISCV\0\0\0RSC\x05\x40")
MBR = (0, b"\xeb\x63\x90")
ISO = (0x8000, b"\1CD001\1")

#: Header of a qcow2 image whose tables lie at 192 KiB and 64 KiB.
QCOW2 = b"QFI\xfb\0\0\0\3" + bytes(32) + (3 << 16).to_bytes(8) + (1 << 16).to_bytes(8)


def test_what_the_run_has_said_wins(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.img.result.json").write_text(json.dumps(RESULT))
    path = image(tmp_path, X86, MBR)
    with path.open("r+b") as file:
        file.seek(4 * MIB - 512)
        file.write(b"conectix")
    assert look(path) == ImageFacts("aarch64-linux", ("uefi", "bios"), "vpc-fixed")


def test_the_content_decides_the_format_whatever_the_run_has_said(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.img.result.json").write_text(json.dumps(RESULT))
    path = image(tmp_path, (0, QCOW2))
    assert look(path) == ImageFacts("aarch64-linux", ("uefi", "bios"), "qcow2")


def test_the_word_of_another_image_does_not_count(tmp_path: pathlib.Path) -> None:
    (tmp_path / "b.img.result.json").write_text(json.dumps(RESULT))
    assert look(image(tmp_path, X86, name="b.img")) == ImageFacts("x86_64-linux", ("uefi",), "raw")


BROKEN = {
    "not JSON": "{",
    "nothing": "",
    "null": "null",
    "a list": "[]",
    "a number": "1",
    "no images": '{"system": "aarch64-linux"}',
    "images null": '{"system": "aarch64-linux", "images": null}',
    "images of text": '{"system": "aarch64-linux", "images": ["a.img"]}',
    "images an object": '{"system": "aarch64-linux", "images": {"a": 1}}',
    "no path": '{"system": "aarch64-linux", "images": [{}]}',
    "path a number": '{"system": "aarch64-linux", "images": [{"path": 1}]}',
    "no system": '{"images": [{"path": "a.img", "firmware": ["uefi"], "disk_format": "raw"}]}',
    "no firmware": '{"system": "s", "images": [{"path": "a.img", "disk_format": "raw"}]}',
    "firmware empty": (
        '{"system": "s", "images": [{"path": "a.img", "firmware": [], "disk_format": "raw"}]}'
    ),
    "firmware null": (
        '{"system": "s", "images": [{"path": "a.img", "firmware": null, "disk_format": "raw"}]}'
    ),
    "no format": '{"system": "s", "images": [{"path": "a.img", "firmware": ["uefi"]}]}',
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_word_is_ignored(text: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.img.result.json").write_text(text)
    assert look(image(tmp_path, X86)) == ImageFacts("x86_64-linux", ("uefi",), "raw")


def test_a_word_that_cannot_be_read_is_ignored(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.img.result.json").write_bytes(b"\xff\xfe")
    path = image(tmp_path, X86)
    assert look(path) == ImageFacts("x86_64-linux", ("uefi",), "raw")
    (tmp_path / "a.img.result.json").unlink()
    assert look(path) == ImageFacts("x86_64-linux", ("uefi",), "raw")
    (tmp_path / "a.img.result.json").mkdir()
    assert look(path) == ImageFacts("x86_64-linux", ("uefi",), "raw")


@pytest.mark.parametrize(
    ("pieces", "facts"),
    [
        ((AARCH64,), ImageFacts("aarch64-linux", ("uefi",), "raw")),
        ((RISCV, RISCV_KERNEL), ImageFacts("riscv64-linux", ("uefi",), "raw")),
        ((X86,), ImageFacts("x86_64-linux", ("uefi",), "raw")),
        ((X86, MBR), ImageFacts("x86_64-linux", ("uefi",), "raw")),
        ((SD_CARD,), ImageFacts("aarch64-linux", ("u-boot",), "raw")),
        ((SD_CARD, RISCV_KERNEL), ImageFacts("riscv64-linux", ("u-boot",), "raw")),
        ((MBR,), ImageFacts("x86_64-linux", ("bios",), "raw")),
        (((439, b"\1"),), ImageFacts("x86_64-linux", ("bios",), "raw")),
        (((440, b"disk signature"), (510, b"\x55\xaa")), ImageFacts("", (), "raw")),
        ((AARCH64, X86), ImageFacts("", (), "raw")),
        ((MBR, ISO), ImageFacts("x86_64-linux", ("bios",), "iso")),
        ((X86, ISO), ImageFacts("x86_64-linux", ("uefi",), "iso")),
        ((ISO,), ImageFacts("", (), "iso")),
        ((), ImageFacts("", (), "raw")),
    ],
    ids=[
        *("aarch64", "riscv64", "x86", "hybrid", "sd card", "riscv64 sd card"),
        *("bios", "last byte", "table", "both"),
        *("bios iso", "uefi iso", "iso", "nothing"),
    ],
)
def test_an_image_is_known_by_its_looks(
    pieces: tuple[tuple[int, bytes], ...], facts: ImageFacts, tmp_path: pathlib.Path
) -> None:
    assert look(image(tmp_path, *pieces)) == facts


@pytest.mark.parametrize("name", ["a.img", "a", "a.qcow2", "a.vmdk", "a.img.zst"])
@pytest.mark.parametrize(
    ("pieces", "disk_format", "packed"),
    [
        (((0, QCOW2),), "qcow2", ""),
        (((0, b"KDMV\1"),), "vmdk", ""),
        (((0, b"<<< QEMU VM Virtual Disk Image >>>"), (64, b"\x7f\x10\xda\xbe")), "vdi", ""),
        (((0, b"conectix"),), "vpc", ""),
        (((4 * MIB - 512, b"conectix"),), "vpc-fixed", ""),
        (((0, b"vhdxfile"),), "vhdx", ""),
        (((0, b"\x28\xb5\x2f\xfd compressed"),), "raw", "zstd"),
        (((0, b"\xfd7zXZ\0"),), "raw", "xz"),
        (((0, b"\x1f\x8b\x08"),), "raw", "gzip"),
    ],
    ids=["qcow2", "vmdk", "vdi", "vpc", "fixed", "vhdx", "zst", "xz", "gz"],
)
def test_a_file_is_what_its_content_says(
    pieces: tuple[tuple[int, bytes], ...],
    disk_format: str,
    packed: str,
    name: str,
    tmp_path: pathlib.Path,
) -> None:
    path = image(tmp_path, *pieces, name=name)
    assert look(path) == ImageFacts("", (), disk_format, packed)


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        (((0, b"PK\3\4"),), "the file is a ZIP archive"),
        (((0, b"BZh9"),), "the file is compressed with bzip2"),
        (((0, b"nixos.ovf"), (257, b"ustar")), "the file is an OVA archive"),
        (((0, b"nixos.img"), (257, b"ustar")), "the file is a tar archive"),
        (((0, b"# Disk DescriptorFile\n"),), "the file is the description of a VMDK"),
        (((0, b"<!DOCTYPE html>"),), "the file is a web page"),
        (((4096, b"EFI PART"),), "is for a disk with sectors of 4096 bytes"),
        (
            ((512, b"EFI PART" + bytes(24) + (9000).to_bytes(8, "little")),),
            f"the file ends after {4 * MIB} bytes, but the image has at least {9001 * 512}",
        ),
        (
            ((446, bytes(4) + b"\x83" + bytes(3) + b"\1\0\0\0\0\0\1\0"), (510, b"\x55\xaa")),
            f"the file ends after {4 * MIB} bytes, but the image has at least {65537 * 512}",
        ),
        (((0, QCOW2[:40] + (5 * MIB).to_bytes(8) + QCOW2[48:]),), "the file ends after"),
        (((0, b"QFI\xfb\0\0\0\3" + bytes(32) + b"\xff" * 16),), "the file ends after"),
    ],
)
def test_what_is_no_whole_image_is_named(
    pieces: tuple[tuple[int, bytes], ...], message: str, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(UsageError, match=rf"^a\.img: .*{message}") as caught:
        look(image(tmp_path, *pieces))
    assert caught.value.hint


@pytest.mark.parametrize("name", ["a.qcow2", "a.VDI", "a.vhd", "a.vmdk", "a.img.xz", "a.img.ZST"])
def test_a_suffix_that_the_content_does_not_bear_out_is_told(
    name: str, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(UsageError, match="the content is no "):
        look(image(tmp_path, X86, name=name))


@pytest.mark.parametrize("end", [1, 511, 512, 520, 4095])
def test_a_short_file_is_read_without_an_error(end: int, tmp_path: pathlib.Path) -> None:
    path = image(tmp_path, (0, QCOW2))
    os.truncate(path, end)
    with contextlib.suppress(UsageError):
        look(path)


def test_an_empty_file_is_told(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.img").touch()
    with pytest.raises(UsageError, match=r"^a\.img: the file is empty$"):
        look(tmp_path / "a.img")


@pytest.mark.parametrize("facts", [("", ""), ("x86_64-linux", ""), ("", "uefi")])
def test_what_could_not_be_told_is_asked_for(facts: tuple[str, str]) -> None:
    with pytest.raises(
        UsageError, match=r"^a\.img: system and firmware of the image are unknown$"
    ) as caught:
        needed(*facts, "a.img")
    assert caught.value.hint == "name them: --system SYSTEM --firmware uefi|bios|u-boot"


def test_what_is_known_is_not_asked_for() -> None:
    needed("x86_64-linux", "uefi", "a.img")


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> int:
    """Search a head of 24 MiB instead of the product's, for speed."""
    assert image_facts.HEAD_BYTES == 512 * MIB
    monkeypatch.setattr(image_facts, "HEAD_BYTES", 24 * MIB)
    return 24 * MIB


def large(folder: pathlib.Path, place: int, data: bytes) -> pathlib.Path:
    """Make an image of 32 MiB with `data` at `place`."""
    path = image(folder)
    os.truncate(path, 32 * MIB)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(data)
    return path


@pytest.mark.parametrize("place", [5 * MIB - 7, -MIB])
def test_a_name_is_found_wherever_the_head_has_it(
    place: int, head: int, tmp_path: pathlib.Path
) -> None:
    path = large(tmp_path, place % head, X86[1])
    assert look(path) == ImageFacts("x86_64-linux", ("uefi",), "raw")


def test_a_name_behind_the_head_is_a_files(head: int, tmp_path: pathlib.Path) -> None:
    path = large(tmp_path, head + MIB, X86[1])
    assert look(path) == ImageFacts("", (), "raw")


@pytest.mark.usefixtures("head")
def test_a_large_image_is_not_read_into_memory(tmp_path: pathlib.Path) -> None:
    path = large(tmp_path, 0, b"")
    tracemalloc.start()
    try:
        look(path)
        assert tracemalloc.get_traced_memory()[1] < 12 * MIB
    finally:
        tracemalloc.stop()
