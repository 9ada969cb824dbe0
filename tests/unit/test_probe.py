"""Tests facts of an image file: from result.json, else from its content, else an error."""

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


def test_what_the_run_has_said_wins(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.img.result.json").write_text(json.dumps(RESULT))
    path = image(tmp_path, X86, MBR)
    assert look(path) == ImageFacts("aarch64-linux", ("uefi", "bios"), "vpc-fixed")


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


@pytest.mark.parametrize(
    ("name", "disk_format"),
    [
        ("a.qcow2", "qcow2"),
        ("a.VDI", "vdi"),
        ("a.vhd", "vpc"),
        ("a.vhdx", "vhdx"),
        ("a.vmdk", "vmdk"),
    ],
)
def test_a_disk_of_another_format_is_known_by_its_suffix_alone(
    name: str, disk_format: str, tmp_path: pathlib.Path
) -> None:
    assert look(image(tmp_path, X86, MBR, name=name)) == ImageFacts("", (), disk_format)


@pytest.mark.parametrize("name", ["a.img.zst", "a.img.xz", "a.img.gz", "a.qcow2.zst"])
def test_a_compressed_image_is_not_taken_for_a_boot_sector(
    name: str, tmp_path: pathlib.Path
) -> None:
    path = image(tmp_path, (0, b"\x28\xb5\x2f\xfd compressed"), name=name)
    assert (look(path).system, look(path).firmware) == ("", ())


def test_an_empty_file_is_nothing(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.img").touch()
    assert look(tmp_path / "a.img") == ImageFacts("", (), "raw")


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
    """Search a head of 64 MiB, an eighth of the product's, for speed."""
    assert image_facts.HEAD_BYTES == 512 * MIB
    monkeypatch.setattr(image_facts, "HEAD_BYTES", 64 * MIB)
    return 64 * MIB


def large(folder: pathlib.Path, place: int, data: bytes) -> pathlib.Path:
    """Make an image of 80 MiB with `data` at `place`."""
    path = image(folder)
    os.truncate(path, 80 * MIB)
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
        assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    finally:
        tracemalloc.stop()
