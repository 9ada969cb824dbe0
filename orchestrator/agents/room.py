"""Records the lowest free disk space during a command, to recognize a full disk afterwards."""

import contextlib
import os
import pathlib
import threading
from collections.abc import Iterator

#: Interval in seconds between two measurements.
LOOK_SECONDS = 0.2

#: A disk with less free space (bytes) than this counts as full: it may have filled up between two
#: measurements.
SCARCE = 256 << 20

#: Messages of a full disk: the C library's and SQLite's.
WORDS = ("No space left on device", "database or disk is full")


class Room:
    """Lowest free space of a disk, in bytes that users other than root can use.

    The free space counts as 0 if no inode is free.
    """

    def __init__(self, place: pathlib.Path) -> None:
        """Measure the free space of the disk that holds `place`."""
        self._place = place
        self.least = self._free()

    @property
    def scarce(self) -> bool:
        """Whether the disk was full, or close to it."""
        return self.least < SCARCE

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Measure repeatedly during a `with` block."""
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(done,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def _watch(self, done: threading.Event) -> None:
        while not done.wait(LOOK_SECONDS):
            self.least = min(self.least, self._free())

    def _free(self) -> int:
        found = os.statvfs(self._place)
        inodes_left = found.f_favail or not found.f_files
        return found.f_bavail * found.f_frsize if inodes_left else 0


def said(text: str) -> bool:
    """Whether `text` has a message of a full disk."""
    return any(words in text for words in WORDS)
