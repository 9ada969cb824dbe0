"""Agent builder: waits until foreign programs run, builds with Nix, assembles the image.

The agent runs as an ordinary user, never as root.
"""

import dataclasses
import functools
import os
import shutil
import time

from orchestrator.agents import events, room
from orchestrator.agents.builder import (
    alone,
    collect,
    crew,
    demo,
    effective,
    fleet,
    limits,
    nixos,
    post,
    sandbox,
    sbom,
    ssh,
    store,
    sweep,
    word,
)
from orchestrator.agents.builder.forecast import Forecast
from orchestrator.agents.builder.nix import Nix
from orchestrator.agents.builder.nix import version as nix_version
from orchestrator.agents.builder.nix_settings import Settings
from orchestrator.agents.builder.recorder import Recorder
from orchestrator.agents.builder.store import Keeper
from orchestrator.agents.emulation import canary, emulators, private
from orchestrator.agents.emulation.lease import PORT, Holder
from orchestrator.agents.failure import AgentError, disk_full, run_agent
from orchestrator.image import staging
from orchestrator.shared import retry
from orchestrator.shared.architectures import this_system
from orchestrator.shared.artifact import Built
from orchestrator.shared.run import TOKEN_FILE, Run, this_run
from orchestrator.shared.task import DemoTask, NixosTask, Task

CLEANUP_ADDRESS = ("cleanup", PORT)

#: Interval in seconds between two progress events while waiting.
LIFE_SECONDS = 1.0


def main() -> None:
    """Run `work` as the main function of the builder's container."""
    run_agent("builder", work)


def work() -> None:
    """Build; meanwhile the store's garbage is not collected, but before that if space is scarce."""
    collect.make_room()
    with collect.in_use():
        build()


def build() -> None:
    """Wait for emulators, build, unlock cleanup, assemble, report the images."""
    run = this_run()
    task = read_task(run)
    run.folder.mkdir(parents=True, exist_ok=True)
    events.emit("nix-version", message=None, version=nix_version())
    if task.stranger:  # told now: what is built would reach nobody
        raise ssh.unknown_store(task.stranger)
    if task.private:
        register_privately(run, task.private)
    alone.hide()
    nix_conf = alone.take_nix_conf(run)
    sweep.warn(staging.sweep())
    if task.ca_bundle:  # these variables are for Nix, Python and (in agents/debian.py) apt
        os.environ["NIX_SSL_CERT_FILE"] = os.environ["SSL_CERT_FILE"] = task.ca_bundle
    holder = None
    if task.leased:
        holder = Holder(CLEANUP_ADDRESS, read_token(run.start_seconds), run.start_seconds)
        events.emit(
            "lease-held",
            message="the emulators' entries stay in binfmt_misc until this builder is done",
        )
    began = time.monotonic()
    wait_for_canaries(run, task)
    waited = time.monotonic()
    # Only now Nix' extra-platforms may have the foreign systems, because their programs run.
    settings = Settings(
        platforms=task.foreign,
        sandbox_paths=sandbox_paths(task),
        build_dir=make_build_dir(run),
        keep_failed=task.keep_failed,
    )
    recorder = Recorder(task.foreign)
    nix = Nix(
        settings,
        run.folder / "nix.log",
        secret=nix_conf,
        options=nix_words(task),
        recorder=recorder,
        verbose=task.verbose,
    )
    nix = sandbox.obtain(nix, sandbox.USER, strict=task.strict)
    nix = dataclasses.replace(nix, crew=crew.hire(run))
    results = _built(run, task, nix)
    keeper = Keeper(nix)
    built = time.monotonic()
    if holder:  # assembly is native: emulators are not needed any more
        holder.unlock()
        events.emit(
            "unlocked",
            message="Nix is done: cleanup may remove the emulators' entries from binfmt_misc",
        )
    if not results:
        return  # a dry run ends here, its plan is printed
    collect.keep(result.path for result in results)
    events.emit(
        "results",
        message=None,
        results=[os.fspath(result.path) for result in results],
        materials=_materials(results),
        steps=dataclasses.asdict(recorder.result()),
    )
    if task.closure:
        return
    keeper = _for_assembly(keeper, results, late=task.late)
    if task.late:
        alone.receive_late(run)
    elif not nix.isolated:  # what a build has left could change an image while it is made
        alone.end_others()
    assemble_images(run, results, task, keeper)
    events.emit(
        "images",
        message=hand_over(run),
        seconds={
            "wait": round(waited - began, 3),
            "nix": round(built - waited, 3),
            "assemble": round(time.monotonic() - built, 3),
        },
    )


