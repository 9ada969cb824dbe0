"""Staging folders on the Nix store's volume, for trees of hard links to store files.

All runs share that volume. A run holds a lock (flock) on its folder, and the kernel drops the lock
when the process dies: so an unlocked folder is a dead run's, whatever its container was.
"""

import contextlib
import fcntl
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

#: Parent of all staging folders, whose names begin with PREFIX. Earlier versions also let Nix build
#: here.
FOLDER = pathlib.Path("/nix/var/nix/builds")
PREFIX = "nixos-image-"


@contextlib.contextmanager
def staging() -> Iterator[pathlib.Path]:
    """Make a staging folder and remove it afterwards.

    Only one run at a time: a new hard link changes a file's ctime, which looks like a changed file.
    """
    with _alone():
        place, lock = _make()
        try:
            yield place
        finally:
            remove(place)
            os.close(lock)


@contextlib.contextmanager
def _alone(flags: int = 0) -> Iterator[None]:
    """Wait for the lock that a run holds while it makes or removes hard links to store files.

    With `LOCK_NB` in `flags`, raises `BlockingIOError` instead of waiting.
    """
    folder = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | flags)
        yield
    finally:
        os.close(folder)


def _make() -> tuple[pathlib.Path, int]:
    while True:
        place = pathlib.Path(tempfile.mkdtemp(dir=FOLDER, prefix=PREFIX))
        lock = _lock(place)
        if lock is None:
            continue  # another run's sweep() took the new folder for a dead run's
        if place.exists():
            return place, lock
        os.close(lock)


def _lock(place: pathlib.Path) -> int | None:
    """Lock the folder `place`; None if another process holds its lock or it is not a folder."""
    try:
        lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def sweep(*, everything: bool = False) -> list[str]:
    """Remove staging folders of dead runs; returns their names.

    With `everything`, folders of earlier versions are removed, too; those held no locks, so no
    other run may be active. If another run is making links, nothing is removed: a later sweep does
    it.
    """
    removed: list[str] = []
    with contextlib.suppress(BlockingIOError), _alone(fcntl.LOCK_NB):
        for place in sorted(FOLDER.iterdir()):
            if not (everything or place.name.startswith(PREFIX)):
                continue
            lock = _lock(place)
            if lock is None:
                continue
            try:
                remove(place)
                removed.append(place.name)
            finally:
                os.close(lock)
    return removed


def remove(folder: pathlib.Path) -> None:
    """Remove `folder`, even if folders in it are read-only, as those of the store are."""
    open_up(folder)
    shutil.rmtree(folder, ignore_errors=True)


def open_up(folder: pathlib.Path) -> None:
    """Make `folder` and all folders in it writable by their owner."""
    folder.chmod(0o700)
    for path, folders, _files in os.walk(folder):
        for name in folders:
            inner = pathlib.Path(path, name)
            if not inner.is_symlink():
                inner.chmod(0o700)
