"""The runs that there are on this host, whoever has started them: by labels, not by names alone."""

import re
import time

from orchestrator.docker.engine import Engine
from orchestrator.docker.labels import LABEL, PROJECT, RUN_LABEL

#: The run that containers belong to which `docker compose up` has started by itself (`compose.yaml`
#: says so).
COMPOSE_RUN = "compose"

#: Ends of the names of containers that run.sh starts before a run's own: they are no services.
SEND = "-send"
RUN_SH_SUFFIXES = ("-prepare", SEND)

#: So many of a run's digits are its engine's (run.sh has them of the engine's store volume).
ENGINE_DIGITS = 4

#: After a day (seconds) nobody sends files any more.
ABANDONED_SECONDS = 86400

#: Names of runs' volumes: Compose's, behind the project's name, and the one that run.sh makes. An
#: engine may not heed the latter's labels (Podman), so names tell.
VOLUME = re.compile(rf"{PROJECT}-(?:work-([0-9a-f]+)|([0-9a-f]+)_\w+)")


def containers(engine: Engine) -> dict[str, tuple[str, bool]]:
    """Containers of this project, running or not: name -> (run, whether it runs)."""
    found = engine.containers(RUN_LABEL)
    return {one.name: (one.labels.get(RUN_LABEL, ""), one.running) for one in found}


def runs(engine: Engine) -> set[str]:
    """All runs of which a container, network or volume is there.

    `docker compose up`'s own is not among them.
    """
    found = {run for run, _running in containers(engine).values()} - {COMPOSE_RUN}
    labels = [one.get("Labels") or {} for one in engine.networks(LABEL)]
    projects = {one.get("com.docker.compose.project", "") for one in labels}
    found |= {
        name.removeprefix(f"{PROJECT}-") for name in projects if name.startswith(f"{PROJECT}-")
    }
    volumes = [VOLUME.fullmatch(name) for name in engine.volume_names()]
    return found | {match[1] or match[2] for match in volumes if match}


def living_runs(engine: Engine) -> set[str]:
    """Runs that somebody looks after: their orchestrator runs, or `docker compose up` does.

    So does one whose files are still on their way: run.sh has a container take them first.
    """
    return {
        run
        for name, (run, running) in containers(engine).items()
        if running
        and (run == COMPOSE_RUN or name in {f"{PROJECT}-{run}", f"{PROJECT}-{run}{SEND}"})
    }


def abandoned(engine: Engine) -> list[str]:
    """Orchestrators' containers that wait for their run's files longer than anybody sends any."""
    oldest = time.time() - ABANDONED_SECONDS
    found = engine.containers(RUN_LABEL)
    return [one.name for one in found if one.state == "created" and one.created < oldest]


def of_this_engine(engine: Engine, run: str) -> bool:
    """Whether `run` is this engine's, alive or dead.

    Another engine on the same kernel may share the table of interpreters, and knows its own runs.
    """
    return run == COMPOSE_RUN or run[:ENGINE_DIGITS] == engine.run[:ENGINE_DIGITS]


def serving_runs(engine: Engine) -> set[str]:
    """Runs of which a service's container runs.

    An orchestrator by itself may be about to do something else: `logs`, `config`, `clean`.
    """
    return {
        run
        for name, (run, running) in containers(engine).items()
        if running
        and (
            run == COMPOSE_RUN
            or (name.startswith(f"{PROJECT}-{run}-") and not name.endswith(RUN_SH_SUFFIXES))
        )
    }
