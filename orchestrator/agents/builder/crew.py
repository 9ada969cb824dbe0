"""The builders on other machines that Nix uses in this run, and their SSH keys.

The keys are in the memory of an ssh-agent, in no file: an evaluation and a sandboxed build cannot
reach it. Nix finds host keys and settings in a folder of the run. A builder that does not answer,
or answers as another machine, is left out, and so is one that is lost while it builds.
"""

import concurrent.futures
import dataclasses
import os
import pathlib
import re

from orchestrator.agents import events
from orchestrator.agents.builder import ssh
from orchestrator.agents.failure import AgentError
from orchestrator.shared import command
from orchestrator.shared.builders import (
    BUILDERS,
    Builder,
    Keyed,
    read_keyed,
)
from orchestrator.shared.run import Run
from orchestrator.shared.text import plain

#: Time limit in seconds of the first question to a builder: by then a hanging server is known.
ASK_SECONDS = ssh.CONNECT_SECONDS + ssh.ALIVE_TIMES * ssh.ALIVE_SECONDS

HINT = "docs/how-to/worker.md tells what may be wrong with a builder"


@dataclasses.dataclass(frozen=True)
class Lost:
    """A builder that is used no more, and why."""

    builder: Builder
    cause: str


class Crew:
    """Builders that are alive, and those that are lost; without builders, Nix builds all here."""

    def __init__(
        self, builders: tuple[Builder, ...] = (), folder: pathlib.Path | None = None
    ) -> None:
        """Use `builders`; `folder` has the files of `hire`."""
        self.alive = list(builders)
        self.lost: list[Lost] = []
        self._folder = folder

    @property
    def systems(self) -> frozenset[str]:
        """Systems that builders which are alive build for."""
        return frozenset(system for one in self.alive for system in one.systems)

    @property
    def setting(self) -> str:
        """Nix' setting `builders`."""
        return " ; ".join(one.line(self._key(one), "") for one in self.alive)

    def text(self) -> str:
        """Return lines of nix.conf; empty without builders."""
        if not self.alive:
            return ""
        # What can be built beside a builder's loss is built; what has failed for good ends Nix.
        return f"builders = {self.setting}\nbuilders-use-substitutes = true\nkeep-going = true\n"

    def variables(self) -> dict[str, str]:
        """Return the variables by which Nix' ssh finds keys and known hosts."""
        if not self._folder:
            return {}
        return {
            "NIX_SSHOPTS": ssh.options(self._folder),
            "SSH_AUTH_SOCK": os.fspath(self._folder / "agent"),
        }

    def find(self, uri: str) -> Builder | None:
        """Return the builder with the address `uri` that is alive, if any."""
        return next((one for one in self.alive if one.uri == uri), None)

    def lose(self, builder: Builder, cause: str) -> None:
        """Use `builder` no more, and say so."""
        self.alive.remove(builder)
        self.lost.append(Lost(builder, cause))
        events.emit(
            "builder-lost",
            level="warning",
            message=f"{builder.uri} is left out: {cause}",
            uri=builder.uri,
            cause=cause,
        )

    def missed(self, system: str) -> AgentError | None:
        """Return the error for a `system` that only lost builders build for; None if none does."""
        lost = [one for one in self.lost if system in one.builder.systems]
        if not lost or system in self.systems:
            return None
        causes = "; ".join(f"{one.builder.uri}: {one.cause}" for one in lost)
        return AgentError(f"no builder for {system} is left ({causes})", hint=HINT, kind="builder")

    def _key(self, builder: Builder) -> str:
        """Return the path of the public key by which ssh finds the private one in the agent."""
        assert self._folder
        return os.fspath(self._folder / f"{_name(builder)}.pub")


