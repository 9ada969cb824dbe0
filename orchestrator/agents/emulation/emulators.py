"""Registers the setup image's pinned emulators in binfmt_misc and tests them."""

import pathlib

from orchestrator.agents import events
from orchestrator.agents.emulation import binfmt, canary
from orchestrator.agents.failure import AgentError
from orchestrator.shared import command
from orchestrator.shared.architectures import SYSTEMS, Architecture
from orchestrator.shared.run import Run

#: Folder of static emulators, one per foreign system; in the builder, a volume filled from the
#: setup image.
FOLDER = pathlib.Path("/opt/qemu")


def register(run: Run, systems: tuple[str, ...]) -> list[binfmt.Entry]:
    """Register an entry of `run` for each of `systems`, and read it back."""
    return [binfmt.register(registration(run, SYSTEMS[name])) for name in systems]


def registration(run: Run, system: Architecture) -> str:
    """Return the line that registers the emulator of `system` in binfmt_misc."""
    name = binfmt.entry_name(run.id, system)
    return binfmt.registration(name, system, FOLDER / system.emulator, binfmt.kernel_version())


def announce(
    run: Run, systems: tuple[str, ...], entries: list[binfmt.Entry], folder: pathlib.Path
) -> None:
    """Run each system's canary in `folder`, then report the registered entries."""
    for name in systems:
        outcome = canary.run(name, folder)
        if not outcome.runs:
            raise AgentError(
                f"{name} programs do not run with the registered emulator: {outcome.cause}",
                kind="emulation",
            )
    registered = [
        {
            "entry": entry.name,
            "line": registration(run, SYSTEMS[name]),
            "flags": entry.flags,
            "emulator": SYSTEMS[name].emulator,
            "version": version(FOLDER / SYSTEMS[name].emulator),
        }
        for name, entry in zip(systems, entries, strict=True)
    ]
    texts = (
        f"{one['entry']} -> {one['emulator']} {one['version']}, flags {one['flags']}"
        for one in registered
    )
    events.emit("registered", message=", ".join(texts), entries=registered)


def version(emulator: pathlib.Path) -> str:
    """Return the version of an emulator, such as `10.0.13`."""
    text = command.run([emulator, "--version"], fails=AgentError).text
    return text.split("version ", 1)[1].split()[0]
