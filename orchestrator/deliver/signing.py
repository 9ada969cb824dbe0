"""Signs and verifies with SSH keys (`ssh-keygen -Y`, PROTOCOL.sshsig).

The private key arrives with the caller's files. It is moved from the volume to this container's
memory before any other container starts, and is in no command line, log or layer.
"""

import os
import pathlib
import re
import tempfile

from orchestrator.ask.request import Caller
from orchestrator.ask.ssh_keys import bare_key, public_keys
from orchestrator.ask.uploads import received_file
from orchestrator.shared import command
from orchestrator.shared.errors import BugError, UsageError, VerificationError

#: Namespace of signatures (ssh-keygen -n): signatures for other purposes are invalid.
NAMESPACE = "nixos-image"

#: Folder in memory, which each container has for itself.
MEMORY = pathlib.Path("/dev/shm")  # noqa: S108 - only the orchestrator is in its container


def take_key(
    who: Caller, path: pathlib.PurePosixPath, option: str = "--sign", *, stays: bool = False
) -> None:
    """Move the received private key to memory; raises `UsageError` if it cannot sign.

    `option` is how the caller has named the key. The file `stays` for another option's use.
    """
    file = received_file(who, path)
    key = file.read_bytes()
    if not stays:
        file.unlink()
    with os.fdopen(os.open(_place(who), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
        copy.write(key)
    done = _sign(who, b"")
    if done.code == 0:
        return
    said = done.stderr.decode(errors="replace").strip()
    if "passphrase" in said:
        raise UsageError(
            f"{option} {path}: the key has a passphrase, and the container cannot ask for it",
            hint=f"omit {option}, then: ssh-keygen -Y sign -n {NAMESPACE} -f {path} IMAGE.sha256"
            if option == "--sign"
            else "name a key without a passphrase",
        )
    if b"PRIVATE KEY" not in key:
        raise UsageError(
            f"{option} {path}: not a private SSH key", hint="make one: ssh-keygen -t ed25519"
        )
    raise UsageError(
        f"{option} {path}: cannot sign: {said.splitlines()[-1].rpartition(': ')[2]}",
        hint=f"ssh-keygen -y -f {path} tells whether the key works",
    )


def sign(who: Caller, data: bytes, namespace: str = NAMESPACE) -> bytes:
    """Sign `data` with the key of `take_key`; a signature is good for one `namespace` only."""
    done = _sign(who, data, namespace)
    if done.code != 0:
        raise BugError(f"the signing key does not sign any more: {done.last}")
    return done.stdout


def verify(data: bytes, signature: bytes, signers: str) -> str:
    """Verify the `signature` of `data`; returns the signer and the key.

    `signers` is an allowed signers file (ssh-keygen(1), "ALLOWED SIGNERS"). Raises
    `VerificationError`.
    """
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        place = pathlib.Path(folder)
        (place / "sig").write_bytes(signature)
        (place / "signers").write_text(signers)
        files = ["-s", str(place / "sig"), "-f", str(place / "signers")]
        found = _ssh_keygen(["-Y", "find-principals", *files], b"")
        for name in found.text.splitlines():
            done = _ssh_keygen(["-Y", "verify", "-n", NAMESPACE, "-I", name, *files], data)
            if done.code == 0:
                said = done.text.strip()
                return re.sub(r'^Good "[^"]*" signature for ', "", said)
            break
        else:
            done = found
    said = done.last if done.lines else "unknown signer"
    raise VerificationError(f"the signature is not by an allowed signer of these checksums: {said}")


def signers_of(key: str, name: str) -> str:
    """Make an allowed signers line for the public key in the file `name`; raises `UsageError`."""
    first, *_others = public_keys(key, f"--key {name}")
    return f'{NAMESPACE} namespaces="{NAMESPACE}" {bare_key(first)}\n'


def _place(who: Caller) -> pathlib.Path:
    return MEMORY / f"{NAMESPACE}-{who.run}.key"


def _sign(who: Caller, data: bytes, namespace: str = NAMESPACE) -> command.Done:
    return _ssh_keygen(["-Y", "sign", "-q", "-n", namespace, "-f", str(_place(who))], data)


def _ssh_keygen(arguments: list[str], data: bytes) -> command.Done:
    # command.run starts a new session, without the terminal where ssh-keygen would ask for a
    # passphrase.
    return command.run(["ssh-keygen", *arguments], stdin=data, check=False)
