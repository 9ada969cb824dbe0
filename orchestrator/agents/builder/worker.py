"""Agent worker: a builder for other machines. Its SSH server runs `nix-daemon --stdio` alone.

The agent runs as an ordinary user without capabilities, and so does the SSH server: it lets nobody
in but that user. Who has a key may have the worker build anything, so builds without Nix' sandbox
are refused.
"""

import os
import pathlib
import typing

from orchestrator.agents import events
from orchestrator.agents.builder import demo, sandbox
from orchestrator.agents.builder.nix import Nix
from orchestrator.agents.builder.nix import version as nix_version
from orchestrator.agents.builder.nix_settings import CACHE, CACHE_KEY, READONLY, Settings
from orchestrator.agents.builder.nixos import answers
from orchestrator.agents.failure import AgentError, run_agent
from orchestrator.image.filesystems.filesystem import preloaded
from orchestrator.shared import command
from orchestrator.shared.architectures import RUNS_TOO, this_system
from orchestrator.shared.builders import PLACEHOLDER, Builder, fingerprint
from orchestrator.shared.text import whole
from orchestrator.shared.variables import read

USER = "builder"

#: Port of the SSH server in the container; Compose publishes it.
PORT = 2222

SSHD = "/usr/sbin/sshd"

#: Folder on the worker's store volume: the host's key, which stays the same as long as the store.
STATE = pathlib.Path("/nix/var/nixos-image-worker")

#: Folder of files that are made anew at each start.
PLACE = pathlib.Path("/tmp/worker")  # noqa: S108 - the container's own

BUILDS = pathlib.Path("/nix/var/nix/builds")

#: Features that a worker offers: builds that run a virtual machine emulate it where KVM is missing.
FEATURES = ("benchmark", "big-parallel", "kvm", "nixos-test")

#: Seconds between two signs of life that the server asks of a silent client, and how many of them
#: may stay unanswered: the builds of a client that is gone end then.
ALIVE_SECONDS = 15
ALIVE_TIMES = 4

#: Cost of a download for a worker whose network is slow or absent: its clients send what it lacks.
CACHE_SECONDS = 5
CACHE_ATTEMPTS = 2


def main() -> None:
    """Run the worker as the main function of its container."""
    run_agent("worker", work)


def work() -> typing.NoReturn:
    """Prove the sandbox, print the builder's line, and become the SSH server."""
    keys = authorized_keys(read(os.environ, "NIXOS_IMAGE_WORKER_KEYS"))
    PLACE.mkdir(mode=0o700, exist_ok=True)
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in (BUILDS, pathlib.Path(os.environ["HOME"])):
        folder.mkdir(parents=True, exist_ok=True)
    settings = sandboxed()
    write_files(settings, keys)
    told = builder(host_key())
    config = os.fspath(PLACE / "sshd_config")
    command.run([SSHD, "-t", "-f", config], fails=AgentError)
    events.emit(
        "worker",
        message=f"the builder's line, with the path of a private key in place of {PLACEHOLDER}:\n"
        f"{told.line(PLACEHOLDER)}",
        line=told.line(PLACEHOLDER),
        host_key=told.host_key,
        fingerprint=fingerprint(told.host_key),
        systems=list(told.systems),
        nix=nix_version(),
    )
    # The server replaces this process: it gets the container's signals.
    os.execv(SSHD, [SSHD, "-D", "-e", "-f", config])  # noqa: S606 - no shell, our own command


def authorized_keys(text: str) -> tuple[str, ...]:
    """Return the public keys in `text`, which commas separate; raises `AgentError` for none."""
    keys = tuple(filter(None, (key.strip() for key in text.split(","))))
    if not keys:
        raise AgentError(
            "nobody could log in: there is no public key",
            hint="./run.sh worker --authorized-key FILE; with plain Compose set"
            " NIXOS_IMAGE_WORKER_KEYS",
            kind="usage",
        )
    return keys


