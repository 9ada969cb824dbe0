"""Folders on the store's own volume, for trees of hard links to it: one for each such tree.

All runs share that volume. Who works in a folder holds a lock on it, which the kernel ends with the
process: so what nobody holds is a dead run's, whichever container it had.
"""

import contextlib
import fcntl
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

#: Earlier versions had Nix build here, too; the names of ours begin with the prefix.
FOLDER = pathlib.Path("/nix/var/nix/builds")
PREFIX = "nixos-image-"


@contextlib.contextmanager
def staging() -> Iterator[pathlib.Path]:
    """A new folder, gone afterwards.

    One run at a time: another's links to the same files would look like changes of them.
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
    """Wait until no other run makes or removes links to the store's files.

    With `LOCK_NB` as `flags` raises `BlockingIOError` where one does.
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
            continue  # whoever looks for dead runs' has taken it
        if place.exists():
            return place, lock
        os.close(lock)


def _lock(place: pathlib.Path) -> int | None:
    """A lock on the folder `place`; None where somebody else has it, or it is no folder."""
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
    """Remove folders of dead runs; returns their names.

    With `everything` also what earlier versions have left, who held no locks: no other run may be
    there. While another run makes links nothing is removed: whoever comes next does it.
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
    """Remove `folder`, whatever modes its own folders have: those of the store forbid it."""
    open_up(folder)
    shutil.rmtree(folder, ignore_errors=True)


def open_up(folder: pathlib.Path) -> None:
    """Let the owner of `folder` change all folders in it."""
    folder.chmod(0o700)
    for path, folders, _files in os.walk(folder):
        for name in folders:
            inner = pathlib.Path(path, name)
            if not inner.is_symlink():
                inner.chmod(0o700)
