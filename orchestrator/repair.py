"""Removal of what dead runs have left in binfmt_misc."""

import json

from orchestrator.engine import PROJECT, Engine, failure
from orchestrator.errors import CleanupError
from orchestrator.host import HIDDEN, borrows_table
from orchestrator.progress import Progress


def reap(engine: Engine, progress: Progress, cleanup: str, entries: list[str]) -> None:
    """Have the running container `cleanup` remove those of `entries` that are of no living run.

    This very run counts as dead: it is at its end, or has not begun.

    Free of races: a run whose entry was in the table lived before the table was read, so one that
    does not by now is dead.
    """
    ours = [name for name in entries if name.startswith(f"{PROJECT}-")]
    if not ours:
        return
    alive = engine.living_runs() - {engine.run}
    dead = [
        name for name in ours if name.removeprefix(f"{PROJECT}-").rpartition("-")[0] not in alive
    ]
    if dead:
        engine.execute(cleanup, ["python3", "-m", "orchestrator.agents.cleanup", "reap", *dead])
        progress.say(
            f"removed from binfmt_misc what a dead run left: {', '.join(dead)}", level="warning"
        )


def repair_if_harmless(engine: Engine, progress: Progress) -> None:
    """`repair`, but where a mount might hide the machine's entries: then say so.

    What an engine in a user namespace has mounted itself has died with its containers.
    """
    if borrows_table():
        progress.say(f"binfmt_misc was not looked at: {HIDDEN}", level="warning")
    else:
        repair(engine, progress)


def repair(engine: Engine, progress: Progress) -> None:
    """Second line of defence.

    A fresh cleanup looks at the table and removes what no living run owns.
    """
    name = f"{engine.project}-repair-1"
    engine.create_one("cleanup", name, ["orchestrator.agents.cleanup", "look"])
    try:
        for line in engine.logs(name):
            if not line.startswith("{"):
                continue  # a warning of Python's
            event = json.loads(line)
            if event["event"] == "failed":
                raise failure(CleanupError, event)
            if event["event"] == "table":
                reap(engine, progress, name, event["entries"])
                return
        raise CleanupError("binfmt_misc could not be looked at", hint="see the Docker daemon's log")
    finally:
        engine.kill(name)
        engine.remove(name)
