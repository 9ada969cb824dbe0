"""Tells what a run was: the facts for its results, for provenance and for reports."""

import contextlib
import dataclasses
import os
import pathlib
import time
import typing

from orchestrator.ask.uploads import earlier_bills
from orchestrator.deliver.provenance import About
from orchestrator.deliver.report_checks import Story
from orchestrator.deliver.stream import SCHEMA, Result, as_announced
from orchestrator.docker.privileges import Receipt
from orchestrator.docker.workspace import TAKEN
from orchestrator.run.context import RunContext
from orchestrator.run.supervisor import Supervisor
from orchestrator.shared.artifact import RESULT_TYPE, SERIAL_LOG, Artifact, Material
from orchestrator.shared.builders import fingerprint
from orchestrator.shared.errors import ApplianceError, BootError, CleanupError
from orchestrator.shared.steps import Steps

#: Bytes of the guest's console that its last lines are looked for in.
CONSOLE_BYTES = 1 << 16


@dataclasses.dataclass(frozen=True)
class Sandbox:
    """Fields of `result.json` about Nix' sandbox, from the probe's event; None is not known."""

    sandbox: bool | None = None
    user: str | None = None
    names: tuple[str, ...] | None = None
    interfaces: tuple[str, ...] | None = None
    inputs: str | None = None


#: The boot check's result; None without one.
Boot = dict[str, typing.Any] | None


class Account:
    """What one run is known by so far, from the events of its containers."""

    def __init__(self, run: RunContext, supervisor: Supervisor) -> None:
        """The run begins now."""
        self._run = run
        self._supervisor = supervisor
        self._began = time.monotonic()

    def result(
        self,
        images: list[Artifact],
        boot: Boot,
        receipts: list[Receipt],
    ) -> Result:
        """Return the content of `result.json` of `images`."""
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
            emulators=self._registered(),
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

    def story(self, image: Artifact, boot: Boot, problem: ApplianceError | None) -> Story:
        """Return what the report of `image` says of this run; `boot` is the check of this image."""
        console = ""
        if boot is not None or isinstance(problem, BootError):
            serial = self._run.workspace.shared / TAKEN / f"{image.file_name}{SERIAL_LOG}"
            with contextlib.suppress(FileNotFoundError):
                console = _end_of(serial)
        return Story(
            boot=boot,
            failed=str(problem) if isinstance(problem, BootError) else "",
            unclean=str(problem) if isinstance(problem, CleanupError) else "",
            console=console,
            seconds=self._run.progress.seconds,
            steps=self._steps(),
            bills=earlier_bills(self._run.workspace.bills),
        )

    def _steps(self) -> Steps:
        announced = self._supervisor.event("builder", "results") or {}
        return as_announced(Steps, announced.get("steps", {}), "steps")

    def about(self, receipts: list[Receipt]) -> About:
        """Return the facts of this run for the provenance."""
        announced = self._supervisor.event("builder", "results") or {}
        now = time.time()
        return About(
            request=self._run.request,
            caller=self._run.caller,
            emulation=self._run.plan.mode,
            emulators=self._registered(),
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
        return as_announced(str, found.get("version", ""), "version")

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
        names = [field.name for field in dataclasses.fields(Sandbox)]
        told = {name: found[name] for name in names if name in found}
        return dataclasses.asdict(as_announced(Sandbox, told, "sandbox"))

    def _builders(self) -> list[dict[str, object]]:
        """Return the builders that have built something, with their number of builds."""
        hands = [*self._run.earlier, *self._steps().hands]
        return [
            {
                "uri": one.uri,
                "host_key": fingerprint(one.host_key),
                "builds": sum(hand.count for hand in hands if hand.uri == one.uri),
                "seconds": round(sum(hand.seconds for hand in hands if hand.uri == one.uri), 3),
            }
            for one in self._run.request.builders
            if any(hand.uri == one.uri for hand in hands)
        ]


def _end_of(log: pathlib.Path) -> str:
    """Return the last CONSOLE_BYTES of `log` as text."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - CONSOLE_BYTES))
        return file.read(CONSOLE_BYTES).decode(errors="replace")
