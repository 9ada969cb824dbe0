"""Runs an agent of a run's own once, in a container of one of the services."""

import dataclasses
import json
import typing

from orchestrator.docker.engine import Engine
from orchestrator.run.supervisor import Event, Exit, Supervisor
from orchestrator.shared.progress import Progress

if typing.TYPE_CHECKING:
    from _typeshed import DataclassInstance


def run_once(
    engine: Engine,
    progress: Progress,
    deadline: float,
    service: str,
    agent: str,
    order: "DataclassInstance",
) -> Event:
    """Run the module `agent` in a container of `service`; its argument is `order` as JSON.

    Messages of its events are said; the last event is returned. `deadline` is a time of the
    monotonic clock. Raises the agent's error.
    """
    name = f"{engine.project}-{service}-1"
    told: Event = {}
    engine.remove(name)
    engine.create_one(service, name, [agent, json.dumps(dataclasses.asdict(order))])
    supervisor = Supervisor(engine, progress, deadline)
    supervisor.follow(service, name)
    while not isinstance(item := supervisor.next(), Exit):
        if item:
            told = item[1]
            if (message := told.get("message")) and told.get("level") != "warning":
                progress.say(str(message), fields=told)
    engine.remove(name)
    return told
