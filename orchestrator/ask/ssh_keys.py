"""The public SSH keys that are to be let into an image."""

from orchestrator.ask.request import Caller, Demo
from orchestrator.ask.uploads import received
from orchestrator.shared.errors import UsageError


def ssh_keys(request: Demo, who: Caller) -> tuple[str, ...]:
    """The public keys that run.sh sent: those of --ssh-key, else all of the caller's ~/.ssh."""
    folder = received(who, who.home) / ".ssh"
    files = [received(who, request.ssh_key)] if request.ssh_key else sorted(folder.glob("*.pub"))
    keys = []
    for file in files:
        lines = [line.strip() for line in file.read_text(errors="replace").splitlines()]
        found = [line for line in lines if line and not line.startswith("#")]
        bad = [line for line in found if not line.startswith(("ssh-", "ecdsa-", "sk-"))]
        if request.ssh_key and (bad or not found):
            raise UsageError(
                f"--ssh-key {request.ssh_key}: not a public key file", hint="name the .pub file"
            )
        keys += [line for line in found if line not in bad]
    return tuple(dict.fromkeys(keys))
