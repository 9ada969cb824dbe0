"""Access to binfmt_misc, the kernel's table of interpreters: mount, read, register, remove.

Source: `Documentation/admin-guide/binfmt-misc.rst` of the kernel. Since Linux 6.7 each user
namespace can have its own table, and a table ends with its last mount. Older kernels have one
table, and entries stay.
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

#: Prefix of the names of this project's entries; other entries are never touched.
PREFIX = "nixos-image-"

#: Mount point of binfmt_misc in agents: below a tmpfs, because their root file system is read-only.
MOUNT_POINT = pathlib.Path("/run/binfmt_misc")

#: First Linux version with flag F (the kernel opens the interpreter at registration). Without it
#: the interpreter would have to exist in every container.
FIX_BINARY_SINCE = (4, 8)

#: First Linux version that informs the interpreter (AT_FLAGS) about flag P, which preserves
#: argv[0]; QEMU >= 6.0 needs that.
PRESERVE_ARGV0_SINCE = (5, 12)

_CONTROL_FILES = frozenset({"register", "status"})


@dataclasses.dataclass(frozen=True)
class Entry:
    """One entry of binfmt_misc; `text` is the whole entry as the kernel prints it."""

    name: str
    enabled: bool
    interpreter: str
    flags: str
    text: str


def kernel_version() -> tuple[int, int]:
    """Return major and minor version of the running kernel."""
    match = re.match(r"([0-9]{1,9})\.([0-9]{1,9})", platform.release())
    return (int(match[1]), int(match[2])) if match else (0, 0)


def entry_name(run: str, system: Architecture) -> str:
    """Return the entry name of `run` for `system`, which no other run or tool uses."""
    return f"{PREFIX}{run}-{system.name.partition('-')[0]}"


def owner(name: str) -> tuple[str, str]:
    """Return run and system of the binfmt_misc entry `name`, which `entry_name` has made."""
    run, _, processor = name.removeprefix(PREFIX).rpartition("-")
    return run, f"{processor}-linux"


class NoTableError(AgentError):
    """There is no binfmt_misc that a container of this engine could write to."""


def in_first_namespace() -> bool:
    """Return whether this is the machine's initial user namespace (user_namespaces(7))."""
    return pathlib.Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]


def mount() -> None:
    """Mount binfmt_misc at `MOUNT_POINT`, with mount(2).

    Not with mount(8), a setuid program that is not always allowed to run. Raises `NoTableError` if
    the kernel has no binfmt_misc, or (before Linux 6.7) none for the user namespace of this
    engine's containers; another `AgentError` if the mount is forbidden or fails.
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
            "the container needs CAP_SYS_ADMIN in the initial user namespace (no userns-remap)",
        ),
    }
    message, hint = reasons.get(
        number, (f"binfmt_misc cannot be mounted: {os.strerror(number)}", "")
    )
    none = number == errno.ENODEV or (number == errno.EPERM and not in_first_namespace())
    raise (NoTableError if none else AgentError)(message, hint=hint, kind="emulation")


def entries() -> dict[str, Entry]:
    """Return all entries by name."""
    found = {}
    for path in sorted(MOUNT_POINT.iterdir()):
        if path.name in _CONTROL_FILES:
            continue
        try:
            text = path.read_text()
        except FileNotFoundError:
            continue  # another run removed its entry meanwhile
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
    """Return the line that registers `interpreter`, for binfmt_misc's file `register`.

    `kernel` is the kernel's version. Raises `AgentError` if it is too old.
    """
    if kernel < FIX_BINARY_SINCE:
        version = ".".join(map(str, kernel))
        raise AgentError(
            f"Linux {version} is too old: binfmt_misc has flag F since 4.8", kind="emulation"
        )
    flags = "PF" if kernel >= PRESERVE_ARGV0_SINCE else "F"
    magic, mask = (
        "".join(f"\\x{byte:02x}" for byte in value) for value in (system.magic, system.mask)
    )
    return f":{name}:M::{magic}:{mask}:{interpreter}:{flags}"


def register(line: str) -> Entry:
    """Register the entry `line` and read it back.

    Raises `AgentError` if the kernel refuses it, or if the entry is not enabled with flag F.
    """
    name = line.split(":")[1]
    try:
        (MOUNT_POINT / "register").write_text(line)
    except OSError as error:
        hint = (
            "an entry with this name exists already: ./run.sh clean"
            if error.errno == errno.EEXIST
            else ""
        )
        raise AgentError(
            f"the kernel refused the binfmt_misc entry {name}: {error.strerror}",
            hint=hint,
            kind="emulation",
        ) from error
    entry = entries().get(name)
    if entry is None:
        raise AgentError(
            f"the kernel accepted {name}, but binfmt_misc has no such entry", kind="emulation"
        )
    if not entry.enabled or "F" not in entry.flags:
        raise AgentError(f"{name} is not enabled with flag F: {entry.text!r}", kind="emulation")
    return entry


def remove(name: str) -> None:
    """Remove this project's entry `name`.

    An entry that is gone already is not an error. Raises `AgentError` for another project's entry.
    """
    if not name.startswith(PREFIX) or "/" in name:
        raise AgentError(f"{name}: not a binfmt_misc entry of this project")
    path = MOUNT_POINT / name
    try:
        with path.open("r+") as file:
            file.write("-1")
    except FileNotFoundError:
        return
