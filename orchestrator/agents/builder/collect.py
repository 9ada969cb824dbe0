"""Collects the store's garbage: what no recent result needs. Never while a run is at work.

Nix records what a process needs under its process ID. Containers have process IDs of their own, so
two runs may have the same one, and a collection would remove what one of them needs. Therefore each
builder holds a shared lock on the store, and a collection needs the exclusive lock. For the same
reason Nix does not collect by itself (`min-free`); a builder whose disk is nearly full does, before
it begins, and one whose disk fills up while Nix builds does when Nix has ended.
"""

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator

from orchestrator.agents import events
from orchestrator.agents.builder import own_cache
from orchestrator.agents.failure import AgentError
from orchestrator.agents.room import SCARCE
from orchestrator.shared import command
from orchestrator.shared.codes import is_full
from orchestrator.shared.constants import MIB

#: The collection's lock, and the folder of links to what it keeps; on the store's volume.
LOCK = pathlib.Path("/nix/var/nix/nixos-image.lock")
ROOTS = pathlib.Path("/nix/var/nix/gcroots/nixos-image")

#: Folder of links to what the last imported kit has brought (`kit.py`).
KIT_ROOTS = ROOTS.with_name("nixos-image-kit")

#: Whoever holds this lock may collect. A run that collects gives its shared lock up for a moment.
GATE = LOCK.with_suffix(".gate")

#: Folders beside the lock that a run needs: a volume that Docker has not filled lacks them.
FOLDERS = ("builds", "gcroots")

#: Number of recent results that are kept; a run may have several.
KEPT = 20

#: A run that finds less free space than this (bytes) on the store's disk collects before it builds.
LEAST = 4 << 30


#: Open files of this process' shared locks.
_held: list[int] = []


@contextlib.contextmanager
def in_use() -> Iterator[None]:
    """Prevent garbage collections of the store in a `with` block; wait for a running one's end."""
    with _locked(LOCK, fcntl.LOCK_SH) as file:
        _held.append(file)
        try:
            yield
        finally:
            _held.remove(file)


def keep(results: Iterable[pathlib.Path]) -> None:
    """Make the store paths `results` the most recent roots; remove the oldest roots."""
    ROOTS.mkdir(exist_ok=True)
    for result in results:
        root = ROOTS / result.name
        root.unlink(missing_ok=True)  # an existing link would keep its old time
        with contextlib.suppress(FileExistsError):  # another run has just made the same one
            root.symlink_to(result)
    for root in by_age(roots())[:-KEPT]:
        root.unlink(missing_ok=True)  # another run may remove the root at the same time


def by_age(links: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """Return the links, the oldest first, without those that another run has removed meanwhile."""
    found = []
    for link in links:
        with contextlib.suppress(FileNotFoundError):
            found.append((link.lstat().st_mtime_ns, link.name, link))
    return [link for *_, link in sorted(found)]


def roots() -> list[pathlib.Path]:
    """Return the links to recent results, and nothing else that a build may have put there."""
    return _links(ROOTS)


def kit_roots() -> list[pathlib.Path]:
    """Return the links to what the last imported kit has brought."""
    return _links(KIT_ROOTS)


def _links(folder: pathlib.Path) -> list[pathlib.Path]:
    return [one for one in folder.iterdir() if one.is_symlink()] if folder.exists() else []


def collect(release: Callable[[], None]) -> None:
    """Call `release`, which removes roots; collect the garbage, and report how much it was.

    Does neither, and says so, while a run is at work.
    """
    try:
        alone = fcntl.LOCK_EX | fcntl.LOCK_NB
        with _locked(GATE, alone), _locked(LOCK, alone):
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
    with _locked(LOCK, fcntl.LOCK_SH):  # makes the folder
        free = _free()
    if free < LEAST:
        message = f"the disk of Docker's data has only {free // MIB} MiB left: making room"
        events.emit("scarce", message=message, level="warning")
        collect(lambda: None)


def make_room_for(derivations: Iterable[str]) -> bool:
    """Collect the garbage within `in_use`, for a run that builds `derivations` (.drv paths) next.

    They stay with all that was built of them. Nix may not run in this container. Returns whether
    there is more room now; False, too, while another run is at work.
    """
    before = _free()
    try:
        with _locked(GATE, fcntl.LOCK_EX | fcntl.LOCK_NB), _alone():
            # Nix keeps what a process' variables name; a link would need room on the disk.
            needed = {"KEPT_DERIVATIONS": " ".join(derivations)}
            words = ["nix-store", "--gc", "--option", "keep-outputs", "true"]
            said = command.run(words, variables=needed, fails=AgentError)
            own_cache.prune()
    except BlockingIOError:
        return False
    more = _free() - before
    message = f"the disk was full; the store's garbage is collected: {said.text.strip()}"
    events.emit("collected", message=message, level="warning")
    return more >= SCARCE


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock of `in_use` alone; raises `BlockingIOError` if another run is at work.

    The kernel gives the shared lock up before it tries for the other one: `GATE` must be held.
    """
    (file,) = _held
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_SH)


def _free() -> int:
    """Return the free bytes of the store's disk."""
    disk = os.statvfs(LOCK.parent)
    return disk.f_bavail * disk.f_frsize


@contextlib.contextmanager
def _locked(place: pathlib.Path, flags: int) -> Iterator[int]:
    """Hold the lock `place`, and yield its open file.

    With `LOCK_NB`, raises `BlockingIOError` if another process holds it. A volume that Docker has
    not made itself may come empty, and belong to another user: then raises `AgentError`.
    """
    try:
        for name in FOLDERS:
            LOCK.with_name(name).mkdir(parents=True, exist_ok=True)
        file = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
        yield file
    finally:
        os.close(file)
