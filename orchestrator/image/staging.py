"""Removes what earlier versions left beside the Nix store, and folders with read-only ones in them.

Earlier versions staged trees of hard links to store files on the store's volume, which all runs
share. Such a run holds a lock (flock) on its folder, and the kernel drops the lock when the process
dies: so an unlocked folder is a dead run's, whatever its container was.
"""

import contextlib
import fcntl
import os
import pathlib
import shutil
from collections.abc import Iterator

#: Parent of all staging folders, whose names begin with PREFIX. Even earlier versions also let Nix
#: build here.
FOLDER = pathlib.Path("/nix/var/nix/builds")
PREFIX = "nixos-image-"


@contextlib.contextmanager
def _locked(place: pathlib.Path) -> Iterator[bool]:
    """Lock the folder `place`; yields False if another process has its lock, or it is none."""
    try:
        lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield False
    else:
        yield True
    finally:
        os.close(lock)


def sweep(*, everything: bool = False) -> list[str]:
    """Remove staging folders of dead runs of earlier versions; returns their names.

    With `everything`, build folders are removed, too; those held no locks, so no other run may be
    active. If a run of an earlier version is making links, for which it has locked their parent,
    nothing is removed: a later sweep does it.
    """
    removed: list[str] = []
    with _locked(FOLDER) as alone:
        for place in sorted(FOLDER.iterdir()) if alone else ():
            if not (everything or place.name.startswith(PREFIX)):
                continue
            with _locked(place) as dead:
                if dead:
                    remove(place)
                    removed.append(place.name)
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
