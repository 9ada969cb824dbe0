"""Runs a plan: starts, supervises, unlocks, tears down.

Owns try/finally, the deadlines and the exit code.
"""

import concurrent.futures
import os
import pathlib
import typing

from orchestrator.agents.emulation import binfmt, canary
from orchestrator.ask.request import Build, Caller, Demo
from orchestrator.decide.plan import Plan
from orchestrator.deliver import stream
from orchestrator.docker import census, privileges
from orchestrator.docker.api import SilentEngineError
from orchestrator.docker.engine import Engine
from orchestrator.docker.images import Images
from orchestrator.docker.workspace import Workspace, give, give_late, open_to_agents
from orchestrator.run.bootcheck import finish_boot, start_boot
from orchestrator.run.handover import SERIAL_LOG, Handover
from orchestrator.run.repair import repair
from orchestrator.run.supervisor import Exit, Supervisor
from orchestrator.shared import retry
from orchestrator.shared.artifact import Artifact
from orchestrator.shared.errors import (
    STOPPED,
    ApplianceError,
    BootError,
    BuildError,
    CleanupError,
    DockerError,
)
from orchestrator.shared.progress import Progress
from orchestrator.shared.run import BUILT, NIX_CONF
from orchestrator.shared.task import Task

#: Longest time (seconds) that cleanup may take once it is unlocked or told to stop.
CLEAN_SECONDS = 20

#: Time (seconds) that cleanup needs at most from its start until it listens to signals.
READY_SECONDS = 5

#: Time (seconds) until the last words of a container that has ended are read.
LOG_SECONDS = 3

#: What goes wrong with these leaves the image as it is: it is handed over, and the exit code tells.
AFTER_THE_IMAGE = BootError | CleanupError


