"""Measures facts about the Docker host.

The facts are its architecture, kernel, memory, free disk space, and the foreign architectures whose
programs it runs.
"""

import contextlib
import dataclasses
import pathlib
import shutil
import typing

from orchestrator.agents.emulation import canary
from orchestrator.agents.emulation.binfmt import in_first_namespace
from orchestrator.docker import census, facts
from orchestrator.docker.answers import LostEngineError, OddAnswerError, read_text
from orchestrator.docker.engine import Engine, EngineInfo
from orchestrator.shared.architectures import MACHINES, RUNS_TOO, SYSTEMS, this_system
from orchestrator.shared.errors import DockerError, HostError
from orchestrator.shared.json_reader import FreeText
from orchestrator.shared.run import WORK

#: Reason why shared emulation is refused on an engine for which `borrows_table` holds.
HIDDEN = (
    "this engine may use the host's binfmt_misc; mounting its own would hide that until the engine"
    " restarts"
)


class Probed(typing.TypedDict):
    """What the probe has found out: an event."""

    event: str
    message: typing.NotRequired[FreeText]


@dataclasses.dataclass(frozen=True)
class HostFacts:
    """`system` is the engine's Nix system, `runs` the systems whose programs it runs now.

    Of `runs`, `natively` need no emulator, and `lent` have an emulator that another run has
    registered and will remove. `no_private` says why a builder cannot have its own binfmt_misc,
    `no_shared` why a registrar cannot help; both are empty if it is possible.

    `memory` is the engine's, in bytes.

    `data_free` (Docker's data) and `out_free` (output folder) are free bytes, None if unknown.
    """

    system: str
    natively: frozenset[str]
    kernel: str
    engine: str
    runs: frozenset[str]
    no_private: str
    no_shared: str
    memory: int
    data_free: int
    out_free: int | None
    lent: frozenset[str] = frozenset()

    def describe(self) -> str:
        """Describe the host for a person."""
        rows = [
            f"host       {self.system}, Linux {self.kernel}, Docker {self.engine}",
            f"memory     {self.memory >> 20} MiB",
            f"disk       {self.data_free >> 20} MiB free for Docker's data",
        ]
        foreign = self.runs - self.natively
        rows += [f"runs       {', '.join(sorted(foreign))} programs already"] if foreign else []
        return "\n".join(rows)


def measure(
    engine: Engine, targets: tuple[str, ...], out_kib: int | None, *, private: bool
) -> HostFacts:
    """Ask the engine for facts, and run the canary of each of `targets` in this container.

    This container sees the same binfmt_misc as builders. With `private`, a probe container with the
    builder's rights tries to mount its own binfmt_misc.
    """
    info = engine.info()
    if info.architecture not in MACHINES:
        known = " and ".join(row.hosts[0] for row in SYSTEMS.values() if row.hosts)
        raise HostError(f"Docker runs on {info.architecture}: only {known} hosts are supported")
    system = MACHINES[info.architecture]
    natively = frozenset({system}) | RUNS_TOO.get(system, frozenset())
    tmp = pathlib.Path("/tmp")  # noqa: S108 - this container's own
    foreign = {one for one in targets if one not in natively and canary.run(one, tmp).runs}
    needed = private and not natively.issuperset(targets)
    return HostFacts(
        system=system,
        kernel=info.kernel,
        engine=info.version,
        natively=natively,
        runs=natively | foreign,
        no_private=probe_private(engine, info) if needed else "it was not probed",
        no_shared=why_not_shared(engine, info),
        memory=info.memory,
        data_free=shutil.disk_usage(WORK).free,
        out_free=None if out_kib is None else out_kib * 1024,
    )


def why_not_shared(engine: Engine, info: EngineInfo) -> str:
    """Return why a registrar would be useless or do harm; empty if shared emulation works."""
    if info.remaps:
        return "with userns-remap each container has its own binfmt_misc"
    return HIDDEN if borrows_table(engine) else ""


def borrows_table(engine: Engine) -> bool:
    """Whether this engine may use the binfmt_misc of a parent user namespace.

    A user namespace without its own binfmt_misc uses its parent's. The first mount in a rootless
    engine's namespace creates an empty one, which stays in force after the unmount. Only a mount
    could show whether one exists already. If another run has it mounted, one exists.
    """
    if in_first_namespace() or census.table_is_held(engine):
        return False
    native = this_system()
    foreign = SYSTEMS.keys() - {native} - RUNS_TOO.get(native, frozenset())
    tmp = pathlib.Path("/tmp")  # noqa: S108 - this container's own
    return any(canary.run(system, tmp).runs for system in foreign)


def probe_private(engine: Engine, info: EngineInfo) -> str:
    """Return why a builder cannot have its own binfmt_misc; empty if it can.

    A success is remembered until the host or its engine restarts.
    """
    if facts.private_works(engine, info):
        return ""
    why_not = _try_private(engine)
    if not why_not:
        facts.keep_private_works(engine, info)
    return why_not


def _try_private(engine: Engine) -> str:
    try:
        code, lines = engine.run_to_end("probe")
    except LostEngineError:
        raise
    except DockerError as error:
        return str(error)
    for line in lines:
        with contextlib.suppress(OddAnswerError):
            event = read_text(Probed, line, "probe")
            return "" if event["event"] == "private" else event.get("message", event["event"])
    return f"the probe ended with exit code {code}"
