"""The kernel's table of interpreters (binfmt_misc): mount, read, register, remove by name.

Source: `Documentation/admin-guide/binfmt-misc.rst` of the kernel. Since Linux 6.7 each user
namespace has a table of its own, and a table dies with its last mount; before, there is one, and
entries stay.
"""

import ctypes
import dataclasses
import errno
import os
import pathlib
import platform
import re

from orchestrator.agents.failure import AgentError
from orchestrator.shared.architectures import Architecture

#: Entries of this project start with this; no other entry is ever touched.
PREFIX = "nixos-image-"

#: Where the agents mount the table: below a tmpfs, because their root file system is read-only.
MOUNT_POINT = pathlib.Path("/run/binfmt_misc")

#: Flag F (open the interpreter at once, keep it) came with Linux 4.8; a mount without it is of no
#: use to containers.
FIX_BINARY_SINCE = (4, 8)

#: Flag P keeps argv[0]; since Linux 5.12 the kernel tells the interpreter so (AT_FLAGS), and QEMU
#: >= 6.0 listens.
PRESERVE_ARGV0_SINCE = (5, 12)

_CONTROL_FILES = frozenset({"register", "status"})


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of the table as the kernel tells it; `text` is all of it."""

    name: str
    enabled: bool
    interpreter: str
    flags: str
    text: str


def kernel_version() -> tuple[int, int]:
    """Major and minor number of the running kernel."""
    match = re.match(r"(\d+)\.(\d+)", platform.release())
    return (int(match[1]), int(match[2])) if match else (0, 0)


def entry_name(run: str, system: Architecture) -> str:
    """Name of the entry of `run` for `system`: unique, so it never disturbs another tool's."""
    return f"{PREFIX}{run}-{system.name.partition('-')[0]}"


def owner(name: str) -> tuple[str, str]:
    """The run and the system of `name`, which `entry_name` has made."""
    run, _, processor = name.removeprefix(PREFIX).rpartition("-")
    return run, f"{processor}-linux"


def mount() -> None:
    """Mount the table at `MOUNT_POINT`, by mount(2) itself.

    The setuid program of that name is not always allowed.
    """
    MOUNT_POINT.mkdir(parents=True, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"binfmt_misc", os.fsencode(MOUNT_POINT), b"binfmt_misc", 0, None) == 0:
        return
    number = ctypes.get_errno()
    reasons = {
        errno.ENODEV: ("the kernel has no binfmt_misc", "on the host: modprobe binfmt_misc"),
        errno.EPERM: (
            "mounting binfmt_misc is not permitted",
            "the container needs CAP_SYS_ADMIN where it may mount (not with userns-remap)",
        ),
    }
    message, hint = reasons.get(
        number, (f"binfmt_misc cannot be mounted: {os.strerror(number)}", "")
    )
    raise AgentError(message, hint=hint, kind="emulation")


def entries() -> dict[str, Entry]:
    """All entries by name."""
    found = {}
    for path in sorted(MOUNT_POINT.iterdir()):
        if path.name in _CONTROL_FILES:
            continue
        try:
            text = path.read_text()
        except FileNotFoundError:
            continue  # another run removed its entry while we looked
        fields = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
        found[path.name] = Entry(
            name=path.name,
            enabled=text.startswith("enabled"),
            interpreter=fields.get("interpreter", ""),
            flags=fields.get("flags:", "").strip(),
            text=text,
        )
    return found


def registration(
    name: str, system: Architecture, interpreter: pathlib.Path, kernel: tuple[int, int]
) -> str:
    """The line to write to `register` on a kernel of version `kernel`."""
    if kernel < FIX_BINARY_SINCE:
        version = ".".join(map(str, kernel))
        raise AgentError(
            f"Linux {version} is too old: it has no fix-binary flag (4.8)", kind="emulation"
        )
    flags = "PF" if kernel >= PRESERVE_ARGV0_SINCE else "F"
    magic, mask = (
        "".join(f"\\x{byte:02x}" for byte in value) for value in (system.magic, system.mask)
    )
    return f":{name}:M::{magic}:{mask}:{interpreter}:{flags}"


def register(line: str) -> Entry:
    """Write `line` to the table and read back what came of it.

    Raises `AgentError` if that is not a sound entry.
    """
    name = line.split(":")[1]
    try:
        (MOUNT_POINT / "register").write_text(line)
    except OSError as error:
        hint = (
            "an entry of that name is there already: ./run.sh clean"
            if error.errno == errno.EEXIST
            else ""
        )
        raise AgentError(
            f"the kernel refused {name}: {error.strerror}", hint=hint, kind="emulation"
        ) from error
    entry = entries().get(name)
    if entry is None:
        raise AgentError(
            f"the kernel took {name}, but the table does not have it", kind="emulation"
        )
    if not entry.enabled or "F" not in entry.flags:
        raise AgentError(f"{name} is not usable: {entry.text!r}", kind="emulation")
    return entry


def remove(name: str) -> None:
    """Remove our entry `name`.

    One that is gone already is no error, one that is not ours is never touched.
    """
    if not name.startswith(PREFIX) or "/" in name:
        raise AgentError(f"{name} is not an entry of this project")
    path = MOUNT_POINT / name
    try:
        with path.open("r+") as file:
            file.write("-1")
    except FileNotFoundError:
        return
