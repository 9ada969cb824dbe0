"""Builders on other machines: one line for each, as in /etc/nix/machines.

A line has up to eight words: address, systems, SSH key, jobs, speed, features, mandatory features,
host key. `-` stands for a default. The SSH key is a file on the caller's computer, the host key is
Base64 of a line such as `ssh-ed25519 AAAA…`.
"""

import base64
import binascii
import dataclasses
import hashlib
import json
import re

from orchestrator.shared.architectures import SYSTEMS
from orchestrator.shared.json_reader import FreeText, Natural, from_json, read_json

#: Name of the file in a run's folder with the builders and their keys; the agent builder removes it
#: after reading.
BUILDERS = "builders.json"

#: Word of a line that stands for the default.
DEFAULT = "-"

#: Word for the private key's file in the line that a worker prints: its user puts the path there.
PLACEHOLDER = "KEY"

#: Port of SSH.
SSH_PORT = 22

ADDRESS = re.compile(
    r"ssh-ng://(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})@)?"
    r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:]{2,45}\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)

#: Hosts that are the container in which Nix runs, not the caller's computer.
HERE = re.compile(r"localhost|127\.[0-9.]+|\[::1\]")

FEATURE = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
HOST_KEY = re.compile(
    r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp[0-9]{3}) ([A-Za-z0-9+/]+=*)( [^\n]*)?"
)

#: Most jobs, and highest speed, of a line.
MOST = 4096


class LineError(ValueError):
    """A line that describes no builder; the message says why, `hint` what to do."""

    def __init__(self, message: str, hint: str = "docs/how-to/worker.md explains the line") -> None:
        """Make the error."""
        super().__init__(message)
        self.hint = hint


@dataclasses.dataclass(frozen=True)
class Builder:
    """A machine that builds: `uri` is ssh-ng://USER@HOST:PORT, `systems` are Nix systems.

    `key` is the path of a private SSH key on the caller's computer, as the line has it. `jobs` is
    the number of builds at a time; `speed` compares builders. A derivation that requires features
    goes to a builder whose `features` have them; one with `mandatory` features takes no others.
    `host_key` is the machine's public SSH key, such as `ssh-ed25519 AAAA…`, empty if it is unknown.
    """

    uri: str
    systems: tuple[str, ...]
    key: FreeText
    jobs: Natural = 1
    speed: Natural = 1
    features: tuple[str, ...] = ()
    mandatory: tuple[str, ...] = ()
    host_key: str = ""

    @property
    def host(self) -> str:
        """The machine's name or address; an IPv6 address has no brackets."""
        return self._part("host").strip("[]")

    @property
    def port(self) -> int:
        """The port of its SSH server."""
        return int(self._part("port") or SSH_PORT)

    @property
    def known(self) -> str:
        """The machine's line of known_hosts; raises `ValueError` without a host key."""
        if not self.host_key:
            raise ValueError("the host key is unknown")
        name = self.host if self.port == SSH_PORT else f"[{self.host}]:{self.port}"
        return f"{name} {self.host_key}"

    def line(self, key: str, host_key: str | None = None) -> str:
        """Return the line of /etc/nix/machines, with `key` as the path of the SSH key.

        `host_key` replaces the machine's own; an empty one becomes the default.
        """
        text = self.host_key if host_key is None else host_key
        words = (
            *(self.uri, ",".join(self.systems), key or DEFAULT, str(self.jobs), str(self.speed)),
            *(",".join(self.features) or DEFAULT, ",".join(self.mandatory) or DEFAULT),
            encoded(text) or DEFAULT,
        )
        return " ".join(words)

    def _part(self, name: str) -> str:
        match = ADDRESS.fullmatch(self.uri)
        assert match  # `read_line` has checked the address
        return match[name] or ""


def encoded(host_key: str) -> str:
    """Return a public host key in the form that a line has it in."""
    return base64.b64encode(host_key.encode()).decode()


