"""Runs a plan: starts, supervises, unlocks, tears down.

Owns try/finally, the deadlines and the exit code.
"""

import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
import time
import typing

from orchestrator import delivery, evidence, receipt
from orchestrator.agents import canary
from orchestrator.agents.artifact import Artifact, Material
from orchestrator.agents.task import Task
from orchestrator.bootcheck import finish_boot, start_boot
from orchestrator.engine import PROJECT, Engine
from orchestrator.errors import (
    ApplianceError,
    BootError,
    BuildError,
    CleanupError,
    EmulatorCrashError,
)
from orchestrator.images import Images
from orchestrator.plan import Plan
from orchestrator.progress import Progress
from orchestrator.provenance import About
from orchestrator.repair import repair
from orchestrator.request import AUTO, Build, Caller, Demo
from orchestrator.supervisor import Exit, Supervisor
from orchestrator.workspace import Workspace, open_to_agents, take

#: Longest time (seconds) that cleanup may take once it is unlocked or told to stop.
CLEAN_SECONDS = 20

#: Time (seconds) that cleanup needs at most from its start until it listens to signals.
READY_SECONDS = 5

#: Time (seconds) until the last words of a container that has ended are read.
LOG_SECONDS = 3

BUILD_LOG = "build.log"

#: Where the boot check keeps what the console shows, in the run's shared folder.
SERIAL_LOG = "serial.log"

#: What `result.json` says of Nix' sandbox: whether there was one, and what a build has seen in it.
SANDBOX_FIELDS = ("sandbox", "user", "names", "interfaces")

