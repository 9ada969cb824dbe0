"""Executes a plan: starts containers, supervises them, delivers images, tears down.

This module owns the cleanup on every exit path, the deadlines and the exit code.
"""

import concurrent.futures
import dataclasses
import os
import pathlib
import typing

from orchestrator.agents.emulation import binfmt, canary
from orchestrator.ask.uploads import kept
from orchestrator.deliver import stream
from orchestrator.deliver.names import check_free
from orchestrator.docker import census, privileges
from orchestrator.docker.answers import LostEngineError, read
from orchestrator.docker.images import IMAGES
from orchestrator.docker.workspace import give, give_late, open_to_agents
from orchestrator.run import forecast, push
from orchestrator.run.activity import Follower
from orchestrator.run.bootcheck import finish_boot, start_boot
from orchestrator.run.context import RunContext
from orchestrator.run.handover import SERIAL, Handover
from orchestrator.run.repair import repair
from orchestrator.run.reports import Cleaned, Table
from orchestrator.run.supervisor import Exit, Supervisor
from orchestrator.shared import retry
from orchestrator.shared.artifact import Artifact
from orchestrator.shared.builders import BUILDERS
from orchestrator.shared.errors import (
    STOPPED,
    ApplianceError,
    BootError,
    BuildError,
    CleanupError,
    DockerError,
    PushError,
)
from orchestrator.shared.run import BUILT, NIX_CONF
from orchestrator.shared.task import Delivered, Task

#: Longest time in seconds that cleanup may take to remove its entries from binfmt_misc and end,
#: after the builder has unlocked it or it was told to stop.
CLEAN_SECONDS = 20

#: Longest time in seconds from cleanup's start until its signal handlers are installed.
READY_SECONDS = 5

#: Longest time in seconds from the builder's announcement of images until its container's end.
LATE_SECONDS = 60

#: Seconds between two looks whether an image has left the work volume.
LOOK_SECONDS = 0.2

#: Longest time in seconds to read the last log lines of an ended container.
LOG_SECONDS = 3

#: After these errors the image is still delivered; only the exit code reports them.
AFTER_THE_IMAGE = BootError | CleanupError | PushError


