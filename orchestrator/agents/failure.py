"""The error that agents raise on purpose; it is printed as an event, without a traceback."""

import sys
from collections.abc import Callable

from orchestrator.agents import events
from orchestrator.shared.codes import CODES

#: Exit code of an agent that failed with an `AgentError`.
EXIT_FAILED = 1


class AgentError(Exception):
    """A failure of an agent, with its reason and, if possible, a hint.

    `kind` selects the orchestrator's error class (`shared.errors.KINDS`), `code` is a row of
    errors.toml, by default that of the class.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        kind: str = "failed",
        detail: str = "",
        code: str = "",
        excerpt: str = "",
        trace: str = "",
    ) -> None:
        """`message` is one line; `detail` may be several (the end of a build's log).

        `excerpt` are lines of the caller's file that the message is about, `trace` is Nix' own
        message.
        """
        super().__init__(message)
        self.hint = hint
        self.kind = kind
        self.detail = detail
        self.code = code
        self.excerpt = excerpt
        self.trace = trace


def disk_full(detail: str = "") -> AgentError:
    """Return the error for a full disk of Docker's volumes (store, builds, images)."""
    return AgentError(
        "the disk of Docker's data is full",
        hint=CODES["disk-full"].remedy,
        kind="disk",
        detail=detail,
        code="disk-full",
    )


def run_agent(service: str, body: Callable[[], None]) -> None:
    """Run `body` as the main function of `service`.

    An `AgentError` becomes a `failed` event and exit code 1.
    """
    events.configure(service)
    try:
        body()
    except AgentError as error:
        fields = {
            "kind": error.kind,
            "hint": error.hint,
            "detail": error.detail,
            "code": error.code,
            "excerpt": error.excerpt,
            "trace": error.trace,
        }
        events.emit(
            "failed",
            level="error",
            message=str(error),
            **{key: text for key, text in fields.items() if text},
        )
        sys.exit(EXIT_FAILED)
