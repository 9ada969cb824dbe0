"""registrar: puts the pinned static qemu-user into binfmt_misc (flag F), then exits."""

import pathlib
import subprocess

import tenacity

from orchestrator.agents import binfmt, canary, events
from orchestrator.agents.failure import AgentError, run_agent
from orchestrator.agents.run import TOKEN_FILE, this_run
from orchestrator.agents.systems import SYSTEMS

EMULATORS = pathlib.Path("/opt/qemu")


def main() -> None:
    """Register the emulator of the run's system."""
    run_agent("registrar", register)


def register() -> None:
    """Wait until cleanup holds the table, write one entry, read it back, try it."""
    run = this_run()
    wait_for_cleanup(run.start_seconds)
    binfmt.mount()
    system = SYSTEMS[run.system]
    emulator = EMULATORS / system.emulator
    line = binfmt.registration(
        binfmt.entry_name(run.id, system), system, emulator, binfmt.kernel_version()
    )
    entry = binfmt.register(line)
    if not TOKEN_FILE.exists():
        binfmt.remove(entry.name)
        raise AgentError("cleanup has ended before the emulator was registered", kind="cleanup")
    outcome = canary.run(run.system, pathlib.Path("/run"))
    if not outcome.runs:
        raise AgentError(
            f"{run.system} programs do not run although registered: {outcome.cause}",
            kind="emulation",
        )
    version = emulator_version(emulator)
    events.emit(
        "registered",
        message=f"{entry.name} -> {emulator.name} {version}, flags {entry.flags}",
        entry=entry.name,
        line=line,
        flags=entry.flags,
        emulator=emulator.name,
        version=version,
    )


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
