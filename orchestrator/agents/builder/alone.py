"""Isolates the builder before late values arrive: no process and no file of a build is left.

A build without a sandbox runs as the builder's user. It may leave a daemon, or files that change
what assembly tools do. So process 1, whose memory no other process can read, kills all other
processes of its container and empties the temporary folders before it asks for the late values.
"""

import ctypes
import os
import pathlib
import signal
import time

from orchestrator.agents import events
from orchestrator.agents.failure import AgentError
from orchestrator.image import staging
from orchestrator.shared.run import BUILT, LATE, NIX_CONF, Run
from orchestrator.shared.text import whole

#: Option of prctl(2) (linux/prctl.h).
PR_SET_DUMPABLE = 4

#: Longest wait in seconds until killed processes are gone: disk I/O may delay it.
GONE_SECONDS = 60

#: Folders for temporary files in the builder's container, which are emptied before late values
#: arrive.
TEMPORARY = (pathlib.Path("/tmp"), pathlib.Path("/dev/shm"))  # noqa: S108 - they are emptied

PROC = pathlib.Path("/proc")


def hide() -> None:
    """Hide this process' memory and descriptors from its user's other processes (ptrace(2)).

    Otherwise another process could write events to its stdout, which the orchestrator reads. Child
    processes are not hidden.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise AgentError(f"prctl: {os.strerror(ctypes.get_errno())}", kind="host")


def take_nix_conf(run: Run) -> str:
    """Return the caller's nix.conf lines, or "", and delete the file."""
    place = run.folder / NIX_CONF
    try:
        text = place.read_text(errors="replace")
    except FileNotFoundError:
        return ""
    place.unlink()
    return text


def receive_late(run: Run) -> None:
    """End all other processes, empty folders for temporary files, and wait for late values."""
    end_others()
    for folder in TEMPORARY:
        try:
            staging.empty(folder)
        except OSError as error:
            raise AgentError(
                f"{folder} cannot be emptied: {error.strerror}", kind="host"
            ) from error
    events.emit(BUILT, message="Nix has ended, no other process runs in the builder")
    place, until = run.folder / LATE, time.monotonic() + run.deadline_seconds
    while place.stat().st_uid != os.getuid():
        if time.monotonic() > until:
            raise AgentError("the orchestrator has sent no late values", kind="host")
        time.sleep(0.02)


def end_others() -> None:
    """Kill all other processes of this container and wait until they are gone.

    Raises `AgentError` if this is not process 1: only that can reach all of them.
    """
    if os.getpid() != 1:
        raise AgentError("the builder is not process 1 of its container", kind="host")
    until = time.monotonic() + GONE_SECONDS
    while others := [one.name for one in PROC.iterdir() if (whole(one.name) or 1) != 1]:
        if time.monotonic() > until:
            raise AgentError(f"process {others[0]} of the builder does not end", kind="host")
        try:
            os.kill(-1, signal.SIGKILL)
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except (ProcessLookupError, ChildProcessError):
            pass
        time.sleep(0.005)
