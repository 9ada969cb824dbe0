"""Tests block maps: only written blocks, with checksums that bmaptool accepts."""

import hashlib
import os
import pathlib
import random
import shutil
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import pytest

from orchestrator.image import bmap
from orchestrator.image.bmap import BLOCK, block_map

MIB = 1 << 20


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Return a folder on a file system that reports holes, which Docker's own may not do."""
    for place in (tmp_path, pathlib.Path("/dev/shm")):
        found = pathlib.Path(tempfile.mkdtemp(dir=place))
        try:
            with write(found / "probe", MIB).open("rb") as file:
                if os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 0:
                    (found / "probe").unlink()
                    yield found
                    return
        finally:
            shutil.rmtree(found)
    pytest.skip("no file system here keeps holes")


def write(path: pathlib.Path, size: int, *pieces: tuple[int, bytes]) -> pathlib.Path:
    """Make a sparse file of `size` bytes with `pieces` at their offsets."""
    with path.open("wb") as file:
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)
    os.truncate(path, size)
    return path


def ranges(text: str) -> list[tuple[int, int, str]]:
    """Return first block, last block and checksum of each range."""
    found = []
    for element in ET.fromstring(text).iterfind("BlockMap/Range"):  # noqa: S314
        first, _, last = (element.text or "").strip().partition("-")
        found.append((int(first), int(last or first), element.attrib["chksum"]))
    return found


def field(text: str, name: str) -> str:
    return (ET.fromstring(text).findtext(name) or "").strip()  # noqa: S314


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def dice() -> random.Random:
    return random.Random(1)  # noqa: S311


def test_written_blocks_are_mapped_and_holes_are_not(
    folder: pathlib.Path, dice: random.Random
) -> None:
    one, run, last = (dice.randbytes(size) for size in (BLOCK, 5 * BLOCK, BLOCK))
    pieces = ((0, one), (100 * BLOCK, run), (8 * MIB - BLOCK, last))
    text = block_map(write(folder / "image.raw", 8 * MIB, *pieces))
    assert ranges(text) == [
        (0, 0, sha256(one)),
        (100, 104, sha256(run)),
        (2047, 2047, sha256(last)),
    ]
    assert (field(text, "ImageSize"), field(text, "BlockSize")) == (str(8 * MIB), "4096")
    assert (field(text, "BlocksCount"), field(text, "MappedBlocksCount")) == ("2048", "7")
    assert ET.fromstring(text).attrib["version"] == "2.0"  # noqa: S314
    assert field(text, "ChecksumType") == "sha256"


def test_ranges_are_written_as_bmaptool_reads_them(folder: pathlib.Path) -> None:
    text = block_map(write(folder / "a", 8 * BLOCK, (0, b"a"), (3 * BLOCK, b"b" * 2 * BLOCK)))
    places = [element.text for element in ET.fromstring(text).iter("Range")]  # noqa: S314
    assert places == [" 0 ", " 3-4 "]


def test_zeros_that_were_written_are_mapped(folder: pathlib.Path) -> None:
    text = block_map(write(folder / "a", MIB, (64 * BLOCK, bytes(2 * BLOCK))))
    assert ranges(text) == [(64, 65, sha256(bytes(2 * BLOCK)))]


def test_the_maps_own_checksum_is_right(folder: pathlib.Path) -> None:
    text = block_map(write(folder / "a", MIB, (64 * BLOCK, b"content")))
    own = field(text, "BmapFileChecksum")
    assert text.count(own) == 1
    assert sha256(text.replace(own, "0" * 64).encode()) == own


def test_long_runs_are_split(
    tmp_path: pathlib.Path, dice: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bmap.LONGEST == 64 * MIB
    monkeypatch.setattr(bmap, "LONGEST", MIB)
    data = dice.randbytes(2 * MIB) + b"x" * (2 * BLOCK + 100)
    text = block_map(write(tmp_path / "a", len(data), (0, data)))
    pieces = [data[at : at + MIB] for at in range(0, len(data), MIB)]
    assert ranges(text) == [
        (0, 255, sha256(pieces[0])),
        (256, 511, sha256(pieces[1])),
        (512, 514, sha256(pieces[2])),
    ]
    assert field(text, "MappedBlocksCount") == field(text, "BlocksCount") == "515"


def test_the_last_block_may_be_a_part_of_one(folder: pathlib.Path, dice: random.Random) -> None:
    data = dice.randbytes(BLOCK + 100)
    text = block_map(write(folder / "a", 9 * BLOCK + 100, (8 * BLOCK, data)))
    assert ranges(text) == [(8, 9, sha256(data))]
    assert field(text, "BlocksCount") == "10"


@pytest.mark.parametrize(("size", "blocks"), [(0, "0"), (3 * MIB, "768"), (BLOCK + 1, "2")])
def test_nothing_is_mapped_where_nothing_was_written(
    size: int, blocks: str, folder: pathlib.Path
) -> None:
    text = block_map(write(folder / "a", size))
    assert ranges(text) == []
    assert (field(text, "BlocksCount"), field(text, "MappedBlocksCount")) == (blocks, "0")
    own = field(text, "BmapFileChecksum")
    assert sha256(text.replace(own, "0" * 64).encode()) == own


@pytest.mark.parametrize("name", ["a&b<c>.img", "a--b.img", "ä.img", "a{b}.img"])
def test_the_map_is_xml_whatever_the_image_is_called(name: str, folder: pathlib.Path) -> None:
    text = block_map(write(folder / name, BLOCK, (0, b"a")))
    assert len(ranges(text)) == 1


def test_the_same_content_gives_the_same_map(folder: pathlib.Path) -> None:
    (folder / "b").mkdir()
    pieces = ((0, b"a"), (64 * BLOCK, b"b"))
    first = block_map(write(folder / "image.raw", MIB, *pieces))
    assert block_map(write(folder / "b/image.raw", MIB, *reversed(pieces))) == first
