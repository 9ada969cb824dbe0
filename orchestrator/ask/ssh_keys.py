"""Public SSH keys: OpenSSH judges what is one, and says so where the caller can still mend it."""

import base64
import binascii
import re

from orchestrator.ask.request import Caller, Demo
from orchestrator.ask.uploads import received
from orchestrator.shared import command
from orchestrator.shared.errors import UsageError
from orchestrator.shared.text import is_line

#: sshd(8), "AUTHORIZED_KEYS FILE FORMAT": options, without blanks but in quotes, before the key.
OPTIONS = re.compile(r'((?:\\"|"(?:\\"|[^"])*"|[^ \t"])+)[ \t]+')


def is_public_key(line: str) -> bool:
    """Whether `ssh-keygen -l` takes `line` for one, as in an authorized_keys file."""
    if not is_line(line):
        return False
    # sshd takes any blanks after options, ssh-keygen one.
    given = OPTIONS.sub(r"\1 ", f"{line}\n", count=1).encode(errors="replace")
    return command.run(["ssh-keygen", "-l", "-f", "-"], stdin=given, check=False).code == 0


def public_keys(text: str, where: str) -> tuple[str, ...]:
    """The lines of `text` that are no comments, each a public key.

    `where` names the option and the file. Raises `UsageError` with the number of a line that is
    none, or where there is no key at all.
    """
    keys = []
    for number, line in _lines(text):
        if not is_public_key(line):
            raise UsageError(
                f"{where}: line {number} is not a public key", hint="name the .pub file"
            )
        keys.append(line)
    if not keys:
        raise UsageError(f"{where}: there is no public key in it", hint="name the .pub file")
    return tuple(keys)


def bare_key(line: str) -> str:
    """Type and key of `line`, a public key, without its options and comment."""
    for text in (line, OPTIONS.sub("", line, count=1)):
        kind, blob, *_comment = [*text.split(maxsplit=2), "", ""]
        if _is_blob(kind, blob):
            return f"{kind} {blob}"
    raise ValueError("not a public key")


def ssh_keys(request: Demo, who: Caller) -> tuple[str, ...]:
    """The public keys that run.sh sent: those of --ssh-key, else all of the caller's ~/.ssh."""
    if request.ssh_key:
        text = received(who, request.ssh_key).read_text(errors="replace")
        return tuple(dict.fromkeys(public_keys(text, f"--ssh-key {request.ssh_key}")))
    folder = received(who, who.home) / ".ssh"
    texts = [file.read_text(errors="replace") for file in sorted(folder.glob("*.pub"))]
    lines = [line for text in texts for _number, line in _lines(text)]
    return tuple(line for line in dict.fromkeys(lines) if is_public_key(line))


def _lines(text: str) -> list[tuple[int, str]]:
    """Lines of `text` that are no comments, with their numbers.

    Only a line feed ends one: a comment of a key may have any letters.
    """
    lines = [line.strip(" \t\r") for line in text.split("\n")]
    return [(number, line) for number, line in enumerate(lines, 1) if line and line[0] != "#"]


def _is_blob(kind: str, text: str) -> bool:
    """Whether `text` is a key of that `kind`: its name stands in it first (RFC 4253, 6.6)."""
    try:
        blob = base64.b64decode(text, validate=True)
    except binascii.Error:
        return False
    name = kind.encode()
    return bool(kind) and blob.startswith(len(name).to_bytes(4) + name)
