"""Sparse files: which ranges of a file were written, and copies that keep its holes."""

import errno
import os
import pathlib
from collections.abc import Iterator


def data_ranges(file: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) in bytes of each written range of the open `file` of `size` bytes."""
    offset = 0
    while offset < size:
        try:
            start = os.lseek(file, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # the rest of the file is a hole
            raise
        offset = os.lseek(file, start, os.SEEK_HOLE)
        yield start, offset


def copy(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copy `source` to the new file `target`; a hole stays a hole, because block maps skip holes.

    The kernel copies; on btrfs and xfs both files share their blocks.
    """
    size = source.stat().st_size
    with source.open("rb", buffering=0) as old, target.open("xb", buffering=0) as new:
        os.truncate(new.fileno(), size)
        for start, end in data_ranges(old.fileno(), size):
            at = start
            while at < end:
                done = os.copy_file_range(old.fileno(), new.fileno(), end - at, at, at)
                if not done:
                    raise OSError(errno.EIO, "the file became shorter while it was copied")
                at += done
