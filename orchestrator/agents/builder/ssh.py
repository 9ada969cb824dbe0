"""What Nix' ssh is told of other machines: settings, known hosts; and what it says of them."""

import pathlib
import re
from collections.abc import Callable, Iterable

from orchestrator.agents.failure import AgentError
from orchestrator.shared import command
from orchestrator.shared.builders import Builder, encoded, fingerprint, read_address
from orchestrator.shared.push import HOST_KEY
from orchestrator.shared.text import plain

#: Seconds to connect; a machine that says nothing for ALIVE_TIMES times ALIVE_SECONDS is lost.
CONNECT_SECONDS = 10
ALIVE_SECONDS = 5
ALIVE_TIMES = 3

#: Time limit in seconds for the host key of a machine that is not known.
SCAN_SECONDS = 5

#: Host key types, the best first.
KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa")

#: What ssh says of a host key that is not the known one.
OTHER_KEY = re.compile(
    r"sent by the remote host is\s+(SHA256:\S+?)\.?\s|Host key verification failed"
)

#: What Nix says of a full disk.
FULL = re.compile(r"No space left on device|disk (?:is )?full", re.IGNORECASE)


def options(folder: pathlib.Path) -> str:
    """Return the value of NIX_SSHOPTS for the settings in `folder`."""
    return f"-F {folder / 'ssh_config'}"


def write_settings(folder: pathlib.Path, machines: Iterable[Builder]) -> None:
    """Write the settings and the known hosts of ssh, which are `machines`, to `folder`."""
    (folder / "known_hosts").write_text("".join(f"{one.known}\n" for one in machines))
    lines = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "UserKnownHostsFile": folder / "known_hosts",
        "GlobalKnownHostsFile": "none",
        "IdentitiesOnly": "yes",
        "PreferredAuthentications": "publickey",
        "ForwardAgent": "no",
        "ConnectTimeout": CONNECT_SECONDS,
        "ServerAliveInterval": ALIVE_SECONDS,
        "ServerAliveCountMax": ALIVE_TIMES,
    }
    text = "".join(f"{name} {value}\n" for name, value in lines.items())
    (folder / "ssh_config").write_text(text)


def shown_key(machine: Builder) -> str:
    """Return the host key TYPE BASE64 that `machine` shows now; "" if it cannot be reached."""
    words = ["ssh-keyscan", "-T", str(SCAN_SECONDS), "-p", str(machine.port), machine.host]
    done = command.run(words, check=False, timeout=4 * SCAN_SECONDS)
    lines = [line.split() for line in done.text.splitlines() if not line.startswith("#")]
    found = {words[1]: words[2] for words in lines if len(words) > 2}
    return next((f"{kind} {found[kind]}" for kind in KINDS if kind in found), "")


def unknown(machine: Builder, use: Callable[[str], str], lacking: str, code: str) -> AgentError:
    """Return the error for a machine without a host key; it has the key that the machine shows.

    `use` returns the words that name the machine with a key; `lacking` tells where keys come from.
    """
    if key := shown_key(machine):
        return AgentError(
            f"{machine.uri}: its host key is unknown; the machine shows {fingerprint(key)}"
            f" ({key.split()[0]})",
            hint="if the machine's own ssh-keygen -l, or its ./run.sh worker status, shows this"
            f" fingerprint, use {use(key)}",
            kind="usage",
            code=code,
        )
    return AgentError(
        f"{machine.uri}: its host key is unknown, and the machine cannot be reached",
        hint=lacking,
        kind="network",
        code=code,
    )


def unknown_store(address: str) -> AgentError:
    """Return the error for the machine at `address`, for whose store `--push` has no host key."""
    return unknown(
        read_address(address, ""),
        lambda key: f"--push '{address}?{HOST_KEY}={encoded(key)}'",
        f"the URL's last part is the host key: --push '{address}?{HOST_KEY}=…'",
        "push-unknown",
    )


def is_told(said: str) -> bool:
    """Whether ssh itself, not Nix, says in `said` what is wrong."""
    signs = ("Permission denied", "Host key verification failed", "ssh:", "kex_", "Connection ")
    return any(sign in said for sign in signs)


def why(said: str, machine: Builder) -> str:
    """Return in words what `said`, the stderr of ssh and Nix, tells of a machine."""
    text = plain(said)
    if match := OTHER_KEY.search(text):
        other = f", {match[1]}," if match[1] else ""
        return (
            f"it has another host key{other} than {fingerprint(machine.host_key)}:"
            " if the machine was set up again, name its new one; else another machine answers"
        )
    if "Permission denied" in text:
        return "it refuses the key (is the public key among those that may log in there?)"
    if FULL.search(text):
        return "its disk is full"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("ssh:", "Connection", "Timeout", "kex_"))]
    return f"it cannot be reached: {(told or lines or ['no answer'])[0]}"
