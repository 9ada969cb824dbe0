"""Removes binfmt_misc entries of dead runs."""

from orchestrator.agents.emulation import binfmt
from orchestrator.decide.host import HIDDEN, borrows_table
from orchestrator.docker import census
from orchestrator.docker.answers import read
from orchestrator.docker.containers import LOOK_SECONDS
from orchestrator.docker.engine import Engine
from orchestrator.run.reports import Table
from orchestrator.run.supervisor import read_event
from orchestrator.shared.errors import CleanupError, failure
from orchestrator.shared.progress import Progress


def reap(engine: Engine, progress: Progress, cleanup: str, entries: list[str]) -> frozenset[str]:
    """Let the running container `cleanup` remove those of `entries` that belong to no living run.

    The current run counts as dead: it has not begun, or is at its end. Returns the systems of
    entries that stay: those of living runs, and of another engine's runs.

    There is no race: the owner of an entry was alive before binfmt_misc was read, so an owner that
    is not alive now is dead.
    """
    owners = {name: binfmt.owner(name) for name in entries if name.startswith(binfmt.PREFIX)}
    if not owners:
        return frozenset()
    ours = {name for name, (run, _) in owners.items() if census.of_this_engine(engine, run)}
    if theirs := sorted(owners.keys() - ours):
        progress.say(f"kept binfmt_misc entries of another engine's runs: {', '.join(theirs)}")
    alive = census.living_runs(engine) - {engine.run}
    dead = [name for name, (run, _) in owners.items() if name in ours and run not in alive]
    if dead:
        engine.execute(
            cleanup, ["python3", "-m", "orchestrator.agents.emulation.cleanup", "reap", *dead]
        )
        progress.say(
            f"removed binfmt_misc entries of a dead run: {', '.join(dead)}", level="warning"
        )
    return frozenset(system for name, (_, system) in owners.items() if name not in dead)


def repair_if_harmless(engine: Engine, progress: Progress) -> frozenset[str]:
    """Call `repair`, unless a mount could hide the host's entries: then print a warning.

    A rootless engine cannot write to the host's binfmt_misc. Entries in its own end with its
    containers, unless a container of another project has it mounted.
    """
    if borrows_table(engine):
        message = f"binfmt_misc was not checked: {HIDDEN}"
        progress.say(message, level="warning")
        return frozenset()
    return repair(engine, progress)


def repair(engine: Engine, progress: Progress) -> frozenset[str]:
    """Remove entries that no living run owns, with a new cleanup container.

    Returns the systems of entries that stay.
    """
    name = f"{engine.project}-repair-1"
    engine.create_one("look", name, [])
    try:
        for line in engine.logs(name, LOOK_SECONDS):
            event = read_event(line)
            if not event:
                continue  # for example a warning of Python
            if event["event"] == "failed":
                raise failure(CleanupError, event)
            if event["event"] == "table":
                return reap(engine, progress, name, read(Table, event, "look")["entries"])
        raise CleanupError("binfmt_misc could not be checked", hint="see the Docker daemon's log")
    finally:
        engine.kill(name)
        engine.remove(name)
