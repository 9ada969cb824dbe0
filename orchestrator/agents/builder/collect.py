"""Collects the store's garbage: what no recent result needs. Never while a run is at work.

Nix records what a process needs under its process ID. Containers have process IDs of their own, so
two runs may have the same one, and a collection would remove what one of them needs. Therefore each
builder holds a shared lock on the store, and a collection needs the exclusive lock. For the same
reason Nix does not collect by itself (`min-free`); a builder whose disk is nearly full does, before
it begins.
"""

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator

from orchestrator.agents import events
from orchestrator.agents.builder import own_cache
from orchestrator.agents.failure import AgentError
from orchestrator.shared import command
from orchestrator.shared.codes import is_full
from orchestrator.shared.constants import MIB

#: The collection's lock, and the folder of links to what it keeps; on the store's volume.
LOCK = pathlib.Path("/nix/var/nix/nixos-image.lock")
ROOTS = pathlib.Path("/nix/var/nix/gcroots/nixos-image")

#: Folder of links to what the last imported kit has brought (`kit.py`).
KIT_ROOTS = ROOTS.with_name("nixos-image-kit")

#: Folders beside the lock that a run needs: a volume that Docker has not filled lacks them.
FOLDERS = ("builds", "gcroots")

#: Number of recent results that are kept; a run may have several.
KEPT = 20

#: A run that finds less free space than this (bytes) on the store's disk collects before it builds.
LEAST = 4 << 30


@contextlib.contextmanager
def in_use() -> Iterator[None]:
    """Prevent garbage collections of the store in a `with` block; wait for a running one's end."""
    with _locked(fcntl.LOCK_SH):
        yield


def keep(results: Iterable[pathlib.Path]) -> None:
    """Make the store paths `results` the most recent roots; remove the oldest roots."""
    ROOTS.mkdir(exist_ok=True)
    for result in results:
        root = ROOTS / result.name
        root.unlink(missing_ok=True)  # an existing link would keep its old time
        root.symlink_to(result)
    for root in sorted(roots(), key=lambda root: root.lstat().st_mtime_ns)[:-KEPT]:
        root.unlink(missing_ok=True)  # another run may remove the root at the same time


def roots() -> list[pathlib.Path]:
    """Return the links to recent results, and nothing else that a build may have put there."""
    return [one for one in ROOTS.iterdir() if one.is_symlink()] if ROOTS.exists() else []


def kit_roots() -> list[pathlib.Path]:
    """Return the links to what the last imported kit has brought."""
    return [one for one in KIT_ROOTS.iterdir() if one.is_symlink()] if KIT_ROOTS.exists() else []


def collect(release: Callable[[], None]) -> None:
    """Call `release`, which removes roots; collect the garbage, and report how much it was.

    Does neither, and says so, while a run is at work.
    """
    try:
        with _locked(fcntl.LOCK_EX | fcntl.LOCK_NB):
            release()
            said = command.run(["nix-store", "--gc"], fails=AgentError)
            own = own_cache.prune() // MIB
    except BlockingIOError:
        events.emit("busy", message="the store stays as it is: a run is at work")
        return
    message = f"the store's garbage is collected: {said.text.strip()}"
    message += f"; {own} MiB of the binary cache" if own else ""
    events.emit("collected", message=message)


def make_room() -> None:
    """Collect the garbage if the store's disk is nearly full, unless another run is at work."""
    with _locked(fcntl.LOCK_SH):  # makes the folder
        disk = os.statvfs(LOCK.parent)
    free = disk.f_bavail * disk.f_frsize
    if free < LEAST:
        message = f"the disk of Docker's data has only {free // MIB} MiB left: making room"
        events.emit("scarce", message=message, level="warning")
        collect(lambda: None)


@contextlib.contextmanager
def _locked(flags: int) -> Iterator[None]:
    """Hold the lock; with `LOCK_NB`, raises `BlockingIOError` if another process holds it.

    A volume that Docker has not made itself may come empty, and belong to another user: then raises
    `AgentError`.
    """
    try:
        for name in FOLDERS:
            LOCK.with_name(name).mkdir(parents=True, exist_ok=True)
        file = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if is_full(error):
            raise
        raise AgentError(
            f"the volume of the Nix store cannot be used: {error.strerror} ({error.filename})",
            hint=f"its folder must belong to user {os.getuid()}, who builds; without a volume of"
            " your own Docker makes a right one (docker volume rm nixos-image-store)",
            kind="host",
        ) from error
    try:
        fcntl.flock(file, flags)
        yield
    finally:
        os.close(file)
