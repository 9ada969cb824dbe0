"""Waits for the orchestrator's word: the builder may fetch and build what its plan says."""

import os
import time

from orchestrator.agents.failure import AgentError
from orchestrator.shared.run import WORD, Run


def wait(run: Run) -> None:
    """Wait until the run's folder `WORD`, which is root's, is given to this user.

    Raises `AgentError` at the run's time limit.
    """
    place, until = run.folder / WORD, time.monotonic() + run.deadline_seconds
    while place.stat().st_uid != os.getuid():
        if time.monotonic() > until:
            raise AgentError("the orchestrator has not answered the plan", kind="host")
        time.sleep(0.05)
