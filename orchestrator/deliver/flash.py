"""Writes an image to a disk, and reads the disk back.

run.sh has chosen the disk, because only it sees the caller's disks (caller/flash.sh). It starts a
container that has that disk and nothing else, and sends the image on stdin.

The first piece of the image, which has the partition table, is written last: a disk that was not
written to its end is not taken for a whole one.
"""

import contextlib
import dataclasses
import hashlib
import mmap
import os
import pathlib
import time
from collections.abc import Iterator

from orchestrator.deliver.disk import RETRY, Disk
from orchestrator.image import bmap, magic
from orchestrator.shared import command as programs
from orchestrator.shared.constants import MIB
from orchestrator.shared.errors import STOPPED, FlashError, UsageError, VerificationError
from orchestrator.shared.progress import LIFE_SECONDS, Progress

#: The disk in the container (caller/flash.sh has the same path).
TARGET = pathlib.Path("/dev/nixos-image-disk")

#: Size of pieces that are written, hashed and compared at once.
PIECE = 4 * MIB

#: What a block map may leave out, as large as a piece.
ZEROS = bytes(PIECE)

#: Options of packers whose files can ask for any amount of memory. zstd has a limit of its own.
LIMITS = {"xz": ("--memlimit-decompress=1GiB", "--memlimit-mt-decompress=1GiB")}

#: Largest block map in bytes (caller/image.sh sends no larger one).
MAP_BYTES = 16 * MIB

#: Longest first line of stdin.
LONGEST_HEAD = 200


@dataclasses.dataclass(frozen=True)
class Head:
    """First line of stdin: what run.sh knows.

    `map_bytes` is the size of the block map that follows, 0 if there is none; `image_bytes` the
    size of the unpacked image, 0 if it is unknown; `disk_bytes` and `number` (major:minor) are the
    disk's; `packed` is the program that unpacks the image, or "none".
    """

    map_bytes: int
    image_bytes: int
    disk_bytes: int
    number: str
    packed: str


def read_head(stdin: int) -> Head:
    """Read the first line of `stdin`, and nothing behind it; raises `ValueError`."""
    line = b""
    while not line.endswith(b"\n") and len(line) < LONGEST_HEAD and (byte := os.read(stdin, 1)):
        line += byte
    map_bytes, image_bytes, disk_bytes, number, packed = line.decode("ascii").split()
    if packed not in {"none", *magic.PACKED.values()}:
        raise ValueError(packed)
    return Head(int(map_bytes), int(image_bytes), int(disk_bytes), number, packed)


class IncompleteError(VerificationError):
    """The image ended too early."""