def sandboxed() -> Settings:
    """Return Nix' settings; raises `AgentError` where Nix' sandbox does not work.

    A cache that does not answer now would cost each build the time of an attempt.
    """
    problem = answers(f"{CACHE}/nix-cache-info")
    if problem:
        events.emit(
            "cache-lost",
            level="warning",
            message=f"{CACHE} cannot be reached ({problem}): clients send what this worker lacks",
        )
    settings = Settings(
        substituters=() if problem else (CACHE,),
        trusted_keys=(CACHE_KEY,),
        sandbox_paths=(demo.UNPACKER,),
        build_dir=os.fspath(BUILDS),
    )
    nix = Nix(settings, PLACE / "nix.log")
    try:
        return sandbox.obtain(nix, USER, strict=True).settings
    except AgentError as error:
        raise AgentError(
            str(error),
            hint="a worker builds what others send, so it needs a host that allows user namespaces",
            kind="host",
        ) from error


def host_key() -> str:
    """Return the worker's public host key, which is made at the first start."""
    key = STATE / "host_key"
    if not key.exists():
        new = STATE / "host_key.new"
        for half in (new, new.with_suffix(".new.pub")):
            half.unlink(missing_ok=True)
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", os.fspath(new)]
        command.run(words, fails=AgentError)
        new.rename(key)
    said = command.run(["ssh-keygen", "-y", "-f", os.fspath(key)], fails=AgentError).text
    return " ".join(said.split()[:2])


def builder(key: str) -> Builder:
    """Return how other machines reach this worker; `key` is its public host key."""
    system = this_system()
    listen = read(os.environ, "NIXOS_IMAGE_WORKER_LISTEN")
    address = read(os.environ, "NIXOS_IMAGE_WORKER_ADDRESS") or listen
    port = read(os.environ, "NIXOS_IMAGE_WORKER_PORT")
    jobs = read(os.environ, "NIXOS_IMAGE_WORKER_JOBS")
    return Builder(
        f"ssh-ng://{USER}@{address}:{port}",
        (system, *sorted(RUNS_TOO.get(system, ()))),
        PLACEHOLDER,
        jobs=whole(jobs) or os.cpu_count() or 1,
        features=FEATURES,
        host_key=key,
    )


def write_files(settings: Settings, keys: tuple[str, ...]) -> None:
    """Write what the SSH server and Nix read."""
    lines = [
        *settings.lines(),
        f"trusted-users = {USER}",
        f"connect-timeout = {CACHE_SECONDS}",
        f"download-attempts = {CACHE_ATTEMPTS}",
        "fallback = true",
    ]
    (PLACE / "nix.conf").write_text("".join(f"{line}\n" for line in lines))
    (PLACE / "authorized_keys").write_text("".join(f"restrict {key}\n" for key in keys))
    (PLACE / "sshd_config").write_text(sshd_config())


def sshd_config() -> str:
    """Return the SSH server's configuration: keys alone, one command, nothing forwarded."""
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    variables = {
        **proxies,
        "HOME": os.environ["HOME"],
        "NIX_CONF_DIR": os.fspath(PLACE),
        "PATH": os.environ["PATH"],
    }
    # env sets the library for Nix alone, not for the shell that the server starts.
    preload = f"LD_PRELOAD={preloaded(READONLY)} READONLY_EXCEPT={BUILDS}"
    lines = {
        "Port": str(PORT),
        "HostKey": os.fspath(STATE / "host_key"),
        "AuthorizedKeysFile": os.fspath(PLACE / "authorized_keys"),
        "AuthenticationMethods": "publickey",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "PermitRootLogin": "no",
        "AllowUsers": USER,
        "UsePAM": "no",
        # The keys lie in a folder for temporary files, which is everybody's.
        "StrictModes": "no",
        "ForceCommand": f"exec env {preload} nix-daemon --stdio",
        "DisableForwarding": "yes",
        "PermitTTY": "no",
        "PermitTunnel": "no",
        "PermitUserRC": "no",
        "PrintLastLog": "no",
        "PrintMotd": "no",
        "PidFile": "none",
        "ClientAliveInterval": str(ALIVE_SECONDS),
        "ClientAliveCountMax": str(ALIVE_TIMES),
        "MaxStartups": "64",
        "SetEnv": " ".join(f'"{name}={value}"' for name, value in variables.items()),
    }
    return "".join(f"{name} {value}\n" for name, value in lines.items())


if __name__ == "__main__":
    main()
