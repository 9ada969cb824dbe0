"""The one error that agents raise on purpose: told as an event, never as a traceback."""

import sys
from collections.abc import Callable

from orchestrator.agents import events

#: Exit code of an agent that failed for a reason it could name.
EXIT_FAILED = 1


class AgentError(Exception):
    """A failure with a reason and, where there is one, a way out.

    `kind` names it for the orchestrator.
    """

    def __init__(
        self, message: str, *, hint: str = "", kind: str = "failed", detail: str = ""
    ) -> None:
        """`message` is one line, `detail` may be many (the end of a build's log)."""
        super().__init__(message)
        self.hint = hint
        self.kind = kind
        self.detail = detail


def disk_full(detail: str = "") -> AgentError:
    """The volumes' disk is full: the store, builds and images are on it."""
    return AgentError(
        "the disk of Docker's data is full",
        hint="free some of it; ./run.sh down -v would remove what was built for earlier images",
        kind="disk",
        detail=detail,
    )


def run_agent(service: str, body: Callable[[], None]) -> None:
    """Run `body` as the main function of `service`.

    An `AgentError` becomes a `failed` event and exit code 1.
    """
    events.configure(service)
    try:
        body()
    except AgentError as error:
        fields = {"kind": error.kind, "hint": error.hint, "detail": error.detail}
        events.emit(
            "failed",
            level="error",
            message=str(error),
            **{key: text for key, text in fields.items() if text},
        )
        sys.exit(EXIT_FAILED)
