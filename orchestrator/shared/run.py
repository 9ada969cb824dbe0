"""What every agent knows of its run.

The environment that compose.yaml gives it, and the folders that it shares.
"""

import dataclasses
import os
import pathlib

from orchestrator.shared.architectures import SYSTEMS, foreign_system, this_system
from orchestrator.shared.variables import read

#: The lease's volume: cleanup writes the token here, registrar and builder wait for it.
TOKEN_FILE = pathlib.Path("/run/nixos-image/lease/token")

#: The work volume, one for each run: requests in, images out, in the folder that is named after it.
WORK = pathlib.Path("/var/nixos-image")

#: In a run's folder: late values, once Nix has ended; before, root alone may look into it.
LATE = "late"

#: What the builder says when Nix has ended and no other process is left: late values may come.
BUILT = "built"

#: In a run's folder: the caller's lines of a nix.conf, until the builder has read them.
NIX_CONF = "nix.conf"


@dataclasses.dataclass(frozen=True)
class Run:
    """`id` names the run, `systems` are those that it needs foreign programs of, or builds for.

    Seconds are waits' limits.
    """

    id: str
    systems: tuple[str, ...]
    start_seconds: float
    grace_seconds: float
    deadline_seconds: float

    @property
    def folder(self) -> pathlib.Path:
        """The run's own folder in the work volume."""
        return WORK / self.id


def this_run() -> Run:
    """Read the environment.

    Every variable has a default, so that `docker compose up` works by itself.
    """
    environment = os.environ
    named = read(environment, "NIXOS_IMAGE_SYSTEMS").split()
    systems = tuple(named or [foreign_system(this_system())])
    if wrong := [system for system in systems if system not in SYSTEMS]:
        raise ValueError(f"NIXOS_IMAGE_SYSTEMS: {wrong[0]} is not one of {', '.join(SYSTEMS)}")
    return Run(
        id=read(environment, "NIXOS_IMAGE_RUN"),
        systems=systems,
        start_seconds=float(read(environment, "NIXOS_IMAGE_START_SECONDS")),
        grace_seconds=float(read(environment, "NIXOS_IMAGE_GRACE_SECONDS")),
        deadline_seconds=float(read(environment, "NIXOS_IMAGE_DEADLINE_SECONDS")),
    )
