"""The worker's container, which outlives the run that starts it: start, state, end."""

import dataclasses
import pathlib
import time

from orchestrator.ask.request import Caller
from orchestrator.decide.plan import builders_memory
from orchestrator.docker.answers import read
from orchestrator.docker.engine import Engine
from orchestrator.docker.images import Images
from orchestrator.docker.labels import LABEL, PROJECT, STORE_VOLUME, WORKER_STORE_VOLUME
from orchestrator.docker.server import refused_hint
from orchestrator.docker.workspace import Workspace
from orchestrator.run.reports import Worker
from orchestrator.run.runs import write_variables
from orchestrator.run.supervisor import Exit, Supervisor, read_event
from orchestrator.shared.errors import DockerError, HostError
from orchestrator.shared.progress import Progress

SERVICE = "worker"

#: The worker's container: that of a plain `docker compose --profile worker up`, too.
CONTAINER = f"{PROJECT}-{SERVICE}-1"

#: Longest wait in seconds until the worker is ready: it probes Nix' sandbox first.
READY_SECONDS = 120

#: Longest time in seconds until the worker has stopped; builds of its clients are killed then.
STOP_SECONDS = 10

#: Longest time in seconds to read the log of a container that runs.
LOG_SECONDS = 2


@dataclasses.dataclass(frozen=True)
class State:
    """What is known of the worker: `since` is Docker's time of its start, `event` its report.

    `event` is None where its log has no report, `running` false where the container has ended.
    """

    running: bool
    since: str
    event: Worker | None


def start(
    engine: Engine, workspace: Workspace, who: Caller, settings: dict[str, str], progress: Progress
) -> Worker:
    """Start the worker, in place of one that there is; returns its report.

    `settings` are Compose's variables of the worker. Raises `ApplianceError`.
    """
    images = Images(engine, "aarch64", workspace.logs, own=who.image)
    try:
        images.want((SERVICE,))
        images.wait((SERVICE,), progress)
    finally:
        images.close()
    image, _ = engine.layers(f"{PROJECT}-{SERVICE}")
    resident = _engine(engine, workspace.own / "worker.env")
    limit = {"NIXOS_IMAGE_MEMORY": f"{builders_memory(engine.info().memory)}m"}
    owner = dataclasses.replace(who, run=SERVICE)
    write_variables(workspace.own / "worker.env", owner, settings | limit)
    resident.use(SERVICE, image)
    progress.to("worker", "starting the SSH server")
    stop(engine)
    _create(resident)
    try:
        return _ready(resident, progress, settings["NIXOS_IMAGE_WORKER_LISTEN"])
    except BaseException:
        stop(engine)
        raise


def _create(resident: Engine) -> None:
    """Create the container, and of what Compose makes beside it, leave only the worker's store."""
    label = f"com.docker.compose.project={resident.project}"
    there = {one["Name"] for one in [*resident.networks(label), *resident.volumes(label)]}
    try:
        resident.create((SERVICE,))
    finally:
        resident.remove_stored(label, there | {STORE_VOLUME, WORKER_STORE_VOLUME})


def _ready(resident: Engine, progress: Progress, listen: str) -> Worker:
    try:
        resident.start([CONTAINER])
    except DockerError as error:
        raise DockerError(str(error), hint=refused_hint(str(error), listen)) from error
    supervisor = Supervisor(resident, progress, time.monotonic() + READY_SECONDS)
    supervisor.follow(SERVICE, CONTAINER)
    while True:
        item = supervisor.next()
        if isinstance(item, Exit):
            raise HostError("the worker has ended at its start")
        if item and item[1]["event"] == SERVICE:
            return read(Worker, item[1], SERVICE)


def stop(engine: Engine) -> bool:
    """End the worker and remove its container; returns whether there was one."""
    found = find(engine)
    if found:
        engine.stop(CONTAINER, STOP_SECONDS)
        engine.remove(CONTAINER)
    return found is not None


def find(engine: Engine) -> State | None:
    """Return the worker's state; None if there is no container of it."""
    there = {one.name: one for one in engine.containers(LABEL)}
    if CONTAINER not in there:
        return None
    event = None
    if there[CONTAINER].running:
        for line in engine.logs(CONTAINER, LOG_SECONDS):
            said = read_event(line)
            event = read(Worker, said, SERVICE) if said and said["event"] == SERVICE else event
    return State(there[CONTAINER].running, engine.how_is(CONTAINER).get("StartedAt", ""), event)


def _engine(engine: Engine, variables: pathlib.Path) -> Engine:
    """Return Compose's own project, which outlives runs."""
    return Engine("", variables, engine.api)