class Flash:
    """One image on its way from `stdin` to `disk`."""

    def __init__(self, disk: Disk, head: Head, stdin: int, progress: Progress) -> None:
        """Check that `disk` is the one that run.sh has chosen, and is large enough."""
        self._disk = disk
        self._progress = progress
        self._packed = "" if head.packed == "none" else head.packed
        self._stdin = stdin
        self._read = 0  # bytes of the unpacked image
        self._map = _block_map(stdin, head.map_bytes) if head.map_bytes else None
        self._size = self._map.size if self._map else head.image_bytes
        if head.image_bytes and head.image_bytes != self._size:
            raise VerificationError(
                f"the block map is of an image of {self._size} bytes, not {head.image_bytes}",
                hint="copy or download it again, with all files beside it",
            )
        self._buffer = memoryview(mmap.mmap(-1, PIECE))  # O_DIRECT asks for whole pages
        self._first = b""
        self._digests: list[tuple[int, int, bytes]] = []  # of pieces: offset, length, SHA-256
        self._began = self._told = 0.0
        if (disk.size, disk.number) != (head.disk_bytes, head.number):
            raise UsageError(
                "the engine's host has another disk of this name",
                hint="see docs/flash.md, by hand",
            )
        if self._size > disk.size:
            raise UsageError(
                f"the disk is too small: it has {disk.size} bytes, the image {self._size}",
                hint="use a larger disk",
            )

    def write(self) -> int:
        """Write the image, but zeros for its first piece; returns the number of mapped bytes."""
        with self._unpacked() as stream:
            self._begin()
            for offset, piece in self._pieces(stream):
                if offset == 0:
                    self._first = bytes(piece)
                    _refuse_others(self._first)
                    piece[:] = bytes(len(piece))
                else:
                    self._digests.append((offset, len(piece), hashlib.sha256(piece).digest()))
                self._disk.write(offset, piece)
                self._tell("write", offset + len(piece))
            self._disk.sync(self._read)
        return sum(length for _, length, _ in self._digests) + len(self._first)

    def finish(self, *, verify: bool) -> None:
        """Compare the disk with what was written, then write the first piece."""
        if verify:
            self._begin()
            self._compare()
        piece = self._buffer[: len(self._first)]
        piece[:] = self._first
        self._disk.write(0, piece)
        self._disk.sync(0)
        if verify:
            self._digests = [(0, len(piece), hashlib.sha256(piece).digest())]
            self._compare()

    def _compare(self) -> None:
        self._disk.forget()
        for offset, length, digest in self._digests:
            piece = self._buffer[:length]
            self._disk.read(offset, piece)
            if hashlib.sha256(piece).digest() != digest:
                raise FlashError(
                    "the disk does not hold what was written:"
                    f" bytes {offset} to {offset + length - 1} read back differently",
                    hint=f"{RETRY}; a card that says too large a size is a forgery",
                )
            self._tell("verify", offset + length)

    def _pieces(self, stream: int) -> Iterator[tuple[int, memoryview]]:
        """Yield each piece that must be written, with its offset; read the image to its end."""
        whole = [bmap.Range(0, self._size or self._disk.size + 1, "")]
        for part in self._map.ranges if self._map else whole:
            self._leave_out(stream, part.start)
            digest = hashlib.sha256()
            while self._read < part.end:
                offset = self._read
                piece = self._buffer[
                    : self._fill(stream, self._buffer[: min(PIECE, part.end - offset)])
                ]
                if not piece:
                    break  # an image whose size was unknown ends here
                digest.update(piece)
                yield offset, piece
            if part.sha256 and digest.hexdigest() != part.sha256:
                raise VerificationError(
                    f"the image does not match its block map: bytes {part.start} to {part.end - 1}",
                    hint="copy or download the image again; the disk's content is incomplete",
                )
        self._leave_out(stream, self._size)
        if self._size and os.read(stream, 1):
            raise VerificationError(
                f"the image is longer than the {self._size} bytes that the files beside it name",
                hint="copy or download it again, with all files beside it",
            )

    def _leave_out(self, stream: int, end: int) -> None:
        """Read the image up to `end` without writing it.

        Raises `VerificationError` if there is anything but zeros, which no block map may leave out.
        """
        while (start := self._read) < end:
            piece = self._buffer[: min(PIECE, end - start)]
            self._fill(stream, piece)
            if bytes(piece) != ZEROS[: len(piece)]:  # much faster than to compare the view
                raise VerificationError(
                    "the block map leaves out a part of the image that is not empty:"
                    f" in bytes {start} to {self._read - 1}",
                    hint="remove the block map, or copy or download the image again with all files"
                    " beside it; the disk's content is incomplete",
                )

    def _fill(self, stream: int, view: memoryview) -> int:
        """Read from `stream` until `view` is full; raises `IncompleteError` if the image is not."""
        done = 0
        while done < len(view) and (count := os.readv(stream, [view[done:]])):
            done += count
        self._read += done
        if self._size and done < len(view):
            raise IncompleteError(
                f"the image is incomplete: it has {self._read} of {self._size} bytes",
                hint="copy or download it again; the disk's content is incomplete",
            )
        return done

    @contextlib.contextmanager
    def _unpacked(self) -> Iterator[int]:
        """Yield the descriptor of the unpacked image."""
        if not self._packed:
            yield self._stdin
            return
        command = [self._packed, "--decompress", "--stdout", *LIMITS.get(self._packed, ())]
        process = programs.start(command, stdin=self._stdin, stdout=programs.PIPE)
        with programs.ending(process):
            assert process.stdout
            try:
                yield process.stdout.fileno()
            except IncompleteError as error:
                raise self._broken(process) or error from error
            if problem := self._broken(process):
                raise problem

    def _broken(self, process: programs.Process) -> VerificationError | None:
        """Return the error of a program that could not unpack the image to its end."""
        assert process.stderr
        said = process.stderr.read().decode(errors="replace").strip().splitlines()
        if process.wait() == 0:
            return None
        return VerificationError(
            f"the image cannot be unpacked: {said[-1] if said else self._packed}",
            hint="copy or download it again; the disk's content is incomplete",
        )

    def _begin(self) -> None:
        self._began = self._told = time.monotonic()

    def _tell(self, stage: str, position: int) -> None:
        """Show bytes, rate and time left, as often as progress output has a new line."""
        now = time.monotonic()
        if now - self._told < LIFE_SECONDS and self._progress.current == stage:
            return
        self._told = now
        rate = position / max(now - self._began, 0.001)
        total = self._size or (self._read if stage == "verify" else 0)
        of = f" of {megabytes(total)}" if total else ""
        left = f", {max(total - position, 0) / rate:.0f} s left" if total else ""
        self._progress.to(stage, f"{megabytes(position)}{of} MB, {megabytes(int(rate))} MB/s{left}")


def _block_map(stdin: int, size: int) -> bmap.BlockMap:
    text = b""
    try:
        if size > MAP_BYTES:
            raise ValueError(f"it has {size} bytes")
        while len(text) < size and (more := os.read(stdin, size - len(text))):
            text += more
        return bmap.read_map(text.decode())
    except ValueError as error:
        raise VerificationError(
            f"the block map beside the image cannot be read: {error}", hint="remove it"
        ) from error


def _refuse_others(head: bytes) -> None:
    """Raise `UsageError` if the image begins like a file that is no disk."""
    try:
        kind = magic.kind_of_head(head)
    except magic.NoImageError as error:
        raise UsageError(f"this is no image of a disk: {error}", hint=error.hint) from error
    if kind.packed:
        raise UsageError("the image is compressed twice", hint=f"unpack it once ({kind.packed} -d)")
    if kind.disk_format not in {"raw", "iso"}:
        raise UsageError(
            f"the image is a {kind.disk_format} file, for virtual machines",
            hint="build it with --disk-format raw",
        )


def megabytes(count: int) -> str:
    """Return a number of bytes in MB, as sizes stand on cards."""
    return f"{count / 1_000_000:.1f}" if count < 100_000_000 else f"{count // 1_000_000}"


def flash(stdin: int, path: pathlib.Path, progress: Progress, *, verify: bool) -> int:
    """Write the image from `stdin` to the disk `path`; returns the number of written bytes."""
    try:
        head = read_head(stdin)
    except ValueError as error:
        raise UsageError(
            "no image was sent: only ./run.sh flash starts this container",
            hint="./run.sh help flash",
        ) from error
    with contextlib.closing(Disk(path)) as disk:
        work = Flash(disk, head, stdin, progress)
        try:
            written = work.write()
            work.finish(verify=verify)
        except STOPPED as error:
            error.hint = "repeat the command: the content of the disk is incomplete"
            raise
    return written
