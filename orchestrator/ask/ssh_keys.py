"""Checks public SSH keys with OpenSSH before anything is built."""

import base64
import contextlib
import pathlib
import re

from orchestrator.ask.request import Caller, Demo
from orchestrator.ask.uploads import received
from orchestrator.shared import builders, command
from orchestrator.shared.errors import UsageError
from orchestrator.shared.text import is_line

#: Options before a key in an authorized_keys line; only quoted strings in them may have spaces
#: (sshd(8), "AUTHORIZED_KEYS FILE FORMAT"). A backslash before a quote never stands for itself:
#: with a choice, the time for a line without an end would double with each of them.
OPTIONS = re.compile(r'((?:\\"|"(?:\\"|[^"])*+"|[^ \t"])++)[ \t]+')

#: One option that sshd knows, in upper or lower case: sshd ignores a key with any other one. A line
#: of known_hosts has host names in this place.
OPTION = re.compile(
    r"(?:(?:no-)?(?:agent|port|x11)-forwarding|(?:no-)?(?:pty|user-rc|verify-required)"
    r"|cert-authority|no-touch-required|restrict"
    r"|(?:command|environment|expiry-time|from|permitlisten|permitopen|principals|tunnel)"
    r'="(?:\\"|[^"])*")(?:,|$)',
    re.IGNORECASE,
)


def is_public_key(line: str) -> bool:
    """Whether `line` of an authorized_keys file has options of sshd's and a key of OpenSSH's.

    Of an option the name and the quotes are checked, not the value.
    """
    if not is_line(line):
        return False
    try:
        bare = bare_key(line)
    except ValueError:
        return False
    command_line = ["ssh-keygen", "-l", "-f", "-"]
    return command.run(command_line, stdin=f"{bare}\n".encode(), check=False).code == 0


def public_keys(text: str, where: str) -> tuple[str, ...]:
    """Parse a file of public keys; returns its lines without comments.

    `where` names the option and the file for errors. Raises `UsageError` with the number of an
    invalid line, or if there is no key.
    """
    keys = []
    for number, line in _lines(text):
        if not is_public_key(line):
            raise UsageError(
                f"{where}: line {number} is not a public key", hint="name the .pub file"
            )
        keys.append(line)
    if not keys:
        raise UsageError(f"{where}: the file has no public key", hint="name the .pub file")
    return tuple(keys)


def bare_key(line: str) -> str:
    """Return type and key of the public key `line`, without options and comment.

    Raises `ValueError` if `line` is not a key, or has options that sshd does not know.
    """
    for text in (line, _without_options(line)):
        kind, blob, *_comment = [*re.split(r"[ \t]+", text, maxsplit=2), "", ""]
        if _is_blob(kind, blob):
            return f"{kind} {blob}"
    raise ValueError("not a public key")


def fingerprint(line: str) -> str:
    """Return the fingerprint of the public key `line`, as OpenSSH shows it; raises `ValueError`."""
    return builders.fingerprint(bare_key(line))


def fingerprints(text: str) -> list[str]:
    """Return the fingerprints of the public keys in `text`, one for each line that is a key."""
    found = []
    for _number, line in _lines(text):
        with contextlib.suppress(ValueError):
            found.append(fingerprint(line))
    return found


def key_files(request: Demo, who: Caller) -> list[pathlib.Path]:
    """Return the received files that `ssh_keys` reads."""
    if request.ssh_key:
        return [received(who, request.ssh_key)]
    return sorted((received(who, who.home) / ".ssh").glob("*.pub"))


def ssh_keys(request: Demo, who: Caller) -> tuple[str, ...]:
    """Return the public keys that run.sh sent: of --ssh-key, else of the caller's ~/.ssh."""
    files = key_files(request, who)
    texts = [file.read_text("utf-8-sig", errors="replace") for file in files]
    if request.ssh_key:
        return tuple(dict.fromkeys(public_keys(texts[0], f"--ssh-key {request.ssh_key}")))
    return _valid(texts)


def keys_at_home(who: Caller) -> tuple[str, ...]:
    """Return the public keys of the caller's ~/.ssh, which run.sh sent."""
    files = sorted((received(who, who.home) / ".ssh").glob("*.pub"))
    return _valid([file.read_text("utf-8-sig", errors="replace") for file in files])


def _valid(texts: list[str]) -> tuple[str, ...]:
    """Return the lines of files that are public keys, each once."""
    lines = [line for text in texts for _number, line in _lines(text)]
    return tuple(line for line in dict.fromkeys(lines) if is_public_key(line))


def _lines(text: str) -> list[tuple[int, str]]:
    """Return (number, line) of the lines of `text` that are not empty or comments.

    Only a line feed ends a line: a key's comment may contain any other character.
    """
    lines = [line.strip(" \t\r") for line in text.split("\n")]
    return [(number, line) for number, line in enumerate(lines, 1) if line and line[0] != "#"]


def _without_options(line: str) -> str:
    """What follows the options of `line`; nothing if they are none."""
    options = OPTIONS.match(line)
    if not options or OPTION.sub("", options[1]):
        return ""
    return line[options.end() :]


def _is_blob(kind: str, text: str) -> bool:
    """Whether the Base64 `text` is a key of type `kind`, whose name is in it (RFC 4253, 6.6)."""
    try:
        name, blob = kind.encode(), base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return bool(kind) and blob.startswith(len(name).to_bytes(4) + name)
