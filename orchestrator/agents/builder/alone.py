"""Late values come when the builder is alone: no evaluation, no build and nothing that they left.

A build without a sandbox is any program with the builder's user. It may leave a daemon, and files
that a tool of the assembly would heed. So process 1, which nobody can look into, kills whatever
else runs in its container and empties its temporary folders before it says that values may come.
"""

import ctypes
import os
import pathlib
import shutil
import signal
import time

from orchestrator.agents import events
from orchestrator.agents.failure import AgentError
from orchestrator.image import staging
from orchestrator.shared.run import BUILT, LATE, NIX_CONF, Run

#: linux/prctl.h
PR_SET_DUMPABLE = 4

#: How long (seconds) what was killed may take to be gone: a process in a call to a disk waits.
GONE_SECONDS = 60

#: Where a process of this container can write that is neither the store nor the run's folder.
TEMPORARY = (pathlib.Path("/tmp"), pathlib.Path("/dev/shm"))  # noqa: S108 - they are emptied

PROC = pathlib.Path("/proc")


def hide() -> None:
    """Keep other processes of this user from this one's memory and descriptors: proc(5), ptrace(2).

    So nobody else says anything in its name: its output goes to the orchestrator. What it starts
    is not hidden.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise AgentError(f"prctl: {os.strerror(ctypes.get_errno())}", kind="host")


def take_nix_conf(run: Run) -> str:
    """The caller's lines of a nix.conf, empty without; the file is gone afterwards."""
    place = run.folder / NIX_CONF
    try:
        text = place.read_text(errors="replace")
    except FileNotFoundError:
        return ""
    place.unlink()
    return text


def receive_late(run: Run) -> None:
    """Be alone, say so, and wait until the orchestrator has put all late values where they go."""
    end_others()
    for folder in TEMPORARY:
        empty(folder)
    events.emit(BUILT, message="Nix has ended, nothing else runs here")
    place, until = run.folder / LATE, time.monotonic() + run.deadline_seconds
    while place.stat().st_uid != os.getuid():
        if time.monotonic() > until:
            raise AgentError("the late values have not come", kind="host")
        time.sleep(0.02)


def end_others() -> None:
    """Kill every other process of this container and see them gone.

    Raises `AgentError` where this is not process 1, which alone can.
    """
    if os.getpid() != 1:
        raise AgentError("the builder is not process 1 of its container", kind="host")
    until = time.monotonic() + GONE_SECONDS
    while others := [one.name for one in PROC.iterdir() if one.name.isdigit() and one.name != "1"]:
        if time.monotonic() > until:
            raise AgentError(f"process {others[0]} cannot be ended", kind="host")
        try:
            os.kill(-1, signal.SIGKILL)
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except (ProcessLookupError, ChildProcessError):
            pass
        time.sleep(0.005)


def empty(folder: pathlib.Path) -> None:
    """Remove all that is in `folder`, whatever its modes are."""
    for one in folder.iterdir():
        if one.is_dir() and not one.is_symlink():
            staging.open_up(one)
            shutil.rmtree(one)
        else:
            one.unlink()
