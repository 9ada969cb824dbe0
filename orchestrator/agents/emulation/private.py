"""Private emulation: binfmt_misc in the builder's own user namespace, not the host's.

Since Linux 6.7 each user namespace can have its own binfmt_misc (the kernel's
`admin-guide/binfmt-misc.rst`, user_namespaces(7)). A process has every capability in a user
namespace that it creates, and none outside. So this needs no privilege on the host but the system
calls that create namespaces (`orchestrator/docker/seccomp.py`). Child namespaces, such as Nix'
sandboxes, use the same binfmt_misc.
"""

import ctypes
import os
import pathlib
import tempfile

from orchestrator.agents import events
from orchestrator.agents.emulation import binfmt
from orchestrator.agents.failure import AgentError, run_agent
from orchestrator.shared import command

#: Flags of unshare(2) (linux/sched.h).
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000

#: Arguments of capset(2) (linux/capability.h): three sets of 64 bits, each in two halves.
CAPABILITY_VERSION_3 = 0x20080522
CAPABILITY_SETS_BYTES = 2 * 3 * 4

#: Magic string of the probe's entry: a file that begins with it is run by /bin/true.
PROBE_MAGIC = "#nixos-image-probe"

HINT = "--emulation shared uses the host's binfmt_misc instead"


def main() -> None:
    """Report whether this container can have its own, working binfmt_misc."""
    run_agent("probe", probe)


def probe() -> None:
    """Enter a namespace, register an entry, run its program; raises `AgentError` on failure."""
    enter()
    binfmt.register(f":{binfmt.PREFIX}probe:M::{PROBE_MAGIC}::/bin/true:F")
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder, "probe")
        program.write_text(f"{PROBE_MAGIC}\n")
        program.chmod(0o755)
        try:
            done = command.run([program], check=False)
        except command.CommandError as error:
            raise _refused(f"the kernel ignores the namespace's binfmt_misc: {error}") from error
    if done.code != 0:
        raise _refused(f"the probe's interpreter ended with exit code {done.code}")
    events.emit("private", message="this container can have its own binfmt_misc")


def enter() -> None:
    """Enter a new user and mount namespace with an empty binfmt_misc at `binfmt.MOUNT_POINT`.

    The process is root there, because root owns the files of binfmt_misc. It must have no other
    threads.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    _unshare(libc, CLONE_NEWUSER | CLONE_NEWNS, 0, 0)
    # The container's root file system is read-only: mount a tmpfs for the mount point.
    place = binfmt.MOUNT_POINT.parent
    if libc.mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, None) != 0:
        raise _refused(f"mounts are forbidden in user namespaces ({_cause()}), by AppArmor?")
    binfmt.MOUNT_POINT.mkdir()
    if libc.mount(b"binfmt_misc", os.fsencode(binfmt.MOUNT_POINT), b"binfmt_misc", 0, None) != 0:
        raise _refused(f"no binfmt_misc in user namespaces ({_cause()}): Linux 6.7 has it")


def leave(user: int, group: int) -> None:
    """Enter a child namespace as `user` and `group`, without capabilities.

    The binfmt_misc of `enter` stays in force: the kernel searches the parent namespaces.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    _unshare(libc, CLONE_NEWUSER, user, group)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    if libc.capset(header, ctypes.create_string_buffer(CAPABILITY_SETS_BYTES)) != 0:
        raise AgentError(f"capabilities cannot be dropped: {_cause()}", kind="emulation")


def _unshare(libc: ctypes.CDLL, flags: int, user: int, group: int) -> None:
    """Enter new namespaces, in which this process' ids appear as `user` and `group`."""
    outside = os.getuid(), os.getgid()
    if libc.unshare(flags) != 0:
        raise _refused(f"user namespaces are forbidden ({_cause()})")
    # An unprivileged process may map only its own ids, after it gives up setgroups(2)
    # (user_namespaces(7)).
    pathlib.Path("/proc/self/setgroups").write_text("deny")
    pathlib.Path("/proc/self/uid_map").write_text(f"{user} {outside[0]} 1")
    pathlib.Path("/proc/self/gid_map").write_text(f"{group} {outside[1]} 1")


def _cause() -> str:
    return os.strerror(ctypes.get_errno())


def _refused(message: str) -> AgentError:
    return AgentError(message, hint=HINT, kind="emulation")


if __name__ == "__main__":
    main()
