"""Derives the identity of each device of a fleet from one secret, the `--identity-seed` file.

The same seed and host name give the same identity, on any computer. docs/identity.md has the
derivation as commands of OpenSSL.
"""

import base64
import dataclasses
import hashlib
import hmac
import json
import struct
import uuid
from collections.abc import Iterable

from orchestrator.image.identity import Identity
from orchestrator.shared import command
from orchestrator.shared.errors import BugError, UsageError

#: Salt of the derivation, and its version: another one gives other identities.
SALT = b"nixos-image identity v1"

#: Sizes of the seed in bytes. A shorter one could be guessed; a larger file is no seed.
SHORTEST, LONGEST = 32, 4096

#: A DER document (PKCS #8, RFC 8410) before the 32 bytes of an Ed25519 private key, and one of a
#: public key (X.509) before its 32 bytes.
PRIVATE_DER = bytes.fromhex("302e020100300506032b657004220420")
PUBLIC_DER = bytes.fromhex("302a300506032b6570032100")

KIND = "ssh-ed25519"
LINE = 70


def seed_of(content: bytes) -> bytes:
    """Return the seed in a file's `content`, without line ends at its end; raises `UsageError`."""
    seed = content.rstrip(b"\r\n")
    if not SHORTEST <= len(seed) <= LONGEST:
        raise UsageError(
            f"--identity-seed: the file has {len(seed)} bytes, a seed has {SHORTEST} to {LONGEST}",
            hint="make one, and keep it: openssl rand -hex 32 > seed",
        )
    return seed


def derive(seed: bytes, hosts: Iterable[str]) -> str:
    """Return the identities of the devices `hosts` as JSON, as the builder reads them."""
    found = {host: dataclasses.asdict(identity(seed, host)) for host in hosts}
    return json.dumps(found)


def identity(seed: bytes, host: str) -> Identity:
    """Derive the identity of the device `host`, whose upper and lower case are the same."""

    def bits(what: str, size: int) -> bytes:
        return hkdf(seed, SALT, f"{what} {host.lower()}".encode(), size)

    private = bits("ssh-host-ed25519", 32)
    public = _public(private)
    check = bits("ssh-host-ed25519 check", 4)
    return Identity(
        host_key=_openssh(private, public, check, host),
        public_key=f"{KIND} {base64.b64encode(_blob(public)).decode()} {host}",
        # machine-id(5) has the form of a random UUID (version 4).
        machine_id=uuid.UUID(bytes=bits("machine-id", 16), version=4).hex,
        serial=bits("serial", 8).hex().upper(),
    )


def hkdf(secret: bytes, salt: bytes, info: bytes, size: int) -> bytes:
    """HKDF-SHA256 (RFC 5869): extract, then expand to `size` bytes."""
    key = hmac.digest(salt, secret, hashlib.sha256)
    text = block = b""
    for number in range(1, -(-size // 32) + 1):
        block = hmac.digest(key, block + info + bytes([number]), hashlib.sha256)
        text += block
    return text[:size]


def _public(private: bytes) -> bytes:
    """Return the public key of an Ed25519 private key; OpenSSL computes it."""
    words = ["openssl", "pkey", "-inform", "DER", "-pubout", "-outform", "DER"]
    done = command.run(words, stdin=PRIVATE_DER + private, check=False)
    if done.code != 0 or not done.stdout.startswith(PUBLIC_DER):
        raise BugError(f"openssl computes no public key: {done.last}")
    return done.stdout.removeprefix(PUBLIC_DER)


def _openssh(private: bytes, public: bytes, check: bytes, comment: str) -> str:
    """Return an OpenSSH private key (PROTOCOL.key) without a passphrase.

    Libraries put random check bytes into it: the key would not be the same twice.
    """
    inner = check + check + _string(KIND.encode()) + _string(public)
    inner += _string(private + public) + _string(comment.encode())
    inner += bytes(range(1, -len(inner) % 8 + 1))
    whole = b"openssh-key-v1\0" + _string(b"none") + _string(b"none") + _string(b"")
    whole += struct.pack(">I", 1) + _string(_blob(public)) + _string(inner)
    text = base64.b64encode(whole).decode()
    middle = "".join(f"{text[at : at + LINE]}\n" for at in range(0, len(text), LINE))
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{middle}-----END OPENSSH PRIVATE KEY-----\n"


def _blob(public: bytes) -> bytes:
    return _string(KIND.encode()) + _string(public)


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
