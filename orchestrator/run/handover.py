"""Delivers a run's images with the files beside them, or the build log after a failure."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import shutil
import time
import typing

from orchestrator.ask.request import AUTO
from orchestrator.ask.uploads import earlier_bills, kept
from orchestrator.deliver import evidence
from orchestrator.deliver.provenance import About
from orchestrator.deliver.report_checks import Story
from orchestrator.deliver.stream import SCHEMA, Delivery, Result, as_announced, known_hosts
from orchestrator.docker.privileges import Receipt
from orchestrator.docker.workspace import take
from orchestrator.run.context import RunContext
from orchestrator.run.supervisor import Supervisor
from orchestrator.shared.artifact import (
    BUILD_LOG,
    IMAGE_RESULT,
    KNOWN_HOSTS,
    LOG,
    LOG_TYPE,
    REPORT,
    RESULT,
    RESULT_TYPE,
    SERIAL_LOG,
    Artifact,
    Material,
)
from orchestrator.shared.builders import fingerprint
from orchestrator.shared.constants import MIB
from orchestrator.shared.errors import (
    ApplianceError,
    BootError,
    BuildError,
    CleanupError,
    EmulatorCrashError,
)
from orchestrator.shared.steps import Steps
from orchestrator.shared.text import columns

#: Files with the guest's console output and Nix' log in the run's shared folder.
SERIAL = "serial.log"
NIX_LOG = "nix.log"

#: Bytes of the guest's console that its last lines are looked for in.
CONSOLE_BYTES = 1 << 16

#: Fields of `result.json` about Nix' sandbox, from the probe's event.
SANDBOX_FIELDS = ("sandbox", "user", "names", "interfaces", "inputs")

#: Errors for which Nix' log has more details.
IN_THE_BUILD = BuildError | EmulatorCrashError


def table(images: list[Artifact]) -> str:
    """Return a table of several images for a person."""
    head = ("image", "format", "system", "MiB")
    rows = [(one.file_name, one.format, one.system, f"{-(-one.size // MIB)}") for one in images]
    return columns([head, *rows]).rstrip("\n")


class Handover:
    """Delivery of one run: `send`, then `finish` or `abandon`; after a failed build, `send_log`."""

    def __init__(self, run: RunContext, supervisor: Supervisor, stream: int) -> None:
        """Deliver from the run's shared folder to the file descriptor `stream`."""
        self._run = run
        self._supervisor = supervisor
        self._folder = run.workspace.shared
        self._stream = stream
        self._images: list[Artifact] = []
        self._outgoing: Delivery | None = None
        self._began = time.monotonic()

    def send(self, images: list[Artifact]) -> None:
        """Start to send the images, in parallel with the boot check."""
        self._images = images
        self._outgoing = Delivery(
            self._folder_of_images(),
            self._stream,
            sparse=self._run.caller.sparse,
            private=self._run.request.image.secret,
        )
        for image in images:
            self._outgoing.send(image.file_name, image.sha256)
            for extra in image.extras:
                self._outgoing.send(pathlib.PurePosixPath(extra).name)

    def finish(
        self,
        boot: dict[str, typing.Any] | None,
        receipts: list[Receipt],
        problem: ApplianceError | None,
    ) -> None:
        """Send result.json, provenance, checksums and the manifest, which makes the delivery valid.

        `boot` is the boot check's result, or None; `problem` is the error after which the image is
        delivered nevertheless.
        """
        outgoing, folder = self._outgoing, self._folder_of_images()
        assert outgoing  # `send` has set `_outgoing`
        registered = self._registered()
        names = ", ".join(image.file_name for image in self._images)
        with self._run.progress.stage("deliver", names):
            first, *others = self._images
            if self._run.plan.boot and self._said(SERIAL):
                name = f"{first.file_name}{SERIAL_LOG}"
                outgoing.send(take(self._folder, SERIAL, name).name)
            if self._said(NIX_LOG):
                outgoing.send(take(self._folder, NIX_LOG, f"{first.file_name}{LOG}").name)
            whole = self._result(self._images, boot, receipts, registered)
            outgoing.send(whole.write(folder / RESULT))
            if known := known_hosts(self._images):
                with (folder / KNOWN_HOSTS).open("x") as file:
                    file.write(known)
                outgoing.send(KNOWN_HOSTS)
            for image in self._images:
                own = self._result([image], None if image in others else boot, receipts, registered)
                outgoing.send(own.write(folder / f"{image.file_name}{IMAGE_RESULT}"))
            about = self._about(receipts, registered)
            story_of = functools.partial(self._story, boot=boot, problem=problem)
            warn = functools.partial(self._run.progress.say, level="warning")
            beside = evidence.write(folder, self._images, about, story_of, warn)
            for name in beside:
                outgoing.send(name)
            outgoing.finish()
        if report := next((name for name in beside if name.endswith(REPORT)), ""):
            self._run.progress.say(f"report: {self._run.request.out / report}")
        if others:
            self._run.progress.say(table(self._images))

    def abandon(self) -> None:
        """End the delivery without a manifest, so that run.sh discards all files."""
        if self._outgoing:
            self._outgoing.abandon()

    def send_log(self, problem: ApplianceError) -> None:
        """Deliver Nix' log if it has details of `problem`, and name it in the error."""
        failed = isinstance(problem, IN_THE_BUILD) and not self._run.request.dry_run
        again = isinstance(problem, EmulatorCrashError) and self._run.request.qemu == AUTO
        if not failed or again or not self._said(NIX_LOG):
            return
        # A failure here is ignored: the original error matters.
        with contextlib.suppress(OSError, ApplianceError):
            said = take(self._folder, NIX_LOG, NIX_LOG)
            there = kept(self._run.caller)
            name = BUILD_LOG if BUILD_LOG not in there else f"build-{self._run.caller.run}.log"
            with said.open("rb") as source, said.with_name(name).open("xb") as log:
                log.write(f"# {LOG_TYPE}: run {self._run.caller.run}\n".encode())
                shutil.copyfileobj(source, log)
            outgoing = Delivery(said.parent, self._stream, sparse=False)
            outgoing.send(name)
            outgoing.finish()
            problem.log = os.fspath(self._run.request.out / name)

    def _said(self, name: str) -> bool:
        """Return whether an agent has written the file `name`; a link does not count."""
        return (self._folder / name).is_file(follow_symlinks=False)

    def _folder_of_images(self) -> pathlib.Path:
        return (self._folder / self._images[0].path).parent

    def _registered(self) -> list[dict[str, str]]:
        """Return all emulators' entries, registered by the registrar or by the builder."""
        said = [self._supervisor.event(one, "registered") for one in self._run.plan.services]
        return [
            entry
            for event in said
            if event
            for entry in as_announced(tuple[dict[str, str], ...], event.get("entries"), "entries")
        ]

    def _nix(self) -> str:
        found = self._supervisor.event("builder", "nix-version") or {}
        return str(found.get("version", ""))

    def _settings(self) -> dict[str, str]:
        """Return Nix' effective settings by name, which it reported before it built."""
        told = self._supervisor.event("builder", "settings") or {}
        return as_announced(dict[str, str], told.get("settings", {}), "settings")

    def _others(self) -> list[str]:
        """Return the names of Nix' changed settings whose values may be secret."""
        told = self._supervisor.event("builder", "settings") or {}
        return list(as_announced(tuple[str, ...], told.get("others", []), "others"))

    def _sandbox(self) -> dict[str, object]:
        found = self._supervisor.event("builder", "sandbox") or {}
        return {name: found.get(name) for name in SANDBOX_FIELDS}

    def _builders(self) -> list[dict[str, object]]:
        """Return the builders that have built something, with their number of builds."""
        announced = self._supervisor.event("builder", "images") or {}
        steps: Steps = as_announced(Steps, announced.get("steps", {}), "steps")
        known = {one.uri: one for one in self._run.request.builders}
        return [
            {
                "uri": hand.uri,
                "host_key": fingerprint(known[hand.uri].host_key),
                "builds": hand.count,
                "seconds": hand.seconds,
            }
            for hand in steps.hands
            if hand.uri in known
        ]

    def _result(
        self,
        images: list[Artifact],
        boot: dict[str, typing.Any] | None,
        receipts: list[Receipt],
        registered: list[dict[str, str]],
    ) -> Result:
        first = images[0]
        return Result(
            type=RESULT_TYPE,
            schema=SCHEMA,
            name=first.name,
            system=first.system,
            format=first.format,
            path=os.fspath(self._run.request.out / first.file_name),
            size=first.size,
            sha256=first.sha256,
            store_path=first.toplevel,
            emulation=self._run.plan.mode,
            emulators=registered,
            privileges=[dataclasses.asdict(one) for one in receipts],
            nix=self._nix(),
            nix_settings=self._settings(),
            other_nix_settings=self._others(),
            sandbox=self._sandbox(),
            builders=self._builders(),
            boot=boot,
            images=[image.describe(self._run.request.out) for image in images],
            seconds={
                **self._run.progress.seconds,
                "total": round(time.monotonic() - self._began, 3),
            },
        )

    def _story(
        self,
        image: Artifact,
        boot: dict[str, typing.Any] | None,
        problem: ApplianceError | None,
    ) -> Story:
        """Return what the report of `image` says of this run; only the first image is booted."""
        console, checked = "", self._run.plan.boot and image is self._images[0]
        if checked:
            serial = self._folder_of_images() / f"{image.file_name}{SERIAL_LOG}"
            with contextlib.suppress(FileNotFoundError):
                console = _end_of(serial)
        announced = self._supervisor.event("builder", "images") or {}
        return Story(
            boot=boot if checked else None,
            failed=str(problem) if checked and isinstance(problem, BootError) else "",
            unclean=str(problem) if isinstance(problem, CleanupError) else "",
            console=console,
            seconds=self._run.progress.seconds,
            steps=as_announced(Steps, announced.get("steps", {}), "steps"),
            bills=earlier_bills(self._run.workspace.bills),
        )

    def _about(
        self,
        receipts: list[Receipt],
        registered: list[dict[str, str]],
    ) -> About:
        """Return the facts of this run for the provenance."""
        announced = self._supervisor.event("builder", "images")
        assert announced  # images exist, so the builder has sent this event
        now = time.time()
        return About(
            request=self._run.request,
            caller=self._run.caller,
            emulation=self._run.plan.mode,
            emulators=registered,
            nix=self._nix(),
            settings=self._settings(),
            others=self._others(),
            sandbox=self._sandbox(),
            builders=self._builders(),
            sent=self._run.sent,
            materials=[
                dataclasses.asdict(one)
                for one in as_announced(
                    tuple[Material, ...], announced.get("materials"), "materials"
                )
            ],
            containers={one.service: one.image for one in receipts},
            began=now - (time.monotonic() - self._began),
            ended=now,
        )


def _end_of(log: pathlib.Path) -> str:
    """Return the last CONSOLE_BYTES of `log` as text."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - CONSOLE_BYTES))
        return file.read(CONSOLE_BYTES).decode(errors="replace")
