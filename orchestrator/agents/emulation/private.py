"""Private emulation: binfmt_misc in the builder's own user namespace; the host's is never written.

Since Linux 6.7 each user namespace may have a table of its own (`binfmt_misc(5)` of the kernel's
documentation, user_namespaces(7)). Whoever makes a user namespace has every capability inside it
and none outside, so this needs no right on the host but the system calls that make namespaces
(`orchestrator/docker/seccomp.py`). Other namespaces below, Nix' sandboxes, see the same table.
"""

import ctypes
import os
import pathlib
import tempfile

from orchestrator.agents import events
from orchestrator.agents.emulation import binfmt
from orchestrator.agents.failure import AgentError, run_agent
from orchestrator.shared import command

#: linux/sched.h
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000

#: linux/capability.h: sets of 64 bits, in two halves.
CAPABILITY_VERSION_3 = 0x20080522
CAPABILITY_SETS_BYTES = 2 * 3 * 4

#: What the probe registers: a file that begins so is run by `true`.
PROBE_MAGIC = "#nixos-image-probe"

HINT = "--emulation shared does it with a registrar"


def main() -> None:
    """Tell whether this container may have a table of its own, and the kernel heeds it."""
    run_agent("probe", probe)


def probe() -> None:
    """Enter, register, run; raises `AgentError` for what the host forbids."""
    enter()
    binfmt.register(f":{binfmt.PREFIX}probe:M::{PROBE_MAGIC}::/bin/true:F")
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder, "probe")
        program.write_text(f"{PROBE_MAGIC}\n")
        program.chmod(0o755)
        try:
            done = command.run([program], check=False)
        except command.CommandError as error:
            raise _refused(f"the kernel does not heed it: {error}") from error
    if done.code != 0:
        raise _refused(f"its interpreter ended with exit code {done.code}")
    events.emit("private", message="this container may have a table of its own")


def enter() -> None:
    """Move this process to namespaces of its own, with an empty table at `binfmt.MOUNT_POINT`.

    There it is root, to whom the kernel gives the table's files. It must have no other threads.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    _unshare(libc, CLONE_NEWUSER | CLONE_NEWNS, 0, 0)
    # A tmpfs first: the container's root file system is read-only.
    place = binfmt.MOUNT_POINT.parent
    if libc.mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, None) != 0:
        raise _refused(f"a user namespace may not mount ({_cause()}); AppArmor restricts it?")
    binfmt.MOUNT_POINT.mkdir()
    if libc.mount(b"binfmt_misc", os.fsencode(binfmt.MOUNT_POINT), b"binfmt_misc", 0, None) != 0:
        raise _refused(f"a user namespace may not mount binfmt_misc ({_cause()}): needs Linux 6.7")


def leave(user: int, group: int) -> None:
    """Be `user` and `group` again, without any capability, in a namespace below.

    The table stays in force: the kernel looks for one upwards.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    _unshare(libc, CLONE_NEWUSER, user, group)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    if libc.capset(header, ctypes.create_string_buffer(CAPABILITY_SETS_BYTES)) != 0:
        raise AgentError(f"capabilities cannot be dropped: {_cause()}", kind="emulation")


def _unshare(libc: ctypes.CDLL, flags: int, user: int, group: int) -> None:
    """Make namespaces in which this process' user and group are called `user` and `group`."""
    outside = os.getuid(), os.getgid()
    if libc.unshare(flags) != 0:
        raise _refused(f"user namespaces are forbidden ({_cause()})")
    # user_namespaces(7): an unprivileged process maps only itself, and gives up setgroups(2).
    pathlib.Path("/proc/self/setgroups").write_text("deny")
    pathlib.Path("/proc/self/uid_map").write_text(f"{user} {outside[0]} 1")
    pathlib.Path("/proc/self/gid_map").write_text(f"{group} {outside[1]} 1")


def _cause() -> str:
    return os.strerror(ctypes.get_errno())


def _refused(message: str) -> AgentError:
    return AgentError(message, hint=HINT, kind="emulation")


if __name__ == "__main__":
    main()
