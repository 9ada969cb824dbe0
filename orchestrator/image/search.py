"""Searches a raw image for secrets that must not be in it, or not so often."""

import collections
import pathlib
import stat
from collections.abc import Iterable, Iterator

from orchestrator.image.sparse import data_ranges
from orchestrator.image.tree import BLOCK, Entry

#: Shortest secret that is searched for, in bytes: WPA's shortest passphrase.
SECRET_BYTES = 8

#: Bytes of an image that are read at once.
CHUNK = 16 << 20


def secrets(entries: Iterable[Entry]) -> list[Entry]:
    """Return the files of `entries` that are readable only by their owner."""
    return [
        entry
        for entry in entries
        if entry.kind == "file" and entry.data and not entry.mode & (stat.S_IRWXG | stat.S_IRWXO)
    ]


def misplaced(
    image: pathlib.Path,
    entries: tuple[Entry, ...],
    *,
    others: Iterable[Entry] = (),
    inline_copies: int = 1,
) -> list[str]:
    """Search the whole raw image for every secret file's content.

    Returns the paths of secrets that occur more or less often than in `entries`, the image's late
    values. `others` are those of devices whose values will replace them. A file system may keep a
    small file in its metadata, of which there are `inline_copies`.
    """
    # Only a file's first block is searched for: its blocks need not be contiguous. Short or uniform
    # content is skipped, because it may occur anywhere by chance.
    needles = {
        (entry.path, entry.data[:BLOCK])
        for entry in (*secrets(others), *secrets(entries))
        if len(entry.data) >= SECRET_BYTES and len(set(entry.data[:BLOCK])) > 1
    }
    if not needles:
        return []
    everything = [entry.data for entry in entries if entry.kind == "file"]
    probes = _probes(needles)
    wanted = collections.Counter(one for data in everything for one, _end in _hits(data, probes))
    found: collections.Counter[bytes] = collections.Counter()
    keep = b""
    for chunk in _written(image):
        text = keep + chunk
        # What ends within `keep`, the end of the previous chunk, was counted already.
        found.update(one for one, end in _hits(text, probes) if end > len(keep))
        keep = text[-(BLOCK - 1) :]
    times = {1, inline_copies}
    return sorted(
        {
            path
            for path, needle in needles
            if found[needle] not in {wanted[needle] * time for time in times}
        }
    )


def _probes(needles: set[tuple[str, bytes]]) -> dict[bytes, tuple[bytes, ...]]:
    """Return what is looked for, and the needles that begin with it.

    The files of many devices at one path often begin alike. So the image is searched once for
    their common beginning, not once for each device.
    """
    by_path: dict[str, list[bytes]] = {}
    for path, needle in needles:
        by_path.setdefault(path, []).append(needle)
    probes: dict[bytes, set[bytes]] = {}
    for group in by_path.values():
        first, last = min(group), max(group)
        start = first[: _same(first, last)]
        usable = len(start) >= SECRET_BYTES and len(set(start)) > 1
        for needle in group:
            probes.setdefault(start if usable else needle, set()).add(needle)
    return {probe: tuple(sorted(group)) for probe, group in probes.items()}


def _same(one: bytes, other: bytes) -> int:
    """Return how many bytes both begin with."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _hits(text: bytes, probes: dict[bytes, tuple[bytes, ...]]) -> Iterator[tuple[bytes, int]]:
    """Yield each needle in `text`, with the offset of its end."""
    for probe, needles in probes.items():
        at = text.find(probe)
        while at >= 0:
            for needle in needles:
                if text.startswith(needle, at):
                    yield needle, at + len(needle)
            at = text.find(probe, at + 1)


def _written(image: pathlib.Path) -> Iterator[bytes]:
    """Yield the written ranges of `image`, with at most one block of zeros for a hole between."""
    size = image.stat().st_size
    last = 0
    with image.open("rb") as file:
        for start, end in data_ranges(file.fileno(), size):
            yield bytes(min(start - last, BLOCK))
            file.seek(start)
            while start < end and (chunk := file.read(min(CHUNK, end - start))):
                yield chunk
                start += len(chunk)
            last = end
    yield bytes(min(size - last, BLOCK))
