"""What an agent knows of its run: name, systems, folders, time limits.

An agent reads its environment, which compose.yaml sets. The constants are paths on shared volumes.
"""

import dataclasses
import os
import pathlib

from orchestrator.shared.architectures import SYSTEMS, foreign_system, this_system
from orchestrator.shared.variables import read

#: File on the lease's volume: cleanup writes the lease's token, registrar and builder wait for it.
TOKEN_FILE = pathlib.Path("/run/nixos-image/lease/token")

#: Mount point of the run's work volume: requests and images lie in a folder named after the run.
WORK = pathlib.Path("/var/nixos-image")

#: Folder of late values in a run's folder; until Nix has ended, only root may read it.
LATE = "late"

#: Empty folder in a run's folder: root's until the builder may fetch and build what it has planned.
WORD = "word"

#: Folder in a run's folder, root's: an empty file for each image that has left the work volume.
SENT = "sent"

#: Event of the builder: Nix has ended and no other process is left, so late values may be sent.
BUILT = "built"

#: Name of the text of an appliance.toml beside the modules that are made of it.
APPLIANCE_TEXT = ".text"

#: File in a run's folder with the caller's nix.conf lines; the builder deletes it after reading.
NIX_CONF = "nix.conf"


@dataclasses.dataclass(frozen=True)
class Run:
    """`id` names the run; `systems` are Nix systems to build for or to register emulators for.

    The numbers are time limits in seconds: waiting for other containers at the start, waiting for a
    lost builder, the whole run.
    """

    id: str
    systems: tuple[str, ...]
    start_seconds: float
    grace_seconds: float
    deadline_seconds: float

    @property
    def folder(self) -> pathlib.Path:
        """The run's folder on the work volume."""
        return WORK / self.id


def this_run() -> Run:
    """Read the run's facts from the environment; raises `ValueError` for an unknown system.

    Every variable has a default, so that a plain `docker compose up` works.
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