class Appliance:
    """One run of a plan."""

    def __init__(
        self,
        caller: Caller,
        request: Demo | Build,
        plan: Plan,
        engine: Engine,
        images: Images,
        progress: Progress,
        workspace: Workspace,
        deadline: float,
    ) -> None:
        """`workspace` is the run's own, already there; `deadline` is on the monotonic clock."""
        self._caller = caller
        self._request = request
        self._plan = plan
        self._engine = engine
        self._images = images
        self._progress = progress
        self._workspace = workspace
        self._folder = workspace.shared
        self._deadline = deadline
        self._supervisor = Supervisor(engine, progress, deadline)
        self._started = self._stale = False

    def run(self, task: Task, stream: int) -> None:
        """Have `task` done, deliver to the file descriptor `stream`, boot.

        Raises what went wrong, after all is taken down.
        """
        handover = Handover(
            self._caller,
            self._request,
            self._plan,
            self._supervisor,
            self._progress,
            self._folder,
            stream,
        )
        problem: ApplianceError | None = None
        boot: dict[str, typing.Any] | None = None
        images: list[Artifact] = []
        try:
            self._images.wait(self._plan.images, self._progress, self._deadline)
            task.write(self._folder)
            self._give_nix_conf()
            open_to_agents(self._folder)
            images = self._build()
            if images:
                handover.send(images)
            if self._plan.boot:
                self._start_boot(images[0])
            self._prove_clean()
            if self._plan.boot:
                seconds = self._request.boot_timeout
                boot = finish_boot(self._supervisor, self._progress, seconds)
        except ApplianceError as error:
            problem = error
            self._progress.end(failed=True)
        except BaseException:
            self._tear_down()
            raise
        if problem:
            self._progress.to("clean up")
        try:
            receipts = self._receipts() if images else []
        except BaseException:
            self._tear_down()
            raise
        with concurrent.futures.ThreadPoolExecutor() as pool:
            # The image's way out and the containers' end do not wait for each other.
            down = pool.submit(self._tear_down)
            try:
                if images and isinstance(problem, AFTER_THE_IMAGE | None):
                    handover.finish(boot, receipts)
                elif images:
                    handover.abandon()
                elif problem:
                    handover.send_log(problem)
            finally:
                problem = _first(problem, down)
        self._progress.end()
        if problem:
            raise problem

    def _build(self) -> list[Artifact]:
        """Start the plan's containers in order and follow them until the images are there.

        Where only a plan was wanted there are none.
        """
        self._progress.to("start", ", ".join(self._plan.services))
        names = self._engine.create(self._plan.services)
        self._started = True
        first = [names[one] for one in self._plan.services if one == "emulators"]
        if first and self._engine.fills_volumes_late():
            self._engine.start(first)
            first = []
        others = [names[one] for one in self._plan.services if one != "emulators"]
        self._engine.start([*first, *others])
        for service in self._plan.services:
            self._supervisor.follow(service, names[service])
        given = False
        while True:
            item = self._supervisor.next()
            if isinstance(item, Exit) and item.service == "builder":
                raise BuildError("the builder has ended without a word of its work")
            if item is None or isinstance(item, Exit):
                continue
            service, event = item
            name = str(event["event"])
            if service == "cleanup" and name == "table":
                # Not removed now: this cleanup may be unlocked and gone before it is done.
                self._stale = any(
                    entry.startswith(binfmt.PREFIX)
                    for entry in typing.cast("list[str]", event["entries"])
                )
            elif service == "cleanup" and name == "cleaned" and event["reason"] != "unlocked":
                raise CleanupError(
                    f"cleanup has ended before the build did ({event['reason']}): foreign programs"
                    " do not run any more",
                    hint="run it again",
                )
            elif name == "registered":
                self._progress.say(f"registered {event.get('message', '')}", fields=event)
            elif service == "builder" and name == BUILT and not given:
                give_late(self._workspace.late, self._folder)
                given = True
            elif service == "builder" and name == "images":
                return stream.received_images(event.get("images"), self._folder)
            elif service == "builder" and name == "plan":
                self._progress.end()
                self._progress.say(str(event.get("message", "")), fields=event)
                return []
            elif service == "builder":
                self._show(name, event)

    def _give_nix_conf(self) -> None:
        """Before each attempt: the builder removes it before Nix starts."""
        place = self._folder / NIX_CONF
        if self._workspace.nix_conf.exists():
            place.unlink(missing_ok=True)  # where the attempt before has not come so far
            give(self._workspace.nix_conf, place)

    def _show(self, name: str, event: dict[str, object]) -> None:
        """Turn the builder's events into stages."""
        match name:
            case "lease-held" | "waiting":
                self._progress.to("emulation", str(event.get("message", "")))
            case "canary" | "retry" | "sandbox":
                if name == "sandbox" and event.get("level") == "info":  # a warning is told anyway
                    self._progress.say(str(event.get("message", "")), fields=event)
                self._progress.to("build", "evaluating")
            case "network" | "evaluating":
                self._progress.to("build", str(event.get("message", "")))
            case "nix":
                left = (
                    f"{event.get('done')} of {event['expected']} derivations"
                    if event.get("expected")
                    else "evaluating"
                )
                self._progress.to("build", f"{left}  {event.get('current', '')}".rstrip())
            case "assemble":
                self._progress.to("assemble", str(event.get("message", "")))
            case "checked":
                self._progress.say(str(event.get("message", "")), fields=event)

    def _prove_clean(self) -> None:
        """Wait until cleanup has removed and verified.

        Then see for ourselves that the canary fails again.
        """
        if self._plan.mode != "shared":
            return
        code = self._supervisor.wait_exit("cleanup", CLEAN_SECONDS)
        if code is None:
            raise CleanupError(
                f"cleanup did not end within {CLEAN_SECONDS} s", hint="./run.sh clean"
            )
        cleaned = self._supervisor.event("cleanup", "cleaned")
        if not cleaned:
            raise CleanupError(
                "cleanup ended without saying that the table is clean", hint="./run.sh clean"
            )
        tmp = pathlib.Path("/tmp")  # noqa: S108 - this container's own
        new = set(self._plan.register) - self._plan.ran_before
        still = [system for system in sorted(new) if canary.run(system, tmp).runs]
        others = census.living_runs(self._engine) - {self._engine.run}
        # Of another engine's runs only the table knows.
        entries = typing.cast("list[str]", cleaned["entries"])
        theirs = [name for name in entries if name.startswith(binfmt.PREFIX)]
        if still and not others and not theirs:
            raise CleanupError(
                f"{still[0]} programs still run, although nothing of ours is registered",
                hint="./run.sh clean",
            )
        self._progress.say(f"cleanup: {cleaned['message']}", fields=cleaned)

    def _start_boot(self, image: Artifact) -> None:
        name = f"{self._engine.project}-boot-1"
        arguments = [
            *("--test", "--system", image.system, f"--ready-text={image.ready_text}"),
            *("--disk-format", image.disk_format, "--firmware", next(iter(image.firmware), "")),
            *(
                "--timeout",
                str(self._request.boot_timeout),
                "--serial-log",
                os.fspath(self._folder / SERIAL_LOG),
            ),
            *(["--try-kvm"] if self._plan.kvm else []),
        ]
        place = self._folder / image.path
        try:
            self._images.wait(("boot",), self._progress, self._deadline)
            self._progress.to("boot", f"starting {self._plan.guest}")
            start_boot(self._engine, name, place, arguments, kvm=self._plan.kvm)
        except SilentEngineError:
            raise
        except DockerError as error:
            message = f"the boot check could not start: {error}"
            raise BootError(message, hint=error.hint, detail=error.detail) from error
        self._supervisor.follow("boot", name)

    def _receipts(self) -> list[privileges.Receipt]:
        """What the run's containers were allowed, while they are still there."""
        project = self._engine.project
        there = census.containers(self._engine).keys()
        services = [
            service
            for service in (*self._plan.services, "boot")
            if f"{project}-{service}-1" in there
        ]
        found = self._engine.inspect([f"{project}-{service}-1" for service in services])
        return [privileges.of(*pair) for pair in zip(services, found, strict=True)]

    def _tear_down(self) -> None:
        """Stop what runs, make sure that the table is clean.

        Remove the run's containers and networks.
        """
        try:
            cleanup = f"{self._engine.project}-cleanup-1"
            if self._plan.mode == "shared" and cleanup in census.containers(self._engine):
                self._end_cleanup(cleanup)
            elif self._plan.mode == "shared" and self._started:  # somebody has removed it
                self._engine.remove(f"{self._engine.project}-registrar-1")
                repair(self._engine, self._progress)
        finally:
            self._engine.down()

    def _end_cleanup(self, container: str) -> None:
        """Have cleanup clean, if it has not.

        Where it cannot be believed that it has, do it over.
        """
        # As process 1 it would not even notice a signal that comes before its handler is there.
        said, exits = self._supervisor.event, self._supervisor.exits
        retry.until(lambda: said("cleanup", "ready") or "cleanup" in exits, READY_SECONDS)
        # A registrar that goes on would register after cleanup's last look.
        overtaken = said("cleanup", "cleaned") and "registrar" not in exits
        self._engine.remove(f"{self._engine.project}-registrar-1")
        # SIGTERM is its order to clean; SIGKILL if it does not manage in time.
        self._engine.stop(container, CLEAN_SECONDS)
        code = self._engine.exit_code(container, CLEAN_SECONDS)
        cleaned = code == 0 and retry.until(lambda: said("cleanup", "cleaned"), LOG_SECONDS)
        if self._stale or overtaken or not cleaned:
            repair(self._engine, self._progress)


def _first(
    problem: ApplianceError | None, down: concurrent.futures.Future[None]
) -> ApplianceError | None:
    """What went wrong first: the run itself, or else its end."""
    try:
        down.result()
    except STOPPED:  # this thread, not that one
        raise
    except ApplianceError as error:
        return problem or error
    return problem
