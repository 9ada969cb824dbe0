"""Handles the builder's plan: shows it, asks, gives the word; and remembers how long a run took."""

import dataclasses
import json
import os

from orchestrator.ask.request import Demo
from orchestrator.decide import announcement
from orchestrator.decide.estimate import Estimate, estimate
from orchestrator.deliver.stream import as_announced
from orchestrator.docker.workspace import give_word
from orchestrator.run import memory
from orchestrator.run.context import RunContext
from orchestrator.run.supervisor import Event, Supervisor
from orchestrator.shared.cost import Cost
from orchestrator.shared.errors import ApplianceError
from orchestrator.shared.steps import Steps

#: Seconds of one look whether a container has failed while a person thinks.
LOOK_SECONDS = 0.3

#: Stages after the build, which an estimate adds.
LATER = ("assemble", "boot", "deliver", "clean up")


def verb_of(run: RunContext) -> str:
    """Return the name of the run's verb, which the history knows."""
    return "demo" if isinstance(run.request, Demo) else "build"


def tell(run: RunContext, event: Event, stream: int) -> tuple[Cost, Estimate]:
    """Show what the builder says that the build costs; a dry run ends with that."""
    told = as_announced(Cost, event.get("cost"), "plan")
    cost = dataclasses.replace(told, devices=len(run.hosts))
    stages = [stage for stage in LATER if stage != "boot" or run.plan.boot]
    found = estimate(cost, memory.recall(), verb_of(run), stages)
    free = run.caller.out_kib
    room = None if free is None else free * 1024
    document = announcement.document(cost, found, room, run.plan)
    run.progress.end()
    if run.request.as_json:
        _write(stream, json.dumps(document, indent=2) + "\n")
        return cost, found
    text = announcement.describe(cost, found, room)
    run.progress.say(text, fields={"event": "plan", **document})
    for shortage in announcement.shortages(cost, room):
        run.progress.say(shortage, "warning")
    return cost, found


def obtain_word(run: RunContext, supervisor: Supervisor, cost: Cost, found: Estimate) -> None:
    """Ask if the build costs much, then let the builder go on.

    Raises `InterruptedRunError` if the answer is no.
    """

    def look() -> None:
        supervisor.next(LOOK_SECONDS)

    run.word.obtain(announcement.reasons(cost, found), run.progress, look)
    run.progress.to("build", "fetching and building")  # a failure is one of this stage
    give_word(run.workspace.shared)


def remember(run: RunContext, supervisor: Supervisor, *, ended_well: bool) -> None:
    """Add the run to the history; of a failed run only what was built."""
    said = supervisor.event("builder", "results") or supervisor.event("builder", "steps")
    if not said or run.request.dry_run:
        return
    try:
        steps = as_announced(Steps, said.get("steps"), "steps")
        if not ended_well:
            run.earlier.extend(steps.hands)
        stages = run.progress.seconds if ended_well else {}
        memory.keep(steps, stages, verb_of(run))
    except (ApplianceError, OSError) as error:
        run.progress.say(f"the times of this run are not remembered: {error}", "warning")


def _write(stream: int, text: str) -> None:
    left = text.encode()
    while left:
        left = left[os.write(stream, left) :]
