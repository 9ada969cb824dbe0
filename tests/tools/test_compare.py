"""Tests that a difference of two images is reported by partition, file and offset."""

import os
import pathlib
import random
import re
import shutil
import subprocess
import tarfile

import pytest

from orchestrator.image.compare import describe, first_difference
from orchestrator.image.layout import Layout, Partition

pytestmark = pytest.mark.needs("mke2fs", "debugfs", "mkfs.vfat", "mcopy", "bulk.so", "still.so")


MIB = 1 << 20
SPARE = MIB
FAT_AT, EXT4_AT, OTHER_AT = 2 * MIB, 50 * MIB, 40 * MIB

DICE = random.Random(1)  # noqa: S311
#: Unique content of each file: any piece of it is found once in the whole image.
CONTENT = {
    name: DICE.randbytes(size)
    for name, size in {
        "one": 700,
        "folder/two": 9 * 4096 + 17,
        "folder/deep er/three ☕": 5000,
        "large": 3 * MIB,
    }.items()
}
FAT_CONTENT = {
    name: DICE.randbytes(size)
    for name, size in {
        "LOADER.EFI": 300_000,
        "EFI/nixos/0c7zvwjrlhqirf3z3-linux-6.12 Image.efi": 20_001,
        "EFI/BOOT/BOOTX64.EFI": 513,
        "loader/entries/nixos.conf": 100,
    }.items()
}


def run(*command: str | pathlib.Path) -> None:
    subprocess.run(
        command, check=True, capture_output=True, env={**os.environ, "LC_ALL": "C.UTF-8"}
    )


def fill(folder: pathlib.Path, files: dict[str, bytes]) -> pathlib.Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def make(folder: pathlib.Path, bits: int) -> tuple[pathlib.Path, Layout]:
    """Make an image with a FAT of `bits`, an empty BIOS partition and an ext4."""
    image = folder / "image.raw"
    layout = Layout(
        "gpt",
        (
            Partition(1, "ESP", "uefi", FAT_AT, 36 * MIB),
            Partition(2, "BIOS", "", OTHER_AT, MIB),
            Partition(3, "nixos", "linux", EXT4_AT, 24 * MIB),
        ),
        EXT4_AT + 24 * MIB + SPARE,
    )
    with image.open("xb") as file:
        os.truncate(file.fileno(), layout.size)
    cluster = "1" if bits == 32 else "2"
    mkfs = ["mkfs.vfat", "-F", str(bits), "-s", cluster, "--offset", str(FAT_AT // 512)]
    run(*mkfs, image, str(36 << 10))
    files = fill(folder / "fat", FAT_CONTENT)
    gaps = fill(folder / "gaps", {f"gap{number}": bytes(5000) for number in range(6)})
    at = f"{image}@@{FAT_AT}"
    run("mcopy", "-Q", "-i", at, *sorted(gaps.iterdir()), "::/")
    # Delete files, so that the next file is fragmented.
    run("mdel", "-i", at, "::/gap0", "::/gap2", "::/gap4")
    run("mcopy", "-s", "-Q", "-i", at, *sorted(files.iterdir()), "::/")
    files = fill(folder / "ext4", CONTENT)
    ext4 = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-E", f"offset={EXT4_AT}", "-d"]
    run(*ext4, files, image, str(24 << 10) + "k")
    return image, layout


@pytest.fixture(scope="module", params=[16, 32], ids=["FAT16", "FAT32"])
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[pathlib.Path, Layout]:
    return make(tmp_path_factory.mktemp("compare"), request.param)


def flip(image: pathlib.Path, offset: int) -> None:
    with image.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0xFF]))


def told(made: tuple[pathlib.Path, Layout], offset: int) -> str:
    """Return the description of a byte that differs in a second image."""
    image, layout = made
    other = image.with_name("other.raw")
    if not other.exists():
        shutil.copyfile(image, other)
    flip(other, offset)
    assert first_difference(image, other) == offset
    flip(other, offset)
    return describe(image, layout, offset)


