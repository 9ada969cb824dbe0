"""registrar: puts the pinned static qemu-user into binfmt_misc (flag F), then exits."""

import pathlib

from orchestrator.agents.emulation import binfmt, emulators
from orchestrator.agents.failure import AgentError, run_agent
from orchestrator.shared import retry
from orchestrator.shared.run import TOKEN_FILE, this_run


def main() -> None:
    """Register the emulators of the run's systems."""
    run_agent("registrar", register)


def register() -> None:
    """Wait until cleanup holds the table, write an entry for each system, read it back, try it."""
    run = this_run()
    wait_for_cleanup(run.start_seconds)
    binfmt.mount()
    entries = emulators.register(run, run.systems)
    if not TOKEN_FILE.exists():
        for entry in entries:
            binfmt.remove(entry.name)
        raise AgentError("cleanup has ended before the emulator was registered", kind="cleanup")
    emulators.announce(run, run.systems, entries, pathlib.Path("/run"))


def wait_for_cleanup(seconds: float) -> None:
    """Wait for the token, cleanup's sign that it holds the table."""
    if not retry.until(TOKEN_FILE.exists, seconds):
        raise AgentError(f"cleanup was not ready after {seconds:.0f} s", kind="cleanup")


if __name__ == "__main__":
    main()
