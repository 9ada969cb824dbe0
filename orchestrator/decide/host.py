"""Facts about the Docker host, measured.

Its architecture, kernel, disk, and what it runs already.
"""

import contextlib
import dataclasses
import json
import pathlib
import shutil

from orchestrator.agents.emulation import canary
from orchestrator.docker import facts
from orchestrator.docker.api import SilentEngineError
from orchestrator.docker.engine import Engine, EngineInfo
from orchestrator.shared.architectures import MACHINES, RUNS_TOO, SYSTEMS, this_system
from orchestrator.shared.errors import DockerError, HostError
from orchestrator.shared.run import WORK

#: user_namespaces(7): what the first user namespace of a machine has.
ALL_USERS = ["0", "0", "4294967295"]

#: What is to be said where `borrows_table`.
HIDDEN = "what works here may be the machine's table, which a mount would hide here for good"


@dataclasses.dataclass(frozen=True)
class HostFacts:
    """`system` is the engine's Nix system, `runs` the systems whose programs run there now.

    `natively` are those of them that need no emulator, `lent` those that another run has registered
    an emulator of, which it takes away when it ends. `no_private` says why a builder may have no
    binfmt_misc of its own, `no_shared` why a registrar's is of no use; empty where it is possible.

    `memory` is what the engine has, in bytes.

    `data_free` and `out_free` are bytes for volumes and for the image, None where that is unknown.
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
        """The host for a person."""
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
    """Ask the engine, and try a canary of each of `targets` right here.

    This container sees the table that builders see. With `private` a container with the builder's
    rights is asked whether it may have one of its own.
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
        no_private=probe_private(engine, info) if needed else "it was not looked for",
        no_shared=why_not_shared(info),
        memory=info.memory,
        data_free=shutil.disk_usage(WORK).free,
        out_free=None if out_kib is None else out_kib * 1024,
    )


def why_not_shared(info: EngineInfo) -> str:
    """Why what a registrar registers would not serve, or do harm; empty where it serves."""
    if info.remaps:
        return "with userns-remap each container has a binfmt_misc of its own"
    return HIDDEN if borrows_table() else ""


def borrows_table() -> bool:
    """Whether this engine may run foreign programs by the table of a user namespace above its own.

    A user namespace without a binfmt_misc uses the one above. The first mount in a rootless engine
    makes one, which stays in force, empty, when the mount is gone. Nothing but a mount tells
    whether there is one already.
    """
    if pathlib.Path("/proc/self/uid_map").read_text().split() == ALL_USERS:
        return False
    native = this_system()
    foreign = SYSTEMS.keys() - {native} - RUNS_TOO.get(native, frozenset())
    tmp = pathlib.Path("/tmp")  # noqa: S108 - this container's own
    return any(canary.run(system, tmp).runs for system in foreign)


def probe_private(engine: Engine, info: EngineInfo) -> str:
    """Why a container with the builder's rights may have no table of its own; empty if it may.

    Tried once for each start of the host or its engine.
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
    except SilentEngineError:
        raise
    except DockerError as error:
        return str(error)
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            event = json.loads(line)
            if event["event"] == "private":
                return ""
            return str(event["message"])
    return f"its probe ended with exit code {code}"
