"""Makes a run's folders and variables, and removes leftovers of dead runs."""

import contextlib
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from orchestrator.ask.request import Caller
from orchestrator.ask.uploads import INPUT
from orchestrator.docker import census
from orchestrator.docker.census import COMPOSE_RUN
from orchestrator.docker.compose import IDS
from orchestrator.docker.engine import Engine
from orchestrator.docker.labels import work_volume
from orchestrator.docker.workspace import KEPT, ROOTS_OWN, Workspace, make_shared, mount_points
from orchestrator.run.appliance import CLEAN_SECONDS
from orchestrator.shared.errors import STOPPED, ApplianceError, UsageError


@contextlib.contextmanager
def run_workspace(who: Caller, variables: dict[str, str]) -> Iterator[tuple[Engine, Workspace]]:
    """Make the run's folders and Compose's variables; remove them afterwards."""
    with tempfile.TemporaryDirectory() as own:
        workspace = Workspace(make_shared(who.run), pathlib.Path(own))
        workspace.logs.mkdir()
        write_variables(workspace.variables, who, variables)
        engine = Engine(who.run, workspace.variables)
        try:
            yield engine, workspace
        except BaseException:
            # Remove networks that Compose may have created; errors here must not hide the original
            # one.
            with contextlib.suppress(ApplianceError):
                try:
                    engine.down()
                except STOPPED:  # interrupted by the first signal; further signals are ignored
                    engine.down()
            raise
        finally:
            engine.api.close()
            if not (workspace.shared / ROOTS_OWN / KEPT).exists():
                remove_shared(workspace.shared)


def remove_shared(folder: pathlib.Path) -> None:
    """Remove a run's folder; what is mounted in it is not the run's own, and stays."""
    mounts = any(mount.is_relative_to(folder) for mount in mount_points())
    for one in folder.iterdir() if folder.is_dir() else ():
        if one.is_dir(follow_symlinks=False) and not (mounts and one.name == INPUT):
            shutil.rmtree(one, ignore_errors=True)
        elif not one.is_dir(follow_symlinks=False):
            one.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()  # run.sh removes the volume with what is left


def write_variables(env_file: pathlib.Path, who: Caller, variables: dict[str, str]) -> None:
    """Write the run's variables to Compose's env file.

    Raises `UsageError` for a value that the file format cannot represent.
    """
    document = {
        "NIXOS_IMAGE_RUN": who.run,
        "NIXOS_IMAGE_LOG": "json",
        IDS["orchestrator"]: who.image,
        **variables,
    }
    for name, value in document.items():
        if {"'", "\\"}.intersection(value) or not value.isprintable():
            raise UsageError(
                f"{name}: {value!r} cannot be passed to Docker Compose",
                hint="it may have neither quotes nor backslashes nor control characters",
            )
    # In single quotes, Compose interprets no comment, escape or variable.
    env_file.write_text("".join(f"{name}='{value}'\n" for name, value in document.items()))


def forget_dead_runs(engine: Engine) -> set[str]:
    """Remove containers, networks and volumes of runs without a living orchestrator.

    Returns these runs. Objects are listed before living runs are, so that a run that starts
    meanwhile is safe.
    """
    for name in census.abandoned(engine):
        engine.remove(name)
    containers, runs = census.containers(engine), census.runs(engine)
    keep = census.starting_runs(engine) | {engine.run, COMPOSE_RUN}
    keep |= census.living_runs(engine)
    for name, (run, running) in containers.items():
        if running and run not in keep and name.endswith(census.CLEANUP):
            engine.stop(name, CLEAN_SECONDS)  # cleanup removes its run's entries on SIGTERM
    dead = runs - keep
    for maker in census.makers(engine, dead):
        engine.remove(maker)
    for run in sorted(dead):
        Engine(run, pathlib.Path("/nonexistent"), engine.api).down()
        engine.remove_volume(work_volume(run))
    return dead