def fingerprint(host_key: str) -> str:
    """Return the fingerprint of the public key `TYPE BASE64`, as OpenSSH shows it."""
    digest = hashlib.sha256(base64.b64decode(host_key.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def read_line(line: str) -> Builder:
    """Read the line of a builder; raises `LineError`."""
    words = [*line.split(), *[DEFAULT] * 8][: max(8, len(line.split()))]
    if len(words) > 8:
        raise LineError(f"{words[8]!r} is the ninth word, a builder's line has eight")
    uri, systems, key, jobs, speed, features, mandatory, host_key = words
    _check_address(uri)
    if key == DEFAULT:
        raise LineError(
            f"{uri} has no SSH key: the third word is missing",
            "name the private key's file there: ssh-ng://USER@HOST SYSTEM KEY",
        )
    if key == PLACEHOLDER:
        raise LineError(
            f"{uri}: the third word is still {PLACEHOLDER}",
            "put the path of the private key there, whose public half the worker has",
        )
    if key.endswith(".pub"):
        raise LineError(
            f"{uri}: the third word, {key}, names a public key",
            f"name the private key: {key.removesuffix('.pub')}",
        )
    offered = tuple(systems.split(","))
    if wrong := [one for one in offered if one not in SYSTEMS]:
        raise LineError(
            f"{wrong[0]!r}, the second word, is no system", f"systems are {', '.join(SYSTEMS)}"
        )
    return Builder(
        uri,
        offered,
        key,
        _number(jobs, "jobs"),
        _number(speed, "speed"),
        _features(features),
        _features(mandatory),
        _host_key(host_key, "the last word"),
    )


def read_address(uri: str, host_key: str) -> Builder:
    """Return the machine at `uri` with the Base64 of its host key, or ""; raises `LineError`.

    It has no key and builds for nothing.
    """
    _check_address(uri)
    return Builder(uri, (), "", host_key=_host_key(host_key or DEFAULT, "the setting"))


def _check_address(uri: str) -> None:
    match = ADDRESS.fullmatch(uri)
    if not match or int(match["port"] or SSH_PORT) not in range(1, 65536):
        raise LineError(
            f"{uri!r} is no address of a machine", "it has the form ssh-ng://USER@HOST:PORT"
        )
    if HERE.fullmatch(match["host"]):
        raise LineError(
            f"{uri}: in the container where Nix runs, {match['host']} is the container itself",
            "name the machine by an address that other machines reach",
        )


def _number(word: str, what: str) -> int:
    if word == DEFAULT:
        return 1
    if not re.fullmatch("[1-9][0-9]{0,3}", word) or int(word) > MOST:
        raise LineError(f"{what}: {word!r} is no number from 1 to {MOST}")
    return int(word)


def _features(word: str) -> tuple[str, ...]:
    if word == DEFAULT:
        return ()
    found = tuple(word.split(","))
    if wrong := [one for one in found if not FEATURE.fullmatch(one)]:
        raise LineError(f"{wrong[0]!r} is no feature")
    return found


def _host_key(word: str, what: str) -> str:
    """Return the public key of `word`, without its comment; errors call the word `what`."""
    if word == DEFAULT:
        return ""
    try:
        text = base64.b64decode(word, validate=True).decode("ascii").strip()
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    match = HOST_KEY.fullmatch(text)
    if not match:
        raise LineError(
            f"{what} is no host key",
            "it is Base64 of a public key: base64 -w0 /etc/ssh/ssh_host_ed25519_key.pub",
        )
    try:
        base64.b64decode(match[2], validate=True)
    except binascii.Error:
        raise LineError("the host key's Base64 is incomplete", "copy the whole line") from None
    return f"{match[1]} {match[2]}"


@dataclasses.dataclass(frozen=True)
class Keyed:
    """A builder and the text of its private SSH key (`secret`)."""

    builder: Builder
    secret: FreeText = dataclasses.field(repr=False)


def write_keyed(keyed: tuple[Keyed, ...]) -> str:
    """Return the JSON document of builders with their keys."""
    return json.dumps([dataclasses.asdict(one) for one in keyed])


def read_keyed(text: str) -> tuple[Keyed, ...]:
    """Read the JSON document of builders with their keys; raises `JsonError`."""
    found: tuple[Keyed, ...] = from_json(tuple[Keyed, ...], read_json(text, BUILDERS), BUILDERS)
    return found