def _built(run: Run, task: Task, nix: Nix) -> list[Built]:
    """Have Nix evaluate, tell the plan, and build; returns [] in a dry run."""
    demands = task.work
    if isinstance(demands, NixosTask):
        nix = nixos.prepare(demands, nix, task.options)
    elif demands.substituters:
        found = nixos.reachable(demands.substituters)
        own = dataclasses.replace(
            nix.settings, substituters=found, trusted_keys=demands.trusted_keys
        )
        nix = dataclasses.replace(nix, settings=own)
    told = effective.tell(nix).told
    forecast = Forecast(
        substituters=tuple(told.get("substituters", "").split()),
        dry_run=demands.dry_run,
        signed=told.get("require-sigs") != "false",
        elsewhere=task.elsewhere,
        agreed=functools.partial(word.wait, run) if task.asks else lambda: None,
    )
    try:
        if isinstance(demands, DemoTask):
            return demo.build(demands, run, nix, forecast)
        return nixos.build(demands, run, nix, forecast)
    except AgentError:
        # What was built before the failure helps to estimate the next run.
        events.emit("steps", message=None, steps=dataclasses.asdict(nix.recorder.result()))
        raise


def _for_assembly(keeper: Keeper, results: list[Built], *, late: bool) -> Keeper:
    try:
        return keeper.for_assembly((os.fspath(result.path) for result in results), late=late)
    except store.ERRORS as error:
        raise store.unmade(error) from error


def register_privately(run: Run, systems: tuple[str, ...]) -> None:
    """Register emulators in this container's own binfmt_misc, then drop all capabilities."""
    user, group = os.getuid(), os.getgid()
    private.enter()
    entries = emulators.register(run, systems)
    private.leave(user, group)
    emulators.announce(run, systems, entries, run.folder)


def nix_words(task: Task) -> tuple[str, ...]:
    """Return the options that the caller gives to each command of Nix."""
    return () if isinstance(task.work, DemoTask) else nixos.build_options(task.work)


def make_build_dir(run: Run) -> str:
    """Make Nix' build-dir on the run's work volume, which no other run has."""
    folder = run.folder / "builds"
    folder.mkdir(mode=0o700, exist_ok=True)  # a run's second attempt finds the folder
    return os.fspath(folder)


def sandbox_paths(task: Task) -> tuple[str, ...]:
    """Return the container's files that a build in Nix' sandbox sees: CA bundle, unpacker."""
    bundle = (task.ca_bundle,) if task.ca_bundle else ()
    return (*bundle, demo.UNPACKER) if isinstance(task.work, DemoTask) else bundle


def read_task(run: Run) -> Task:
    """Read the orchestrator's task; without one, make a demo task from the environment."""
    try:
        return Task.read(run.folder)
    except FileNotFoundError:
        foreign = tuple(system for system in run.systems if system != this_system())
        return Task(DemoTask(run.systems[0]), leased=bool(foreign), foreign=foreign)


def read_token(seconds: float) -> str:
    """Wait for cleanup's token and read it."""
    try:
        return retry.without(OSError, TOKEN_FILE.read_text, seconds)
    except OSError as error:
        raise AgentError(f"cleanup was not ready after {seconds:.0f} s", kind="cleanup") from error


def wait_for_canaries(run: Run, task: Task) -> None:
    """Wait until programs of each foreign system run in this container.

    Raises `AgentError` at the task's time limit, with the cause that the last canary gave.
    """
    deadline = time.monotonic() + task.wait_seconds
    for system in task.foreign:
        _wait_for_canary(run, system, deadline, task.wait_seconds)
    if task.foreign:
        events.emit("canary", message=f"{', '.join(task.foreign)} programs run in the builder")


def _wait_for_canary(run: Run, system: str, deadline: float, seconds: float) -> None:
    reported, cause = 0.0, ""

    def runs() -> bool:
        nonlocal reported, cause
        outcome = canary.run(system, run.folder)
        cause = outcome.cause
        if not outcome.runs and time.monotonic() - reported >= LIFE_SECONDS:
            events.emit("waiting", message=f"waiting for {system} programs to run: {cause}")
            reported = time.monotonic()
        return outcome.runs

    if not retry.until(runs, deadline - time.monotonic()):
        raise AgentError(
            f"{system} programs do not run in the builder after {seconds:.0f} s: {cause}",
            hint="--emulation-timeout SECONDS waits longer",
            kind="emulation",
        )


def assemble_images(run: Run, results: list[Built], task: Task, keeper: Keeper) -> None:
    """Make the image files from Nix' build results, and hand them over."""
    folder = run.folder / "image"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    before, disk = limits.met(), room.Room(folder)
    try:
        with disk.watched():
            fleet.make(run, folder, results, task.options, keeper, post.Post(run, task))
    except store.ERRORS as error:
        # A tool says the same of the image that it fills.
        if room.said(str(error)) and disk.scarce:
            raise disk_full(str(error)) from error
        if (limits.met() - before).kills:
            raise AgentError(
                f"the kernel killed a process because memory ran out: {error}",
                hint="--memory SIZE gives the builder more memory",
                kind="memory",
            ) from error
        raise store.unmade(error) from error


def _materials(results: list[Built]) -> list[dict[str, object]]:
    """Return downloads and installed packages for the provenance, each once."""
    found = [one for result in results for one in result.materials]
    unique = {one.uri: dataclasses.asdict(one) for one in (*found, *sbom.installed())}
    return list(unique.values())


def hand_over(run: Run) -> str:
    """Return the final message; with a plain `docker compose up` it says how to copy the images."""
    if run.id == "compose":
        return f"all images are done; copy out with: docker compose cp builder:{run.folder}/image ."
    return "all images are done"


if __name__ == "__main__":
    main()
