"""Parses `--inject SRC:DEST[:MODE[:UID[:GID]]]`: where a file goes follows the rules of cp(1)."""

import os
import pathlib
import re

from orchestrator.ask.parser import caller_path
from orchestrator.ask.request import Caller
from orchestrator.shared.errors import UsageError
from orchestrator.shared.image_options import Injection
from orchestrator.shared.json_reader import UNUSABLE
from orchestrator.shared.spec import LARGEST_ID

#: Folders that every Linux system has, or gets at boot: a file goes into them, never in their
#: place. A folder of any user's SSH files is one, too.
FOLDERS = frozenset(
    (
        *("/tmp", "/var/tmp"),  # noqa: S108 - the image's
        *("/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt"),
        *("/nix", "/nix/store", "/nix/var", "/opt", "/proc", "/root", "/run", "/sbin", "/srv"),
        *("/sys", "/usr", "/usr/bin", "/usr/lib", "/usr/local", "/var", "/var/lib"),
        *("/var/cache", "/var/log", "/etc/nixos", "/etc/ssh", "/etc/systemd"),
        *("/etc/NetworkManager", "/etc/NetworkManager/system-connections"),
        *("/etc/wpa_supplicant", "/etc/ssh/authorized_keys.d", "/boot/firmware", "/boot/efi"),
    )
)
SSH_FOLDER = ".ssh"

#: Folders whose content a file of the image would not be, and why.
HIDDEN = {
    "/dev": "the kernel's devices are mounted there at boot",
    "/proc": "the kernel's processes are mounted there at boot",
    "/sys": "the kernel's devices are mounted there at boot",
    "/run": "memory is mounted there at boot",
    "/var/run": "it is a link to /run, where memory is mounted at boot",
    "/var/lock": "it is a link to /run, where memory is mounted at boot",
    "/nix/store": "only Nix may add files to the store",
    "/nix/var/nix/db": "it is Nix' database",
    "/nix-path-registration": "NixOS' first boot reads and deletes it",
}

#: Longest name in a folder, in bytes (Linux' NAME_MAX).
NAME_BYTES = 255


def injections(texts: list[str], who: Caller, help_of: str) -> tuple[Injection, ...]:
    """Parse the values of all --inject options; raises `UsageError`."""
    found: list[Injection] = []
    for text in texts:
        try:
            one = _injection(text, who)
            check_others(one.target, [other.target for other in found])
        except ValueError as error:
            raise UsageError(f"--inject {text}: {error}", hint=help_of) from error
        found.append(one)
    return tuple(found)


def destination(target: str, source: str) -> str:
    """Return the path of a file in the image, as `cp SOURCE TARGET` would choose it.

    A target that is a folder, or ends with a slash, gets the file under its own name. Raises
    `ValueError` if no file can be there.
    """
    if not target.startswith("/"):
        raise ValueError("the destination must be an absolute path")
    if UNUSABLE.search(target):
        raise ValueError("the destination has control characters")
    parts = pathlib.PurePosixPath(target).parts[1:]
    if ".." in parts:
        raise ValueError("the destination must not contain ..")
    path = "/" + "/".join(parts)
    is_home = len(parts) == 2 and parts[0] == "home"
    if target.endswith(("/", "/.")) or path in FOLDERS or parts[-1] == SSH_FOLDER or is_home:
        path = f"{path.rstrip('/')}/{pathlib.PurePosixPath(source).name}"
    for folder, why in HIDDEN.items():
        if path == folder or path.startswith(f"{folder}/"):
            raise ValueError(f"{folder}: {why}")
    if any(len(part.encode()) > NAME_BYTES for part in path.split("/")):
        raise ValueError(f"a name of the destination is longer than {NAME_BYTES} bytes")
    return path


def _injection(text: str, who: Caller) -> Injection:
    """Parse SRC:DEST[:MODE[:UID[:GID]]]; a colon in a path is written twice."""
    parts = [part.replace("\0", ":") for part in text.replace("::", "\0").split(":")]
    if not 2 <= len(parts) <= 5 or not all(parts):
        raise ValueError("expected SRC:DEST[:MODE[:UID[:GID]]]")
    source, target, mode, *owner = [*parts, *(["600"] if len(parts) == 2 else [])]
    if not re.fullmatch("[0-7]{3,4}", mode):
        raise ValueError(f"{mode} is not an octal mode")
    for number in owner:
        if not re.fullmatch("[0-9]{1,10}", number) or int(number) > LARGEST_ID:
            raise ValueError(f"{number} is not the number of a user or group")
    user, group = [int(number) for number in (*owner, "0", "0")][:2]
    path = os.fspath(caller_path(source, who))
    return Injection(path, destination(target, path), int(mode, 8), user, group)


def check_others(target: str, others: list[str]) -> None:
    """Raise `ValueError` if another file is at `target`, above or below it."""
    for other in others:
        if target == other:
            raise ValueError(f"another file is put at {target}")
        if f"{target}/".startswith(f"{other}/") or f"{other}/".startswith(f"{target}/"):
            raise ValueError(f"another file is put at {other}: one of them is no folder")