def place(image: pathlib.Path, data: bytes, at: int) -> int:
    """Return the offset in the image of byte `at` of a file with the unique content `data`."""
    block = at // 512 * 512
    whole = image.read_bytes()
    piece = data[block : block + 512]
    assert whole.count(piece) == 1
    return whole.index(piece) + at - block


@pytest.mark.parametrize(
    ("name", "at"),
    [
        *(("one", at) for at in (0, 699)),
        *(("folder/two", at) for at in (1, 4096, 20_000, 9 * 4096 + 16)),
        *(("folder/deep er/three ☕", at) for at in (0, 4999)),
        *(("large", at) for at in (0, MIB, 3 * MIB - 1)),
    ],
)
def test_a_byte_of_a_file_on_ext4_is_told_by_its_place_in_the_file(
    name: str, at: int, made: tuple[pathlib.Path, Layout]
) -> None:
    offset = place(made[0], CONTENT[name], at)
    expected = f"partition 3 (nixos), offset {offset - EXT4_AT}: /{name}, offset {at}"
    assert told(made, offset) == expected


@pytest.mark.parametrize(
    ("name", "at"),
    [
        *(("LOADER.EFI", at) for at in (0, 511, 512, 100_000, 299_999)),
        *(("EFI/nixos/0c7zvwjrlhqirf3z3-linux-6.12 Image.efi", at) for at in (3, 20_000)),
        *(("EFI/BOOT/BOOTX64.EFI", at) for at in (0, 512)),
        ("loader/entries/nixos.conf", 99),
    ],
)
def test_a_byte_of_a_file_on_fat_is_told_by_its_place_in_the_file(
    name: str, at: int, made: tuple[pathlib.Path, Layout]
) -> None:
    data = FAT_CONTENT[name]
    offset = place(made[0], data, at) if at != 512 or len(data) > 513 else 0
    if not offset:  # a last sector of one byte is not unique, but it follows the first
        offset = place(made[0], data, 0) + 512
    expected = f"partition 1 (ESP), offset {offset - FAT_AT}: /{name}, offset {at}"
    assert told(made, offset) == expected


@pytest.mark.parametrize("inner", [0, 43, 512 * 4, 512 * 40, 512 * 100])
def test_fats_own_bytes_are_told(inner: int, made: tuple[pathlib.Path, Layout]) -> None:
    said = told(made, FAT_AT + inner)
    assert said == f"partition 1 (ESP), offset {inner}: FAT's own structures"


def test_fat16s_top_folder_is_one_of_its_own_structures(made: tuple[pathlib.Path, Layout]) -> None:
    image, layout = made
    offset = image.read_bytes().index(b"LOADER  EFI")
    said = describe(image, layout, offset)
    with image.open("rb") as file:
        file.seek(FAT_AT + 54)
        fat16 = file.read(5) == b"FAT16"
    assert said.endswith(": FAT's own structures" if fat16 else ": a folder, or an unused cluster")


def test_a_folder_on_fat_is_told_by_its_name(made: tuple[pathlib.Path, Layout]) -> None:
    offset = made[0].read_bytes().index(b"BOOTX64 EFI")
    # Two entries of 32 bytes, `.` and `..`, come before.
    assert told(made, offset).endswith(": /EFI/BOOT/, offset 64")


def test_what_nothing_on_fat_uses_is_told(made: tuple[pathlib.Path, Layout]) -> None:
    said = told(made, FAT_AT + 36 * MIB - 4096)
    assert said.endswith(": a folder, or an unused cluster")


@pytest.mark.parametrize("inner", [1024 + 0x78, 4096 + 7])
def test_ext4s_own_bytes_are_told(inner: int, made: tuple[pathlib.Path, Layout]) -> None:
    said = told(made, EXT4_AT + inner)
    assert said == f"partition 3 (nixos), offset {inner}: ext4's own structures"


