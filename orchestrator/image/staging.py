"""Removes what earlier versions left beside the Nix store, and folders with read-only ones in them.

Earlier versions staged trees of hard links to store files on the store's volume, which all runs
share. Such a run holds a lock (flock) on its folder, and the kernel drops the lock when the process
dies: so an unlocked folder is a dead run's, whatever its container was.
"""

import contextlib
import dataclasses
import errno
import fcntl
import math
import os
import pathlib
import secrets
import stat
import time
from collections.abc import Iterator

#: Parent of all staging folders, whose names begin with PREFIX. Even earlier versions also let Nix
#: build here.
FOLDER = pathlib.Path("/nix/var/nix/builds")
PREFIX = "nixos-image-"

#: Time limit in seconds for the removal of all dead runs' folders together: what another run's
#: build goes on filling has no end.
SWEEP_SECONDS = 120


@dataclasses.dataclass(frozen=True)
class Swept:
    """Names of the staging folders that `sweep` has `removed`, and why others are `left`."""

    removed: tuple[str, ...] = ()
    left: dict[str, str] = dataclasses.field(default_factory=dict)


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


def sweep(*, everything: bool = False) -> Swept:
    """Remove staging folders of dead runs of earlier versions; what cannot be removed is left.

    With `everything`, build folders are removed, too; those held no locks, so no other run may be
    active. If a run of an earlier version is making links, for which it has locked their parent,
    nothing is removed: a later sweep does it. So it does with what takes longer than
    `SWEEP_SECONDS`.
    """
    until = time.monotonic() + SWEEP_SECONDS
    removed: list[str] = []
    left: dict[str, str] = {}
    with _locked(FOLDER) as alone:
        for place in sorted(FOLDER.iterdir()) if alone else ():
            if not (everything or place.name.startswith(PREFIX)):
                continue
            with _locked(place) as dead:
                if not dead:
                    continue
                try:
                    remove(place, until - time.monotonic())
                    removed.append(place.name)
                except OSError as error:
                    left[place.name] = error.strerror or str(error)
    return Swept(tuple(removed), left)


@contextlib.contextmanager
def removed_afterwards(folder: pathlib.Path) -> Iterator[None]:
    """Remove `folder` after the `with` block, as `remove` does.

    If the block raises, its error is the one that counts: `folder` may be left then, or may never
    have been made.
    """
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            remove(folder)
        raise
    remove(folder)


def remove(folder: pathlib.Path, seconds: float = math.inf) -> None:
    """Remove `folder` and all that is in it, as `empty` does; raises `OSError`."""
    folder.chmod(0o700)
    empty(folder, seconds)
    folder.rmdir()


def empty(folder: pathlib.Path, seconds: float = math.inf) -> None:
    """Remove all that is in `folder`, in read-only folders, too, which those of the store are.

    Folders may lie in each other as deep as they like, which neither a path nor the number of open
    files allows: a folder's folders are moved up into `folder` before it is removed. Raises
    `OSError`, and `TimeoutError` after `seconds`.
    """
    until = time.monotonic() + seconds
    prefix, number = secrets.token_hex(8), 0
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        while names := os.listdir(top):  # noqa: PTH208 - by its descriptor
            for name in names:
                if time.monotonic() > until:
                    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
                if not stat.S_ISDIR(os.lstat(name, dir_fd=top).st_mode):
                    os.unlink(name, dir_fd=top)
                    continue
                for inner in _cleared(top, name):
                    os.rename(
                        f"{name}/{inner}", f"{prefix}-{number}", src_dir_fd=top, dst_dir_fd=top
                    )
                    number += 1
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)


def _cleared(top: int, name: str) -> list[str]:
    """Remove the files of the folder `name` in `top`; return its folders, which can be moved."""
    os.chmod(name, 0o700, dir_fd=top)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    folder, folders = os.open(name, flags, dir_fd=top), []
    try:
        with os.scandir(folder) as found:
            entries = list(found)
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                os.chmod(entry.name, 0o700, dir_fd=folder)
                folders.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=folder)
    finally:
        os.close(folder)
    return folders
