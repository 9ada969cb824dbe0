"""How much room a disk has had while something ran that is gone when it has failed."""

import contextlib
import os
import pathlib
import threading
from collections.abc import Iterator

#: Time (seconds) between two looks.
LOOK_SECONDS = 0.2

#: A disk that had less (bytes) is taken for the cause: what filled it may have been gone between
#: two looks.
SCARCE = 256 << 20

#: How programs say that there is none left: the C library, and SQLite.
WORDS = ("No space left on device", "database or disk is full")


class Room:
    """The least that was seen to be free of one disk; in bytes, to everybody but root.

    Without inodes the bytes are of no use: then it is 0.
    """

    def __init__(self, place: pathlib.Path) -> None:
        """Any `place` on the disk."""
        self._place = place
        self.least = self._free()

    @property
    def scarce(self) -> bool:
        """Whether the disk was full, or close to it."""
        return self.least < SCARCE

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Look again and again meanwhile."""
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
    """Whether `text` tells of a full disk, whichever that is."""
    return any(words in text for words in WORDS)
