"""Finds the runs on this Docker host, by labels and names of their containers and volumes."""

import datetime
import re
import time

from orchestrator.docker.api import forgiven
from orchestrator.docker.containers import Listed
from orchestrator.docker.engine import Engine
from orchestrator.docker.labels import LABEL, MAKER, PROJECT, RUN_LABEL

#: Run ID of a plain `docker compose up` (the default in compose.yaml).
COMPOSE_RUN = "compose"

#: Run ID of the worker's container (compose.yaml), which is part of no run and outlives all.
WORKER_RUN = "worker"

#: Suffixes of containers that run.sh starts before the orchestrator; they are not services.
SEND = "-send"
RUN_SH_SUFFIXES = ("-prepare", "-trees", SEND)

#: Suffix of the name of a run's cleanup container.
CLEANUP = "-cleanup-1"

#: Number of leading digits of a run's ID that identify its engine (run.sh derives them from the
#: engine's store volume).
ENGINE_DIGITS = 4

#: Seconds after which a container that was made but not started counts as abandoned, and one that
#: was to become an image since it has ended. run.sh starts each one as soon as it has made it, or
#: when `-send`, which runs, has sent its files; and it makes the image at once.
ABANDONED_SECONDS = 600

#: Time limit of an image build in run.sh (seconds): what is younger may be part of a running build.
BUILD_SECONDS = 7200

#: Names of runs' volumes: the work volume, which run.sh creates, and Compose's. Names are used,
#: because Podman may ignore labels of the former.
VOLUME = re.compile(rf"{PROJECT}-(?:work-([0-9a-f]+)|([0-9a-f]+)_\w+)")


def containers(engine: Engine) -> dict[str, tuple[str, bool]]:
    """Return this project's containers, running or not: name -> (run, running)."""
    found = engine.containers(RUN_LABEL)
    return {one.name: (one.labels.get(RUN_LABEL, ""), one.running) for one in found}


def runs(engine: Engine) -> set[str]:
    """Return all runs that have a container, network or volume.

    The run of a plain `docker compose up` is not included, nor is the worker.
    """
    there = {run for run, _running in containers(engine).values()}
    found = there - {COMPOSE_RUN, WORKER_RUN}
    labels = [one.get("Labels") or {} for one in engine.networks(LABEL)]
    projects = {one.get("com.docker.compose.project", "") for one in labels}
    found |= {
        name.removeprefix(f"{PROJECT}-") for name in projects if name.startswith(f"{PROJECT}-")
    }
    volumes = [VOLUME.fullmatch(name) for name in engine.volume_names()]
    return found | {match[1] or match[2] for match in volumes if match}


def makers(engine: Engine, runs: set[str]) -> list[str]:
    """Return the containers in which one of `runs` was making images."""
    starts = tuple(f"{MAKER}{run}-" for run in runs)
    return [one.name for one in engine.containers(LABEL) if one.name.startswith(starts)]


def living_runs(engine: Engine) -> set[str]:
    """Return runs with a running orchestrator, or of `docker compose up`.

    A run whose files are still being sent also counts: run.sh starts a container for that.
    """
    return {
        run
        for name, (run, running) in containers(engine).items()
        if running
        and (run == COMPOSE_RUN or name in {f"{PROJECT}-{run}", f"{PROJECT}-{run}{SEND}"})
    }


def abandoned(engine: Engine) -> list[str]:
    """Return containers that nobody will use any more.

    These are containers that have not started for ABANDONED_SECONDS, because run.sh was killed, and
    those that have not become an image. The clock may have been set meanwhile: none of a run whose
    files are still being sent, and none that works; but those that seem to come from the future.
    """
    living = living_runs(engine)
    return [
        one.name
        for one in engine.containers(LABEL)
        if not one.running
        and one.labels.get(RUN_LABEL) not in living
        and (one.state == "created" or one.name.startswith(MAKER))
        and _is_old(one.created if one.state == "created" else _ended(engine, one))
    ]


def _is_old(moment: float) -> bool:
    return abs(time.time() - moment) > ABANDONED_SECONDS


def _ended(engine: Engine, one: Listed) -> float:
    """Return when a container has ended, in seconds since 1970; now if it is just being removed."""
    with forgiven():
        ended = engine.how_is(one.name).get("FinishedAt") or ""
        return datetime.datetime.fromisoformat(ended).timestamp() if ended else one.created
    return time.time()


def starting_runs(engine: Engine) -> set[str]:
    """Return runs of which run.sh has just made a container that it will start.

    Ask this before `living_runs`: a run may begin to live in between.
    """
    gone = {*abandoned(engine)}
    return {
        run
        for one in engine.containers(RUN_LABEL)
        for run in [one.labels.get(RUN_LABEL, "")]
        if one.state == "created"
        and one.name not in gone
        and one.name in {f"{PROJECT}-{run}{suffix}" for suffix in ("", *RUN_SH_SUFFIXES)}
    }


def of_this_engine(engine: Engine, run: str) -> bool:
    """Whether `run` belongs to this engine, alive or dead.

    Another engine on the same kernel may share binfmt_misc; only that engine knows its runs.
    """
    return run == COMPOSE_RUN or run[:ENGINE_DIGITS] == engine.run[:ENGINE_DIGITS]


def table_is_held(engine: Engine) -> bool:
    """Return whether any run's cleanup has binfmt_misc mounted on this engine."""
    return any(
        running and name.endswith(CLEANUP) for name, (_, running) in containers(engine).items()
    )


def serving_runs(engine: Engine) -> set[str]:
    """Return runs with a running container of a service.

    A run with only an orchestrator may be another verb: `logs`, `config`, `clean`.
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
