"""Block maps: which parts of an image must be written, and their checksums.

`bmaptool copy IMAGE CARD` then skips the holes and verifies the rest. The format is that of
bmap-tools, version 2.0 (`bmaptool/BmapCreate.py`).
"""

import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Iterator

from orchestrator.image.sparse import data_ranges

BLOCK = 4096

#: Bytes of the longest range.
LONGEST = 64 << 20

_HEAD = """<?xml version="1.0" ?>
<!-- Flash the image with `bmaptool copy` -->
<bmap version="2.0">
    <ImageSize> {size} </ImageSize>
    <BlockSize> {block} </BlockSize>
    <BlocksCount> {blocks} </BlocksCount>
    <MappedBlocksCount> {mapped} </MappedBlocksCount>
    <ChecksumType> sha256 </ChecksumType>
    <BmapFileChecksum> {checksum} </BmapFileChecksum>
    <BlockMap>
"""
_FOOT = "    </BlockMap>\n</bmap>\n"


def block_map(image: pathlib.Path) -> str:
    """Return the block map of the raw image `image`; holes of the file are unmapped.

    Only holes may be skipped. Blocks of zeros that a tool has written must be zeros on the card,
    too, so they stay in the map.
    """
    size = image.stat().st_size
    lines, mapped = [], 0
    with image.open("rb") as file:
        for first, last in _ranges(file.fileno(), size):
            file.seek(first * BLOCK)
            digest = hashlib.sha256(file.read((last - first + 1) * BLOCK)).hexdigest()
            place = str(first) if first == last else f"{first}-{last}"
            lines.append(f'        <Range chksum="{digest}"> {place} </Range>\n')
            mapped += last - first + 1
    blocks = -(-size // BLOCK)
    facts = {"size": size, "block": BLOCK, "blocks": blocks, "mapped": mapped}
    # BmapFileChecksum is computed with zeros in its own place (bmap-tools' format).
    body = "".join([*lines, _FOOT])
    blank = _HEAD.format(**facts, checksum="0" * 64) + body
    checksum = hashlib.sha256(blank.encode()).hexdigest()
    return _HEAD.format(**facts, checksum=checksum) + body


def _ranges(file: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (first, last) block of each written range, split at `LONGEST` bytes."""
    last_block = -1
    for start, end in data_ranges(file, size):
        first, last = max(start // BLOCK, last_block + 1), (end - 1) // BLOCK
        while first <= last:
            last_block = min(last, first + LONGEST // BLOCK - 1)
            yield first, last_block
            first = last_block + 1


@dataclasses.dataclass(frozen=True)
class Range:
    """Bytes from `start` to `end` (not included), with their SHA-256, "" if it is unknown."""

    start: int
    end: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class BlockMap:
    """A block map that was read: `size` of the image in bytes, its `ranges` in order."""

    size: int
    ranges: tuple[Range, ...]


def read_map(text: str) -> BlockMap:
    """Read a block map of version 2; raises `ValueError`.

    Whoever has made the map has made its checksums and counts, too. So it does not tell whether it
    leaves out what the image has: who reads the image must look.
    """

    def value(name: str, form: str = "[0-9]{1,18}") -> str:
        found = re.search(rf"<{name}>\s*({form})\s*</{name}>", text)
        if not found:
            raise ValueError(f"it has no {name}")
        return found[1]

    if (kind := value("ChecksumType", "[a-z0-9]{1,20}")) != "sha256":
        raise ValueError(f"the block map's checksums are {kind}, not sha256")
    checksum = value("BmapFileChecksum", "[0-9a-f]{64}")
    if hashlib.sha256(text.replace(checksum, "0" * 64).encode()).hexdigest() != checksum:
        raise ValueError("it was changed or is incomplete")
    size, block, mapped = (
        int(value(name)) for name in ("ImageSize", "BlockSize", "MappedBlocksCount")
    )
    ranges: list[Range] = []
    for digest, first, last in re.findall(
        r'<Range chksum="([0-9a-f]{64})">\s*([0-9]{1,18})(?:-([0-9]{1,18}))?\s*</Range>', text
    ):
        start, end = int(first) * block, min((int(last or first) + 1) * block, size)
        if start >= end or (ranges and start < ranges[-1].end):
            raise ValueError("its ranges are not in order")
        ranges.append(Range(start, end, digest))
        mapped -= int(last or first) - int(first) + 1
    if mapped or not ranges or text.count("<Range") != len(ranges):
        raise ValueError("it does not have all of its ranges, with their checksums")
    return BlockMap(size, tuple(ranges))
