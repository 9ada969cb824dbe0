"""Tells why a Nix command has failed: from its log, its exit code and what happened meanwhile."""

import dataclasses
import pathlib
import re
from collections.abc import Callable

from orchestrator.agents import room
from orchestrator.agents.builder.crew import Crew
from orchestrator.agents.builder.evaluation import unreachable
from orchestrator.agents.builder.limits import Met
from orchestrator.agents.builder.nixlog import NixLog, Problem
from orchestrator.agents.emulation import crash
from orchestrator.agents.failure import AgentError, disk_full
from orchestrator.agents.room import Room
from orchestrator.shared.codes import CODES, recognise
from orchestrator.shared.constants import KILLED
from orchestrator.shared.text import public

#: Nix' words for a system that neither it nor a builder builds for.
PLATFORM = re.compile(r"Required system: '([^']+)'")


@dataclasses.dataclass(frozen=True)
class Failure:
    """A Nix command that has failed with the exit code `code`, after it had printed `log`.

    `store` has the lowest free space of the store's disk; `met` are the limits that this container
    has met meanwhile. `crew` are the builders on other machines,
    `platforms` the foreign systems whose programs run here. `explained` turns a problem of the
    evaluation into an error.
    """

    log: NixLog
    code: int
    store: Room
    met: Met
    crew: Crew
    platforms: tuple[str, ...]
    explained: Callable[[Problem], AgentError]

    def error(self) -> AgentError:
        """Return the error: what failed, why, and what to do."""
        log = self.log
        text = f"{log.told}\n{log.tail}".strip()
        if (wanted := PLATFORM.search(text)) and (missed := self.crew.missed(wanted[1])):
            return missed
        if lost := unreachable(text, log.problem):
            return lost
        if room.said(text) and self.store.scarce:
            return disk_full(text)
        if self.met.kills:
            killed = "the kernel killed a process because memory ran out"
            return self._limited(killed, text, kind="memory", code="out-of-memory")
        if self.met.refusals:
            refused = "the kernel started no process because the builder has as many as it may"
            return self._limited(refused, text, kind="host", code="out-of-processes")
        if log.failed:
            if sign := self._crash():
                return AgentError(
                    f"the emulator failed in derivation {log.failed}: {sign}",
                    detail=log.tail or text,
                    kind="emulator",
                )
            return self._failed_build(text)
        if self.code in (KILLED, -9):
            return AgentError(
                "Nix was killed: out of memory?",
                hint=CODES["nix-killed"].remedy,
                kind="build",
                code="nix-killed",
            )
        if log.spoiled:
            return _spoiled(*log.spoiled, text)
        if log.problem:
            return self.explained(log.problem)
        return AgentError("Nix failed", detail=text, kind="build")

    def _limited(self, why: str, text: str, *, kind: str, code: str) -> AgentError:
        """Return the error for a limit of this container that was met; `text` is what Nix said."""
        what = f"derivation {self.log.failed}" if self.log.failed else "Nix"
        return AgentError(
            f"{what} failed: {why}",
            hint=CODES[code].remedy,
            detail=self.log.tail or text,
            kind=kind,
            code=code,
        )

    def _failed_build(self, text: str) -> AgentError:
        """Return the error for a failed derivation; `text` are Nix' errors and the log's end."""
        log = self.log
        there = self.crew.find(log.machines.get(log.failed_path, ""))
        where = f" on {there.uri}" if there else ""
        what, hint, code = f"derivation {log.failed} failed{where}", CODES["build"].remedy, ""
        if room.said(text):
            # The store's disk was not full: the message is about a disk image within the build.
            hint, code = "a disk image within the build is full (--disk-size?)", "image-full"
        elif told := recognise(text, in_build=True):
            what = f"{what}: {told.text}" if told.text else what
            hint, code = told.remedy, told.code
        return AgentError(what, hint=hint, detail=log.tail or text, kind="build", code=code)

    def _crash(self) -> str:
        """Return the log line that shows a crash of the failed derivation's emulator, or ""."""
        path = pathlib.Path(self.log.failed_path)
        # A build may print Nix' message about any path, a link to a device for example.
        if not path.is_file() or crash.system_of(path.read_text()) not in self.platforms:
            return ""
        return crash.sign(self.log.told, self.log.tail)


def _spoiled(path: str, cache: str, text: str) -> AgentError:
    """Return the error for a store path that could not be taken from a cache; `text` says why."""
    said = " ".join(text.partition("\n")[0].removeprefix("error: ").split())
    return AgentError(
        f"{public(cache)} does not give {path} as it was built: {said}",
        hint="without this cache (--substituter) it is fetched elsewhere, or built",
        detail=text,
        kind="network",
    )
