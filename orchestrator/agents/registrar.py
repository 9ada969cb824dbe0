"""registrar: puts the pinned static qemu-user into binfmt_misc (flag F), then exits."""

import pathlib
import subprocess

import tenacity

from orchestrator.agents import binfmt, canary, events
from orchestrator.agents.failure import AgentError, run_agent
from orchestrator.agents.run import TOKEN_FILE, Run, this_run
from orchestrator.agents.systems import SYSTEMS, System

EMULATORS = pathlib.Path("/opt/qemu")


def main() -> None:
    """Register the emulators of the run's systems."""
    run_agent("registrar", register)


def register() -> None:
    """Wait until cleanup holds the table, write an entry for each system, read it back, try it."""
    run = this_run()
    wait_for_cleanup(run.start_seconds)
    binfmt.mount()
    lines = {name: registration(run, SYSTEMS[name]) for name in run.systems}
    entries = {name: binfmt.register(line) for name, line in lines.items()}
    if not TOKEN_FILE.exists():
        for entry in entries.values():
            binfmt.remove(entry.name)
        raise AgentError("cleanup has ended before the emulator was registered", kind="cleanup")
    for name in run.systems:
        outcome = canary.run(name, pathlib.Path("/run"))
        if not outcome.runs:
            raise AgentError(
                f"{name} programs do not run although registered: {outcome.cause}",
                kind="emulation",
            )
    emulators = {name: EMULATORS / SYSTEMS[name].emulator for name in run.systems}
    registered = [
        {
            "entry": entry.name,
            "line": lines[name],
            "flags": entry.flags,
            "emulator": emulators[name].name,
            "version": emulator_version(emulators[name]),
        }
        for name, entry in entries.items()
    ]
    told = (
        f"{one['entry']} -> {one['emulator']} {one['version']}, flags {one['flags']}"
        for one in registered
    )
    events.emit("registered", message=", ".join(told), entries=registered)


def registration(run: Run, system: System) -> str:
    """The line that registers the emulator of `system`."""
    name = binfmt.entry_name(run.id, system)
    return binfmt.registration(name, system, EMULATORS / system.emulator, binfmt.kernel_version())


def wait_for_cleanup(seconds: float) -> None:
    """Wait for the token, cleanup's sign that it holds the table."""
    attempt = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda there: not there),
        wait=tenacity.wait_fixed(0.05),
        stop=tenacity.stop_after_delay(seconds),
    )
    try:
        attempt(TOKEN_FILE.exists)
    except tenacity.RetryError as error:
        raise AgentError(f"cleanup was not ready after {seconds:.0f} s", kind="cleanup") from error


def emulator_version(emulator: pathlib.Path) -> str:
    """First line of `--version`, e.g. `10.0.13`."""
    text = subprocess.run(
        [emulator, "--version"], capture_output=True, text=True, check=True
    ).stdout
    return text.split("version ", 1)[1].split()[0]


if __name__ == "__main__":
    main()
