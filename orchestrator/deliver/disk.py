"""An open disk: written and read past the page cache, with errors in words for people."""

import errno
import fcntl
import os
import pathlib
import stat

from orchestrator.shared.errors import FlashError, UsageError

#: Without O_DIRECT, written data is forced to the disk after so many pieces, so that the progress
#: is the disk's and not the page cache's.
PIECES_IN_CACHE = 16

#: Multiple of every disk's sector size, which O_DIRECT asks of offsets and lengths.
SECTORS = 4096

#: Errors of a disk that is no longer there.
GONE = frozenset({errno.ENODEV, errno.ENXIO, errno.ENOENT, errno.ENOMEDIUM})

#: Way out of a disk that does not hold what is written.
RETRY = "use another card or card reader"


class Disk:
    """An open disk, or a file that is used as one; errors become `FlashError`."""

    def __init__(self, path: pathlib.Path) -> None:
        """Open `path` exclusively: the kernel refuses a disk that is mounted anywhere."""
        self._path = path
        self.direct = True
        exclusive = os.O_EXCL if stat.S_ISBLK(path.stat().st_mode) else 0
        flags = os.O_RDWR | os.O_CLOEXEC | exclusive
        try:
            self._file = os.open(path, flags | os.O_DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise self._unopened(error) from error
            self.direct = False
            self._file = os.open(path, flags)
        self.size = os.lseek(self._file, 0, os.SEEK_END)
        self._pieces = 0

    def close(self) -> None:
        """Close the disk."""
        os.close(self._file)

    @property
    def number(self) -> str:
        """Major and minor number of the disk."""
        found = os.fstat(self._file).st_rdev
        return f"{os.major(found)}:{os.minor(found)}"

    def write(self, offset: int, piece: memoryview) -> None:
        """Write `piece` at `offset`, for which it must be page-aligned in memory."""
        if self.direct and len(piece) % SECTORS:
            self._no_longer_direct()
        done = 0
        while done < len(piece):
            try:
                count = os.pwritev(self._file, [piece[done:]], offset + done)
            except OSError as error:
                raise self._failed(error, "write", offset + done) from error
            if not count:
                raise _too_short(offset + done)
            if self.direct and count % SECTORS and done + count < len(piece):
                self._no_longer_direct()
            done += count
        self._pieces += 1
        if not self.direct and self._pieces % PIECES_IN_CACHE == 0:
            self.sync(offset)

    def sync(self, offset: int) -> None:
        """Wait until everything is on the disk; the last write was at `offset`."""
        try:
            os.fsync(self._file)
        except OSError as error:
            raise self._failed(error, "write", offset) from error

    def forget(self) -> None:
        """Remove the disk's content from the page cache, as far as that is allowed."""
        os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)

    def read(self, offset: int, into: memoryview) -> None:
        """Fill `into` with what the disk has at `offset`."""
        if self.direct and len(into) % SECTORS:
            self._no_longer_direct()
        done = 0
        while done < len(into):
            try:
                count = os.preadv(self._file, [into[done:]], offset + done)
            except OSError as error:
                raise self._failed(error, "read", offset + done) from error
            if not count:
                raise _too_short(offset + done)
            done += count

    def _no_longer_direct(self) -> None:
        """Go on through the page cache: the image's end is no multiple of a sector."""
        self.direct = False
        flags = fcntl.fcntl(self._file, fcntl.F_GETFL)
        fcntl.fcntl(self._file, fcntl.F_SETFL, flags & ~os.O_DIRECT)

    def _failed(self, error: OSError, what: str, offset: int) -> FlashError:
        if error.errno == errno.ENOSPC:
            return _too_short(offset)
        if error.errno in GONE or self._is_gone():
            return FlashError(
                f"the disk was pulled out, or has failed, at byte {offset}",
                hint="put it in again and repeat the command; its content is incomplete",
            )
        return FlashError(
            f"{what} error at byte {offset} of the disk: {error.strerror}", hint=RETRY
        )

    def _is_gone(self) -> bool:
        try:
            file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            return error.errno in GONE
        try:
            return os.lseek(file, 0, os.SEEK_END) < self.size
        finally:
            os.close(file)

    def _unopened(self, error: OSError) -> UsageError | FlashError:
        if error.errno == errno.EBUSY:
            return UsageError(
                "the disk is in use: it is mounted, or part of a volume",
                hint="unmount it, or close the volume (LVM, dm-crypt, RAID)",
            )
        if error.errno == errno.EROFS:
            return UsageError("the disk is read-only", hint="move the lock switch of the card")
        if error.errno in GONE:
            return FlashError("the disk is not there any more", hint="put it in again")
        return FlashError(
            f"the disk cannot be opened: {error.strerror}", hint="see docs/flash.md, by hand"
        )


def _too_short(offset: int) -> FlashError:
    return FlashError(
        f"the disk ends at byte {offset}, before the image",
        hint="use a larger disk; one that says another size is a forgery",
    )
