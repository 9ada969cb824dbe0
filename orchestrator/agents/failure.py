"""The error that agents raise on purpose; it is printed as an event, without a traceback."""

import os
import pathlib
import sys
import traceback
import typing
from collections.abc import Callable

from orchestrator.agents import events
from orchestrator.shared.codes import CODES, DISK_FULL, FULL_DISK, is_full
from orchestrator.shared.constants import BUILDER
from orchestrator.shared.errors import ToldError
from orchestrator.shared.text import plain

STORE = pathlib.Path("/nix/store")

#: Kind of an agent's error that it has not foreseen, if it is not "failed".
UNFORESEEN = {"cleanup": "cleanup", "push": "push", "registrar": "emulation"}

#: Most letters of a file's name that such an error tells.
NAME = 200

#: Exit code of an agent that failed with an `AgentError`.
EXIT_FAILED = 1


class AgentError(ToldError):
    """A failure of an agent; `kind` selects the orchestrator's error class (`errors.KINDS`)."""

    def __init__(self, message: str, *, kind: str = "failed", **told: str) -> None:
        """Take the fields of `ToldError`; without `code`, it is that of the error's class."""
        super().__init__(message, **told)
        self.kind = kind


def disk_full(detail: str = "") -> AgentError:
    """Return the error for a full disk of Docker's volumes (store, builds, images)."""
    hint = CODES[DISK_FULL].remedy
    return AgentError(FULL_DISK, hint=hint, kind="disk", detail=detail, code=DISK_FULL)


def unforeseen(error: OSError, service: str) -> AgentError:
    """Return the error for a file that `service` could not use, with the place in the code.

    A build may leave any file where an agent works: a traceback would have its name many times.
    """
    names = filter(None, (error.filename, error.filename2))
    shown = [plain(str(name)).replace("\n", " ")[:NAME] for name in names]
    last = traceback.extract_tb(error.__traceback__)[-1]
    return AgentError(
        ": ".join([" -> ".join(shown), error.strerror or str(error)] if shown else [str(error)]),
        detail=f"{service}: {last.filename}:{last.lineno}, {last.name}",
        kind=UNFORESEEN.get(service, "failed"),
    )


def run_agent(service: str, body: Callable[[], None], *, owns_store: bool = True) -> None:
    """Run `body` as the main function of `service`.

    An `AgentError` or an `OSError` becomes a `failed` event and exit code 1. With `owns_store`, so
    does a store that belongs to another user than the builder.
    """
    events.configure(service)
    try:
        if owns_store:
            check_owner()
        body()
    except AgentError as error:
        _tell(error)
    except OSError as error:
        _tell(disk_full(str(error)) if is_full(error) else unforeseen(error, service))


def check_owner(store: pathlib.Path = STORE) -> None:
    """Raise `AgentError` if the store's volume belongs to the user that the builder once was."""
    if os.geteuid() == BUILDER and store.exists() and store.stat().st_uid != BUILDER:
        raise AgentError(
            "the store's volume belongs to another user: an earlier version of run.sh has made it",
            hint="./run.sh down -v removes it: what it has is fetched and built again",
            kind="store",
        )


def _tell(error: AgentError) -> typing.NoReturn:
    events.emit("failed", level="error", message=str(error), kind=error.kind, **error.told())
    sys.exit(EXIT_FAILED)
