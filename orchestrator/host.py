"""Facts about the Docker host, measured.

Its architecture, kernel, disk, and what it runs already.
"""

import contextlib
import dataclasses
import json
import pathlib
import shutil

from orchestrator.agents import canary
from orchestrator.agents.run import WORK
from orchestrator.agents.systems import MACHINES, RUNS_TOO
from orchestrator.engine import Engine
from orchestrator.errors import DockerError, HostError


@dataclasses.dataclass(frozen=True)
class HostFacts:
    """`system` is the engine's Nix system, `runs` the systems whose programs run there now.

    `natively` are those of them that need no emulator. `no_private` says why a builder may have no
    binfmt_misc of its own; it is empty where it may.

    `memory` is what the engine has, in bytes.

    `data_free` and `out_free` are bytes for volumes and for the image, None where that is unknown.
    """

    system: str
    natively: frozenset[str]
    kernel: str
    engine: str
    runs: frozenset[str]
    no_private: str
    memory: int
    data_free: int
    out_free: int | None

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
        raise HostError(
            f"Docker runs on {info.architecture}: only x86_64 and aarch64 hosts are supported"
        )
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
        no_private=probe_private(engine) if needed else "it was not looked for",
        memory=info.memory,
        data_free=shutil.disk_usage(WORK).free,
        out_free=None if out_kib is None else out_kib * 1024,
    )


def probe_private(engine: Engine) -> str:
    """Why a container with the builder's rights may have no table of its own; empty if it may."""
    try:
        code, lines = engine.run_to_end("probe")
    except DockerError as error:
        return str(error)
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            event = json.loads(line)
            if event["event"] == "private":
                return ""
            return str(event["message"])
    return f"its probe ended with exit code {code}"
