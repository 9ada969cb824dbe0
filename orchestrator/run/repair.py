"""Removal of what dead runs have left in binfmt_misc."""

import json

from orchestrator.agents.emulation import binfmt
from orchestrator.decide.host import HIDDEN, borrows_table
from orchestrator.docker import census
from orchestrator.docker.containers import LOOK_SECONDS
from orchestrator.docker.engine import Engine
from orchestrator.shared.errors import CleanupError, failure
from orchestrator.shared.progress import Progress


def reap(engine: Engine, progress: Progress, cleanup: str, entries: list[str]) -> frozenset[str]:
    """Have the running container `cleanup` remove those of `entries` that are of no living run.

    This very run counts as dead: it is at its end, or has not begun. Returns the systems of what
    stays: living runs' entries, and those of another engine, which knows its own dead.

    Free of races: a run whose entry was in the table lived before the table was read, so one that
    does not by now is dead.
    """
    owners = {name: binfmt.owner(name) for name in entries if name.startswith(binfmt.PREFIX)}
    if not owners:
        return frozenset()
    ours = {name for name, (run, _) in owners.items() if census.of_this_engine(engine, run)}
    if theirs := sorted(owners.keys() - ours):
        progress.say(f"left in binfmt_misc for another engine's runs: {', '.join(theirs)}")
    alive = census.living_runs(engine) - {engine.run}
    dead = [name for name, (run, _) in owners.items() if name in ours and run not in alive]
    if dead:
        engine.execute(
            cleanup, ["python3", "-m", "orchestrator.agents.emulation.cleanup", "reap", *dead]
        )
        progress.say(
            f"removed from binfmt_misc what a dead run left: {', '.join(dead)}", level="warning"
        )
    return frozenset(system for name, (_, system) in owners.items() if name not in dead)


def repair_if_harmless(engine: Engine, progress: Progress) -> frozenset[str]:
    """`repair`, but where a mount might hide the machine's entries: then say so.

    What an engine in a user namespace has mounted itself has died with its containers.
    """
    if borrows_table():
        progress.say(f"binfmt_misc was not looked at: {HIDDEN}", level="warning")
        return frozenset()
    return repair(engine, progress)


def repair(engine: Engine, progress: Progress) -> frozenset[str]:
    """Second line of defence.

    A fresh cleanup looks at the table and removes what no living run owns. Returns the systems of
    which others' entries stay.
    """
    name = f"{engine.project}-repair-1"
    engine.create_one("cleanup", name, ["orchestrator.agents.emulation.cleanup", "look"])
    try:
        for line in engine.logs(name, LOOK_SECONDS):
            if not line.startswith("{"):
                continue  # a warning of Python's
            event = json.loads(line)
            if event["event"] == "failed":
                raise failure(CleanupError, event)
            if event["event"] == "table":
                return reap(engine, progress, name, event["entries"])
        raise CleanupError("binfmt_misc could not be looked at", hint="see the Docker daemon's log")
    finally:
        engine.kill(name)
        engine.remove(name)
