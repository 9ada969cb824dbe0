"""The runs that there are on this host, whoever has started them: by labels, not by names alone."""

from python_on_whales import Container

from orchestrator.docker.engine import LABEL, PROJECT, RUN_LABEL, Engine, still_there, told

#: The run that containers belong to which `docker compose up` has started by itself (`compose.yaml`
#: says so).
COMPOSE_RUN = "compose"

#: Ends of the names of containers that run.sh starts before a run's own: they are no services.
RUN_SH_SUFFIXES = ("-prepare", "-send")

#: So many of a run's digits are its engine's (run.sh has them of the engine's work volume).
ENGINE_DIGITS = 4


def containers(engine: Engine) -> dict[str, tuple[str, bool]]:
    """Containers of this project, running or not: name -> (run, whether it runs)."""

    def known(one: Container) -> tuple[str, tuple[str, bool]]:
        run = (one.config.labels or {}).get(RUN_LABEL, "")
        return one.name, (run, bool(one.state.running))

    with told("docker ps"):
        found = engine.client.container.list(all=True, filters=[("label", RUN_LABEL)])
        return dict(still_there(found, known))


def runs(engine: Engine) -> set[str]:
    """All runs of which a container, network or volume is there.

    `docker compose up`'s own is not among them.
    """
    found = {run for run, _running in containers(engine).values()} - {COMPOSE_RUN}
    with told("docker network ls"):
        ours = {"label": LABEL}
        networks, volumes = engine.client.network.list(ours), engine.client.volume.list(ours)
        labels = [
            *still_there(networks, lambda one: one.labels),
            *still_there(volumes, lambda one: one.labels),
        ]
    projects = {(one or {}).get("com.docker.compose.project", "") for one in labels}
    return found | {
        name.removeprefix(f"{PROJECT}-") for name in projects if name.startswith(f"{PROJECT}-")
    }


def living_runs(engine: Engine) -> set[str]:
    """Runs that somebody looks after: their orchestrator runs, or `docker compose up` does."""
    return {
        run
        for name, (run, running) in containers(engine).items()
        if running and (run == COMPOSE_RUN or name == f"{PROJECT}-{run}")
    }


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