def hire(run: Run) -> Crew:
    """Take the run's builders and their keys, and use those that answer; raises `AgentError`.

    A builder whose host key is unknown ends the run: the error has its fingerprint.
    """
    place = run.folder / BUILDERS
    try:
        text = place.read_text()
    except FileNotFoundError:
        return Crew()
    place.unlink()
    keyed = read_keyed(text)
    if unknown := [one.builder for one in keyed if not one.builder.host_key]:
        raise _unknown(unknown[0])
    folder = run.folder / "ssh"
    folder.mkdir(mode=0o700, exist_ok=True)  # a run's second attempt finds the folder
    crew = Crew(tuple(one.builder for one in keyed), folder)
    ssh.write_settings(folder, crew.alive)
    _load(crew, folder, keyed)
    with concurrent.futures.ThreadPoolExecutor(max_workers=len(keyed)) as pool:
        causes = list(pool.map(lambda one: ask(crew, one.builder), keyed))
    for one, cause in zip(keyed, causes, strict=True):
        if cause:
            crew.lose(one.builder, cause)
    if crew.alive:
        uris = ", ".join(one.uri for one in crew.alive)
        events.emit("builders", message=f"builders that answer: {uris}", builders=uris.split(", "))
    return crew


def ask(crew: Crew, builder: Builder) -> str:
    """Ask a builder for its version of Nix; returns why it cannot be used, or ""."""
    store = f"{builder.uri}?ssh-key={crew._key(builder)}"
    try:
        done = command.run(
            ["nix", "store", "info", "--json", "--store", store],
            variables={**crew.variables(), "NIX_CONFIG": "experimental-features = nix-command"},
            timeout=ASK_SECONDS,
            check=False,
        )
    except command.SlowCommandError:
        return f"it has not answered within {ASK_SECONDS} s"
    if done.code == 0:
        return "" if '"trusted":true' in done.text else "it does not trust this key to send builds"
    return ssh.why(done.stderr.decode(errors="replace"), builder)


def _unknown(builder: Builder) -> AgentError:
    """Return the error for a builder without a host key."""
    return ssh.unknown(
        builder,
        lambda key: f"the line: {builder.line(builder.key, key)}",
        "the line's last word is the host key; ./run.sh worker prints the whole line",
        "builder-unknown",
    )


def _load(crew: Crew, folder: pathlib.Path, keyed: tuple[Keyed, ...]) -> None:
    """Start an ssh-agent with the keys; it ends with the container."""
    socket = folder / "agent"
    socket.unlink(missing_ok=True)
    command.run(["ssh-agent", "-s", "-a", os.fspath(socket)], fails=AgentError)
    publics: dict[str, str] = {}
    for one in keyed:
        if one.secret not in publics:
            publics[one.secret] = _add(crew, one, frozenset(publics.values()))
        place = folder / f"{_name(one.builder)}.pub"
        place.write_text(f"{publics[one.secret]}\n")
        place.chmod(0o600)  # ssh takes no key, not even a public one, that others may read


def _add(crew: Crew, one: Keyed, known: frozenset[str]) -> str:
    """Add a builder's key to the agent, which has the public keys `known`; returns the new one."""
    given = one.secret if one.secret.endswith("\n") else f"{one.secret}\n"
    # A key with a passphrase must not wait for a terminal that is not there.
    silent = {**crew.variables(), "SSH_ASKPASS_REQUIRE": "never"}
    done = command.run(["ssh-add", "-q", "-"], stdin=given.encode(), variables=silent, check=False)
    if done.code != 0:
        raise AgentError(
            f"--builders: the key {one.builder.key} cannot be used: {plain(done.last)}",
            hint="name a private key without a passphrase, of a pair for this purpose alone",
            kind="usage",
        )
    found = command.run(["ssh-add", "-L"], variables=silent, fails=AgentError).text.splitlines()
    return next(line for line in found if line not in known)


def _name(builder: Builder) -> str:
    """Return a file's name for a builder."""
    return re.sub(r"[^A-Za-z0-9.]", "-", builder.uri.removeprefix("ssh-ng://"))
