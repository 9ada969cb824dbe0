"""What leaves a run: its images and all that is known of them, or the log of what went wrong."""

import contextlib
import dataclasses
import os
import pathlib
import time
import typing

from orchestrator.ask.request import AUTO, Build, Caller, Demo
from orchestrator.decide.plan import Plan
from orchestrator.deliver import evidence
from orchestrator.deliver.provenance import About
from orchestrator.deliver.stream import SCHEMA, Delivery, Result, as_announced
from orchestrator.docker.privileges import Receipt
from orchestrator.docker.workspace import take
from orchestrator.run.supervisor import Supervisor
from orchestrator.shared.artifact import RESULT, Artifact, Material
from orchestrator.shared.errors import ApplianceError, BuildError, EmulatorCrashError
from orchestrator.shared.progress import Progress

BUILD_LOG = "build.log"

#: Where the boot check keeps what the console shows, in the run's shared folder.
SERIAL_LOG = "serial.log"

#: What `result.json` says of Nix' sandbox: whether there was one, and what a build has seen in it.
SANDBOX_FIELDS = ("sandbox", "user", "names", "interfaces", "inputs")

#: What Nix' log tells more about.
IN_THE_BUILD = BuildError | EmulatorCrashError


class Handover:
    """One run's way out: first `send`, then `finish` or `abandon`; or else `send_log`."""

    def __init__(
        self,
        caller: Caller,
        request: Demo | Build,
        plan: Plan,
        supervisor: Supervisor,
        progress: Progress,
        folder: pathlib.Path,
        stream: int,
    ) -> None:
        """Of the run that begins now: from its shared `folder` to the file descriptor `stream`."""
        self._caller = caller
        self._request = request
        self._plan = plan
        self._supervisor = supervisor
        self._progress = progress
        self._folder = folder
        self._stream = stream
        self._images: list[Artifact] = []
        self._outgoing: Delivery | None = None
        self._began = time.monotonic()

    def send(self, images: list[Artifact]) -> None:
        """Start to send the images: they are on their way while the boot is checked."""
        self._images = images
        asked = self._request.image
        self._outgoing = Delivery(
            self._folder_of_images(),
            self._stream,
            sparse=self._caller.sparse,
            private=bool(asked.injections or asked.stamp or asked.wifi_password_file),
        )
        for image in images:
            self._outgoing.send(image.file_name, image.sha256)
            for extra in image.extras:
                self._outgoing.send(pathlib.PurePosixPath(extra).name)

    def finish(self, boot: dict[str, typing.Any] | None, receipts: list[Receipt]) -> None:
        """Send what is known at the end, then let the caller believe in all of it.

        `boot` is what the boot check has seen, if there was one.
        """
        outgoing, folder = self._outgoing, self._folder_of_images()
        assert outgoing  # `send` was called
        registered = self._registered()
        names = ", ".join(image.file_name for image in self._images)
        with self._progress.stage("deliver", names):
            if self._plan.boot and (self._folder / SERIAL_LOG).exists():
                name = f"{self._images[0].name}.serial.log"
                outgoing.send(take(self._folder, SERIAL_LOG, name).name)
            self._result(boot, receipts, registered).write(folder)
            outgoing.send(RESULT)
            about = self._about(receipts, registered)
            for name in evidence.write(folder, self._images, about):
                outgoing.send(name)
            outgoing.finish()

    def abandon(self) -> None:
        """Have the caller believe in nothing of what was sent."""
        if self._outgoing:
            self._outgoing.abandon()

    def send_log(self, problem: ApplianceError) -> None:
        """Send Nix' log, if it tells more of `problem`, which then says where it is."""
        failed = isinstance(problem, IN_THE_BUILD) and not self._request.dry_run
        again = isinstance(problem, EmulatorCrashError) and self._request.qemu == AUTO
        if not failed or again or not (self._folder / "nix.log").exists():
            return
        # Beside the real problem it does not matter if this fails too.
        with contextlib.suppress(OSError, ApplianceError):
            log = take(self._folder, "nix.log", BUILD_LOG)
            outgoing = Delivery(log.parent, self._stream, sparse=False)
            outgoing.send(log.name)
            outgoing.finish()
            problem.hint = problem.hint or f"the full log is {self._request.out / BUILD_LOG}"

    def _folder_of_images(self) -> pathlib.Path:
        return (self._folder / self._images[0].path).parent

    def _registered(self) -> list[dict[str, str]]:
        """Each emulator's entry, whoever has registered it: the registrar, or the builder."""
        said = [self._supervisor.event(one, "registered") for one in self._plan.services]
        return [
            entry
            for event in said
            if event
            for entry in as_announced(tuple[dict[str, str], ...], event.get("entries"), "entries")
        ]

    def _nix(self) -> str:
        found = self._supervisor.event("builder", "nix-version") or {}
        return str(found.get("version", ""))

    def _sandbox(self) -> dict[str, object]:
        found = self._supervisor.event("builder", "sandbox") or {}
        return {name: found.get(name) for name in SANDBOX_FIELDS}

    def _result(
        self,
        boot: dict[str, typing.Any] | None,
        receipts: list[Receipt],
        registered: list[dict[str, str]],
    ) -> Result:
        first = self._images[0]
        return Result(
            schema=SCHEMA,
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
            nix=self._nix(),
            sandbox=self._sandbox(),
            boot=boot,
            images=[image.describe(self._request.out) for image in self._images],
            seconds={
                **self._progress.seconds,
                "total": round(time.monotonic() - self._began, 3),
            },
        )

    def _about(
        self,
        receipts: list[Receipt],
        registered: list[dict[str, str]],
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
            nix=self._nix(),
            sandbox=self._sandbox(),
            materials=[
                dataclasses.asdict(one)
                for one in as_announced(tuple[Material, ...], told.get("materials"), "materials")
            ],
            containers={one.service: one.image for one in receipts},
            began=now - (time.monotonic() - self._began),
            ended=now,
        )