class Appliance:
    """One execution of a plan."""

    def __init__(self, run: RunContext) -> None:
        """Start nothing yet; the workspace of `run` must exist."""
        self._run = run
        self._folder = run.workspace.shared
        self._kept = kept(run.caller)
        self._supervisor = Supervisor(run.engine, run.progress, run.deadline)
        self._started = self._stale = False
        self._follower = Follower()

    def run(self, task: Task, stream: int) -> None:
        """Execute `task`, deliver to the file descriptor `stream`, run the boot check.

        Raises the first error after everything is torn down.
        """
        handover = Handover(self._run, self._supervisor, stream, self._receipts)
        problem: ApplianceError | None = None
        boot: dict[str, typing.Any] | None = None
        built = False
        try:
            self._run.images.wait(self._run.plan.images, self._run.progress, self._run.deadline)
            self._with_delivered(task).write(self._folder)
            self._give_secret(self._run.workspace.nix_conf, NIX_CONF)
            self._give_secret(self._run.workspace.builders, BUILDERS)
            open_to_agents(self._folder)
            built = self._build(stream, handover)
            self._run.word.settle()
            if self._run.plan.boot:
                self._start_boot(handover.images[0], handover.to_boot)
            self._prove_clean()
            if built and self._run.request.push:
                self._push(self._run.request.push.url)
            if self._run.plan.boot:
                seconds = self._run.request.boot_timeout
                boot = finish_boot(self._supervisor, self._run.progress, seconds)
        except ApplianceError as error:
            problem = error
            problem.stage = self._run.progress.current
            self._run.progress.end(failed=True)
        except BaseException:
            self._tear_down()
            raise
        if problem:
            self._run.progress.to("clean up")
        try:
            receipts = self._receipts() if built else []
        except BaseException:
            self._tear_down()
            raise
        with concurrent.futures.ThreadPoolExecutor() as pool:
            # Delivery and teardown run in parallel.
            down = pool.submit(self._tear_down)
            try:
                if built and isinstance(problem, AFTER_THE_IMAGE | None):
                    handover.finish(boot, receipts, problem)
                elif isinstance(problem, STOPPED):
                    handover.abandon()
                elif problem:
                    self._run.word.settle()
                    handover.send_log(problem)
                    handover.break_off()
            finally:
                problem = _first(problem, down)
        self._run.progress.end()
        forecast.remember(self._run, self._supervisor, ended_well=not problem)
        if problem:
            raise problem

    def _with_delivered(self, task: Task) -> Task:
        """Return `task` with the images that need not be made again."""
        return dataclasses.replace(
            task,
            tools=self._run.engine.image_source(IMAGES["builder"].name),
            delivered=tuple(
                Delivered(one.file_name, one.sha256, one.made) for one in self._run.delivered
            ),
            first_anew=self._run.plan.boot,
        )

    def _build(self, target: int, handover: Handover) -> bool:
        """Start the plan's containers in order, and process their events until all images exist.

        Each image is delivered as it is announced. Returns False for a run without images: a dry
        run, whose JSON goes to `target`, or one for a closure.
        """
        self._start()
        given = False
        while True:
            item = self._supervisor.next(LOOK_SECONDS)
            handover.tell_left()
            if isinstance(item, Exit) and item.service == "builder":
                raise BuildError("the builder ended without announcing images")
            if item is None or isinstance(item, Exit):
                continue
            service, event = item
            name = str(event["event"])
            if service == "cleanup" and name == "table":
                # Entries of other runs may be stale: they are checked at this run's end, because
                # this cleanup may end before it could do so.
                self._stale = any(
                    entry.startswith(binfmt.PREFIX)
                    for entry in read(Table, event, service)["entries"]
                )
            elif service == "cleanup" and name == "cleaned":
                if (reason := read(Cleaned, event, service)["reason"]) != "unlocked":
                    raise CleanupError(
                        f"cleanup ended before the build ({reason}): foreign programs do not run"
                        " any more",
                        hint="run the command again",
                    )
            elif name == "registered":
                self._run.progress.say(f"registered {event.get('message', '')}", fields=event)
            elif service == "builder" and name == BUILT and not given:
                give_late(self._run.workspace.late, self._folder)
                given = True
            elif service == "builder" and name == "image":
                handover.send(event)
            elif service == "builder" and name == "kept":
                handover.keep(event)
            elif service == "builder" and name == "images":
                handover.check_whole()
                return True
            elif service == "builder" and name == "file":
                check_free(event.get("file"), self._run.request, self._run.hosts, self._kept)
            elif service == "builder" and name == "results" and self._run.closure:
                return False
            elif service == "builder" and name == "plan":
                cost, found = forecast.tell(self._run, event, target)
                if self._run.request.dry_run:
                    return False
                forecast.obtain_word(self._run, self._supervisor, cost, found)
                self._follower.begin(cost, found)
            elif service == "builder":
                self._follower.show(self._run.progress, name, event)

    def _start(self) -> None:
        """Start the plan's containers, and follow them.

        Docker fills the volume of the emulators when it creates their container, which then need
        not run. Podman fills it at the container's start, which must come before the builder's.
        """
        services = self._run.plan.services
        self._run.progress.to("start", ", ".join(services))
        names = self._run.engine.create(services)
        self._started = True
        followed = [one for one in services if one != "emulators"]
        if followed != [*services] and self._run.engine.fills_volumes_late():
            self._run.engine.start([names["emulators"]])
            self._supervisor.follow("emulators", names["emulators"])
        self._run.engine.start([names[one] for one in followed])
        for service in followed:
            self._supervisor.follow(service, names[service])

    def announced(self, name: str, field: str) -> tuple[str, ...]:
        """Return the store paths in `field` of the builder's event `name`."""
        told = (self._supervisor.event("builder", name) or {}).get(field)
        return stream.as_announced(tuple[str, ...], told, field)

    def _push(self, url: str) -> None:
        """Copy what was built to a cache. The builder's end is the end of all that builds left."""
        if self._supervisor.wait_exit("builder", LATE_SECONDS) is None:
            raise PushError("the builder does not end: its container could read the keys of --push")
        push.push(self._run, url, self.announced("results", "results"))

    def _give_secret(self, kept: pathlib.Path, name: str) -> None:
        """Copy a file for an attempt if there is one; the builder deletes it before Nix starts."""
        place = self._folder / name
        if kept.exists():
            place.unlink(missing_ok=True)  # the previous attempt may have left it
            give(kept, place)

    def _prove_clean(self) -> None:
        """Wait for cleanup's end.

        Then verify that canaries of the registered systems do not run any more.
        """
        if "cleanup" not in self._run.plan.services:
            return
        code = self._supervisor.wait_exit("cleanup", CLEAN_SECONDS)
        if code is None:
            raise CleanupError(
                f"cleanup did not end within {CLEAN_SECONDS} s",
                hint="./run.sh clean removes what is left",
            )
        cleaned = self._supervisor.event("cleanup", "cleaned")
        if not cleaned:
            raise CleanupError(
                "cleanup ended without reporting that binfmt_misc is clean",
                hint="./run.sh clean removes what is left",
            )
        tmp = pathlib.Path("/tmp")  # noqa: S108 - this container's own
        new = set(self._run.plan.register) - self._run.plan.ran_before
        still = [system for system in sorted(new) if canary.run(system, tmp).runs]
        others = census.living_runs(self._run.engine) - {self._run.engine.run}
        # Runs of another engine are visible only by their entries.
        entries = typing.cast("list[str]", cleaned["entries"])
        theirs = [name for name in entries if name.startswith(binfmt.PREFIX)]
        if still and not others and not theirs:
            raise CleanupError(
                f"{still[0]} programs still run, although no emulator of this run is registered",
                hint="./run.sh clean removes what is left",
            )
        self._run.progress.say(f"cleanup: {cleaned['message']}", fields=cleaned)

    def _start_boot(self, image: Artifact, place: pathlib.Path) -> None:
        name = f"{self._run.engine.project}-boot-1"
        arguments = [
            *("--test", "--system", image.system, f"--ready-text={image.ready_text}"),
            *("--disk-format", image.disk_format, "--firmware", next(iter(image.firmware), "")),
            *(
                "--timeout",
                str(self._run.request.boot_timeout),
                "--serial-log",
                os.fspath(self._folder / SERIAL),
            ),
            *(["--try-kvm"] if self._run.plan.kvm else []),
        ]
        try:
            self._run.images.wait(("boot",), self._run.progress, self._run.deadline)
            self._run.progress.to("boot", f"starting {self._run.plan.guest}")
            start_boot(self._run.engine, name, place, arguments, kvm=self._run.plan.kvm)
        except LostEngineError:
            raise
        except DockerError as error:
            message = f"the boot check could not start: {error}"
            raise BootError(message, hint=error.hint, detail=error.detail) from error
        self._supervisor.follow("boot", name)

    def _receipts(self) -> list[privileges.Receipt]:
        """Return the privileges of the run's containers, before they are removed."""
        project = self._run.engine.project
        there = census.containers(self._run.engine).keys()
        services = [
            service
            for service in (*self._run.plan.services, "push", "boot")
            if f"{project}-{service}-1" in there
        ]
        found = self._run.engine.inspect([f"{project}-{service}-1" for service in services])
        return [privileges.actual(*pair) for pair in zip(services, found, strict=True)]

    def _tear_down(self) -> None:
        """Stop all containers, and make sure that binfmt_misc is clean.

        Then remove the run's containers and networks.
        """
        try:
            cleanup = f"{self._run.engine.project}-cleanup-1"
            if "cleanup" in self._run.plan.services and cleanup in census.containers(
                self._run.engine
            ):
                self._end_cleanup(cleanup)
            # Without cleanup's container, which someone has removed, the host is repaired here.
            elif "cleanup" in self._run.plan.services and self._started:
                self._run.engine.remove(f"{self._run.engine.project}-registrar-1")
                repair(self._run.engine, self._run.progress)
        finally:
            self._run.engine.down()

    def _end_cleanup(self, container: str) -> None:
        """Stop cleanup; repair binfmt_misc if cleanup has not verifiably cleaned it.

        The repair is also done if a registrar may have registered after cleanup's last look.
        """
        # cleanup is process 1, which ignores signals until it has installed a handler: wait for
        # that.
        said, exits = self._supervisor.event, self._supervisor.exits
        retry.until(lambda: said("cleanup", "ready") or "cleanup" in exits, READY_SECONDS)
        # A registrar that still runs could register after cleanup's last look.
        overtaken = said("cleanup", "cleaned") and "registrar" not in exits
        self._run.engine.remove(f"{self._run.engine.project}-registrar-1")
        # SIGTERM makes cleanup remove the run's entries; SIGKILL follows at the time limit.
        self._run.engine.stop(container, CLEAN_SECONDS)
        code = self._run.engine.exit_code(container, CLEAN_SECONDS)
        cleaned = code == 0 and retry.until(lambda: said("cleanup", "cleaned"), LOG_SECONDS)
        if self._stale or overtaken or not cleaned:
            repair(self._run.engine, self._run.progress)


def _first(
    problem: ApplianceError | None, down: concurrent.futures.Future[None]
) -> ApplianceError | None:
    """Return the first error: the run's, else the teardown's."""
    try:
        down.result()
    except STOPPED:  # a signal in this thread, not an error of the teardown's thread
        raise
    except ApplianceError as error:
        return problem or error
    return problem
