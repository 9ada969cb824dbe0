"""Agent registrar: registers the pinned emulators in binfmt_misc (flag F), then exits."""

import pathlib

from orchestrator.agents.emulation import binfmt, emulators
from orchestrator.agents.failure import AgentError, run_agent
from orchestrator.shared import retry
from orchestrator.shared.run import TOKEN_FILE, this_run


def main() -> None:
    """Register the emulators of the run's systems."""
    run_agent("registrar", register)


def register() -> None:
    """Wait for cleanup, register an entry for each system, read it back, run its canary."""
    run = this_run()
    wait_for_cleanup(run.start_seconds)
    binfmt.mount()
    entries = emulators.register(run, run.systems)
    if not TOKEN_FILE.exists():
        for entry in entries:
            binfmt.remove(entry.name)
        raise AgentError("cleanup ended before the emulators were registered", kind="cleanup")
    emulators.announce(run, run.systems, entries, pathlib.Path("/run"))


def wait_for_cleanup(seconds: float) -> None:
    """Wait for the token file, which the container cleanup writes when binfmt_misc is mounted."""
    if not retry.until(TOKEN_FILE.exists, seconds):
        raise AgentError(f"cleanup was not ready after {seconds:.0f} s", kind="cleanup")


if __name__ == "__main__":
    main()