#: What Nix' log tells more about.
IN_THE_BUILD = BuildError | EmulatorCrashError

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
    ) -> None:
        """`workspace` is the run's own, already there."""
        self._caller = caller
        self._request = request
        self._plan = plan
        self._engine = engine
        self._images = images
        self._progress = progress
        self._folder = workspace.shared
        self._deadline = time.monotonic() + request.timeout
        self._supervisor = Supervisor(engine, progress, self._deadline, workspace.logs)
        self._began = time.monotonic()
        self._stale = False

    def run(self, task: Task, stream: int) -> None:
        """Have `task` done, deliver to the file descriptor `stream`, boot.

        Raises what went wrong, after all is taken down.
        """
        problem: ApplianceError | None = None
        boot: dict[str, typing.Any] | None = None
        images: list[Artifact] = []
        outgoing: delivery.Delivery | None = None
        try:
            self._images.wait(self._plan.images, self._progress, self._deadline)
            task.write(self._folder)
            open_to_agents(self._folder)
            images = self._build()
            outgoing = self._send(images, stream) if images else None
            if self._plan.boot:
                self._start_boot(images[0])
            self._prove_clean()
            if self._plan.boot:
                boot = finish_boot(self._supervisor, self._progress)
        except ApplianceError as error:
            problem = error
            self._progress.end(failed=True)
        except BaseException:
            self._tear_down()
            raise
        if problem:
            self._progress.to("clean up")
        try:
            receipts = self._receipts() if outgoing else []
        except BaseException:
            self._tear_down()
            raise
        with concurrent.futures.ThreadPoolExecutor() as pool:
            # The image's way out and the containers' end do not wait for each other.
            down = pool.submit(self._tear_down)
            if outgoing and isinstance(problem, AFTER_THE_IMAGE | None):
                self._hand_over(images, boot, receipts, outgoing)
            elif outgoing:
                outgoing.abandon()
            elif problem and self._has_log(problem):
                # Beside the real problem it does not matter if this fails too.
                with contextlib.suppress(OSError, ApplianceError):
                    self._deliver_log(stream)
                    problem.hint = (
                        problem.hint or f"the full log is {self._request.out / BUILD_LOG}"
                    )
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
        # Docker has filled the volume by now, Podman does it when the emulators' container starts.
        self._engine.start([names[one] for one in self._plan.services if one == "emulators"])
        self._engine.start([names[one] for one in self._plan.services if one != "emulators"])
        for service in self._plan.services:
            self._supervisor.follow(service, names[service])
        while True:
            item = self._supervisor.next()
            if item is None or isinstance(item, Exit):
                continue
            service, event = item
            name = str(event["event"])
            if service == "cleanup" and name == "table":
                # Not removed now: this cleanup may be unlocked and gone before it is done.
                self._stale = any(
                    str(entry).startswith(f"{PROJECT}-")
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
            elif service == "builder" and name == "images":
                return delivery.received_images(event.get("images"), self._folder)
            elif service == "builder" and name == "plan":
                self._progress.end()
                self._progress.say(str(event.get("message", "")), fields=event)
                return []
            elif service == "builder":
                self._show(name, event)

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
        if still and not self._engine.living_runs() - {self._engine.run}:
            raise CleanupError(
                f"{still[0]} programs still run, although nothing of ours is registered",
                hint="./run.sh clean",
            )
        self._progress.say(f"cleanup: {cleaned['message']}", fields=cleaned)

    def _start_boot(self, image: Artifact) -> None:
        self._images.wait(("boot",), self._progress, self._deadline)
        self._progress.to("boot", f"starting {self._plan.guest}")
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
        start_boot(self._engine, name, self._folder / image.path, arguments, kvm=self._plan.kvm)
        self._supervisor.follow("boot", name)

    def _receipts(self) -> list[receipt.Receipt]:
        """What the run's containers were allowed, while they are still there."""
        project = self._engine.project
        there = self._engine.containers().keys()
        services = [
            service
            for service in (*self._plan.services, "boot")
            if f"{project}-{service}-1" in there
        ]
        found = self._engine.inspect([f"{project}-{service}-1" for service in services])
        return [receipt.of(*pair) for pair in zip(services, found, strict=True)]

    def _tear_down(self) -> None:
        """Stop what runs, make sure that the table is clean.

        Remove the run's containers and networks.
        """
        try:
            cleanup = f"{self._engine.project}-cleanup-1"
            if self._plan.mode == "shared" and cleanup in self._engine.containers():
                self._end_cleanup(cleanup)
        finally:
            self._engine.down()

    def _end_cleanup(self, container: str) -> None:
        """Have cleanup clean, if it has not.

        Where it cannot be believed that it has, do it over.
        """
        # As process 1 it would not even notice a signal that comes before its handler is there.
        until = time.monotonic() + READY_SECONDS
        while not self._supervisor.event("cleanup", "ready") and time.monotonic() < until:
            if "cleanup" in self._supervisor.exits:
                break
            time.sleep(0.05)
        # A registrar that goes on would register after cleanup's last look.
        said, exits = self._supervisor.event, self._supervisor.exits
        overtaken = said("cleanup", "cleaned") and "registrar" not in exits
        self._engine.remove(f"{self._engine.project}-registrar-1")
        # SIGTERM is its order to clean; SIGKILL if it does not manage in time.
        self._engine.stop(container, CLEAN_SECONDS)
        code = self._engine.exit_code(container)
        until = time.monotonic() + LOG_SECONDS
        while (
            code == 0
            and not self._supervisor.event("cleanup", "cleaned")
            and time.monotonic() < until
        ):
            time.sleep(0.05)
        cleaned = said("cleanup", "cleaned")
        if code != 0 or self._stale or overtaken or not cleaned:
            repair(self._engine, self._progress)

    def _send(self, images: list[Artifact], stream: int) -> delivery.Delivery:
        """Start to send the images: they are on their way while the boot is checked."""
        folder = (self._folder / images[0].path).parent
        asked = self._request.image
        outgoing = delivery.Delivery(
            folder,
            stream,
            sparse=self._caller.sparse,
            private=bool(asked.injections or asked.stamp or asked.wifi_password_file),
        )
        for image in images:
            outgoing.send(image.file_name, image.sha256)
            for extra in image.extras:
                outgoing.send(pathlib.PurePosixPath(extra).name)
        return outgoing

    def _hand_over(
        self,
        images: list[Artifact],
        boot: dict[str, typing.Any] | None,
        receipts: list[receipt.Receipt],
        outgoing: delivery.Delivery,
    ) -> None:
        """Send what is known at the end, then let the caller believe in all of it."""
        # Whoever has registered them: the registrar, or the builder for itself.
        said = [self._supervisor.event(one, "registered") for one in self._plan.services]
        registered = [
            entry
            for event in said
            if event
            for entry in delivery.as_announced(
                tuple[dict[str, str], ...], event.get("entries"), "entries"
            )
        ]
        found = self._supervisor.event("builder", "sandbox") or {}
        sandbox = {name: found.get(name) for name in SANDBOX_FIELDS}
        first = images[0]
        with self._progress.stage("deliver", ", ".join(image.file_name for image in images)):
            if self._plan.boot and (self._folder / SERIAL_LOG).exists():
                outgoing.send(take(self._folder, SERIAL_LOG, f"{first.name}.serial.log").name)
            seconds = {**self._progress.seconds, "total": round(time.monotonic() - self._began, 3)}
            delivery.Result(
                schema=delivery.SCHEMA,
                name=first.name,
                system=first.system,
                format=first.format,
                path=os.fspath(self._request.out / first.file_name),
                size=first.size,
                sha256=first.sha256,
                store_path=first.toplevel,
                emulation=self._plan.mode,
                emulators=registered,
                privileges=[dataclasses.asdict(one) for one in receipts],
                sandbox=sandbox,
                boot=boot,
                images=[image.describe(self._request.out) for image in images],
                seconds=seconds,
            ).write((self._folder / first.path).parent)
            outgoing.send(delivery.RESULT)
            about = self._about(registered, receipts, sandbox)
            for name in evidence.write((self._folder / first.path).parent, images, about):
                outgoing.send(name)
            outgoing.finish()

    def _about(
        self,
        registered: list[dict[str, str]],
        receipts: list[receipt.Receipt],
        sandbox: dict[str, object],
    ) -> About:
        """What the images' provenance tells of this run."""
        told = self._supervisor.event("builder", "images")
        assert told  # there are images
        now = time.time()
        return About(
            request=self._request,
            caller=self._caller,
            emulation=self._plan.mode,
            emulators=registered,
            sandbox=sandbox,
            materials=[
                dataclasses.asdict(one)
                for one in delivery.as_announced(
                    tuple[Material, ...], told.get("materials"), "materials"
                )
            ],
            containers={one.service: one.image for one in receipts},
            began=now - (time.monotonic() - self._began),
            ended=now,
        )

    def _has_log(self, problem: ApplianceError) -> bool:
        failed = isinstance(problem, IN_THE_BUILD) and not self._request.dry_run
        again = isinstance(problem, EmulatorCrashError) and self._request.qemu == AUTO
        return failed and not again and (self._folder / "nix.log").exists()

    def _deliver_log(self, stream: int) -> None:
        log = take(self._folder, "nix.log", BUILD_LOG)
        outgoing = delivery.Delivery(log.parent, stream, sparse=False)
        outgoing.send(log.name)
        outgoing.finish()


def _first(
    problem: ApplianceError | None, down: concurrent.futures.Future[None]
) -> ApplianceError | None:
    """What went wrong first: the run itself, or else its end."""
    try:
        down.result()
    except ApplianceError as error:
        return problem or error
    return problem
