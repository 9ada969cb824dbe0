"""Tests the checks of a finished image: each kind of damage is detected."""

import pathlib
import subprocess

import pytest

from orchestrator.image import examine
from orchestrator.image.filesystems.filesystem import FilesystemError
from orchestrator.image.layout import Layout, Partition
from orchestrator.shared.constants import MIB

pytestmark = pytest.mark.own_store

LAYOUT = Layout("gpt", (Partition(1, "root", "L", MIB, 6 * MIB),), 8 * MIB)


def tool(*command: object, text: str = "") -> None:
    subprocess.run(list(map(str, command)), input=text.encode(), check=True, capture_output=True)


@pytest.fixture
def image(tmp_path: pathlib.Path) -> pathlib.Path:
    """Make a disk with one ext4 partition."""
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(LAYOUT.size)
    tool("mke2fs", "-q", "-F", "-t", "ext4", "-E", f"offset={MIB}", path, "6144k")
    tool("sfdisk", "-q", "--no-reread", path, text="label: gpt\nstart=2048, size=12288\n")
    return path


def test_a_sound_image_passes(image: pathlib.Path) -> None:
    examine.raw_image(image, LAYOUT, "ext4")


def test_a_table_that_says_otherwise_is_told(image: pathlib.Path) -> None:
    tool("sfdisk", "-q", "--no-reread", image, text="label: gpt\nstart=4096, size=2048\n")
    with pytest.raises(
        FilesystemError, match=r"finds partitions at \[2097152\], expected \[1048576\]"
    ):
        examine.raw_image(image, LAYOUT, "ext4")


def test_a_table_that_is_gone_is_told(image: pathlib.Path) -> None:
    with image.open("r+b") as file:
        file.write(bytes(34 * 512))
        file.seek(-34 * 512, 2)
        file.write(bytes(34 * 512))
    with pytest.raises(FilesystemError, match=r"partitions at \[\]"):
        examine.raw_image(image, LAYOUT, "ext4")


def test_a_file_system_that_is_damaged_is_told(image: pathlib.Path) -> None:
    with image.open("r+b") as file:
        file.seek(MIB + 1024 + 0x0C)  # place of the superblock's count of free blocks
        file.write(b"\1\0\0\0")
    with pytest.raises(FilesystemError, match="e2fsck"):
        examine.raw_image(image, LAYOUT, "ext4")


@pytest.mark.parametrize(("name", "command"), [("x.zst", "zstd"), ("x.xz", "xz"), ("x.gz", "gzip")])
def test_a_file_that_is_cut_off_is_told(name: str, command: str, tmp_path: pathlib.Path) -> None:
    plain, packed = tmp_path / "x", tmp_path / name
    plain.write_bytes(bytes(range(256)) * 4000)
    tool(command, "-q", plain)
    examine.packed(packed)
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(FilesystemError):
        examine.packed(packed)


def test_an_empty_file_is_told(tmp_path: pathlib.Path) -> None:
    (tmp_path / "image.img").touch()
    with pytest.raises(FilesystemError, match=r"^image\.img is empty$"):
        examine.packed(tmp_path / "image.img")


@pytest.mark.parametrize("driver", ["qcow2", "vdi", "vhdx", "vmdk", "vpc"])
def test_a_disk_image_that_is_damaged_is_told(
    driver: str, image: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    disk = tmp_path / f"disk.{driver}"
    tool("qemu-img", "convert", "-O", driver, image, disk)
    examine.disk_file(disk, driver)
    content = bytearray(disk.read_bytes())
    content[:512] = bytes(512)
    content[-512:] = bytes(512)  # a VHD has its header twice
    disk.write_bytes(content)
    with pytest.raises(FilesystemError, match="qemu-img"):
        examine.disk_file(disk, driver)


def test_what_is_no_iso_is_told(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "x.iso"
    file.write_bytes(bytes(0x8001) + b"CD001")
    examine.iso(file)
    file.write_bytes(bytes(0x9000))
    with pytest.raises(FilesystemError, match=r"x\.iso has no ISO 9660 file system"):
        examine.iso(file)