def test_a_folder_of_ext4_is_told_by_its_name(made: tuple[pathlib.Path, Layout]) -> None:
    offset = made[0].read_bytes().index("three ☕".encode(), EXT4_AT)
    said = told(made, offset)
    assert re.fullmatch(r"partition 3 \(nixos\), offset \d+: /folder/deep er, offset \d+", said)


def test_a_partition_without_a_file_system_is_told_by_its_name(
    made: tuple[pathlib.Path, Layout],
) -> None:
    assert told(made, OTHER_AT + 5) == "partition 2 (BIOS), offset 5"


@pytest.mark.parametrize(
    "offset", [0, 446, FAT_AT - 1, FAT_AT + 36 * MIB, EXT4_AT - 1, EXT4_AT + 24 * MIB]
)
def test_what_is_outside_of_partitions_is_told(
    offset: int, made: tuple[pathlib.Path, Layout]
) -> None:
    assert told(made, offset) == f"offset {offset}, outside of all partitions"


def test_holes_before_a_byte_do_not_change_its_place_in_the_file(tmp_path: pathlib.Path) -> None:
    """mke2fs does not write blocks of zeros."""
    data = DICE.randbytes(4096) + bytes(8 * 4096) + DICE.randbytes(4096)
    image = tmp_path / "image.raw"
    with image.open("xb") as file:
        os.truncate(file.fileno(), 24 * MIB)
    with tarfile.open(tmp_path / "tar", "w") as archive:
        archive.add(fill(tmp_path / "files", {"sparse": data}) / "sparse", "sparse")
    run("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-d", tmp_path / "tar", image)
    layout = Layout("", (Partition(0, "nixos", "", 0, 24 * MIB),), 24 * MIB)
    offset = place(image, data, 9 * 4096 + 10)
    assert describe(image, layout, offset).endswith(f"/sparse, offset {9 * 4096 + 10}")


def test_a_large_blocks_list_is_read_whole(tmp_path: pathlib.Path) -> None:
    """A fragmented file has extra blocks for its list of extents."""
    image = tmp_path / "image.raw"
    with image.open("xb") as file:
        os.truncate(file.fileno(), 24 * MIB)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", image)
    small = fill(tmp_path / "small", {"filler": b"x" * 4096})
    lines = [f"write {small}/filler f{number}" for number in range(4000)]
    lines += [f"rm f{number}" for number in range(0, 4000, 2)]
    data = DICE.randbytes(MIB)
    files = fill(tmp_path / "files", {"pieces": data})
    (tmp_path / "script").write_text("\n".join([*lines, f"write {files}/pieces pieces"]) + "\n")
    run("debugfs", "-w", "-f", tmp_path / "script", image)
    layout = Layout("", (Partition(0, "nixos", "", 0, 24 * MIB),), 24 * MIB)
    for at in (0, 500_000, MIB - 1):
        said = describe(image, layout, place(image, data, at))
        assert said.endswith(f"/pieces, offset {at}")


# --- the first difference ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (b"", b"", None),
        (b"abc", b"abc", None),
        (bytes(3 * MIB), bytes(3 * MIB), None),
        (b"abc", b"abd", 2),
        (b"abc", b"xbd", 0),
        (b"abc", b"ab", 2),
        (b"ab", b"abc", 2),
        (b"", b"a", 0),
        (bytes(MIB), bytes(MIB + 1), MIB),
        (bytes(2 * MIB), bytes(MIB), MIB),
        (bytes(MIB - 1) + b"\1", bytes(MIB), MIB - 1),
        (bytes(MIB) + b"\1" + bytes(MIB), bytes(2 * MIB + 1), MIB),
        (bytes(5 * MIB + 7) + b"\1", bytes(5 * MIB + 8), 5 * MIB + 7),
    ],
    ids=range(13),
)
def test_the_first_difference(
    one: bytes, other: bytes, expected: int | None, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "one").write_bytes(one)
    (tmp_path / "other").write_bytes(other)
    assert first_difference(tmp_path / "one", tmp_path / "other") == expected
    assert first_difference(tmp_path / "other", tmp_path / "one") == expected
