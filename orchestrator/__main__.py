"""Entry point of the orchestrator: handles one command line, prints errors, returns exit code."""

import os
import pathlib
import shlex
import signal
import sys
import time
import traceback
import types

from orchestrator.ask.caller import read_caller
from orchestrator.ask.orders import NOTHING, as_text
from orchestrator.shared.ci import annotation, harmless
from orchestrator.shared.codes import CODES, DISK_FULL, FULL_DISK, is_full, page
from orchestrator.shared.display import Ci
from orchestrator.shared.errors import (
    STOPPED,
    ApplianceError,
    BugError,
    HostError,
    InterruptedRunError,
    TerminatedRunError,
)
from orchestrator.shared.text import plain
from orchestrator.shared.variables import read
from orchestrator.verbs import registry


def main() -> int:
    """Handle one command line; returns the exit code."""
    # stdout carries the image to run.sh: it moves to its own descriptor, and prints go to stderr.
    stream = os.dup(1)
    os.dup2(2, 1)
    began = time.monotonic()
    who = read_caller(os.environ)
    sent = read(os.environ, "NIXOS_IMAGE_INPUT") == "1"
    session = registry.Session(who, stream, began, sent)
    argv = sys.argv[1:]
    preparing = argv[:1] == ["prepare"]
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if argv == ["receive"]:
            session.receive()
            return 0
        if argv == ["debug-shell"]:
            from orchestrator.run import (
                debug_shell,
            )  # Docker's client, which `prepare` must not load

            return debug_shell.open_shell(who)
        if argv[:1] == ["trees"]:
            from orchestrator.docker.engine import Engine
            from orchestrator.run import kept_trees

            none = pathlib.Path("/nonexistent")
            return kept_trees.answer(argv[1:], Engine(who.run, none), stream)
        verb, words = registry.find(argv[1:] if preparing else argv)
        request = verb.ask(words, who)
        if preparing:
            session.write(as_text(verb.orders(request), who))
            return 0
        if sent and not verb.takes_files:
            session.receive()
        return verb.work(request, session)
    except SystemExit as end:  # --help has printed its text
        if preparing:
            session.write(as_text([NOTHING], who))
        return int(end.code or 0)
    except ApplianceError as error:
        tell(error, shlex.join([who.program, *argv]), who.ci)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - reports any bug as BugError
        unforeseen = _unforeseen(error)
        tell(unforeseen, ci=who.ci)
        return unforeseen.exit_code


def _unforeseen(error: Exception) -> ApplianceError:
    """Return what is told of an error that no function has foreseen."""
    if isinstance(error, OSError) and is_full(error):  # any file of a run may be the one
        hint = CODES[DISK_FULL].remedy
        return HostError(FULL_DISK, hint=hint, detail=str(error), code=DISK_FULL)
    return BugError(
        f"bug in the appliance: {error!r}",
        detail=traceback.format_exc(),
        hint="please report this bug with the lines above",
    )


def tell(error: ApplianceError, command: str = "", ci: Ci = "") -> None:
    """Print an error: what happened before, what failed where, what to do, its page.

    An error that says nothing of its own is told the remedy of its class.

    If a stage of a run failed, also print the stage, the `command` that repeats it, and the log.
    Control characters are removed, because other programs' output may be in it.
    """
    stopped = isinstance(error, STOPPED)
    remedy = error.hint or ("" if stopped else CODES[error.general()].remedy)
    rows = [
        ("", error.detail),
        ("error: ", str(error)),
        ("", error.excerpt),
        ("", error.trace),
        ("try: ", remedy),
        ("see: ", "" if stopped else page(error.code)),
        ("stage: ", error.stage),
        ("again: ", command if error.stage else ""),
        ("log: ", error.log),
    ]
    text = "".join(f"{name}{plain(value)}\n" for name, value in rows if value)
    sys.stderr.write(harmless(text, ci))
    brief = (f"{name}{plain(value)}" for name, value in rows[1:] if name and value)
    sys.stderr.write(annotation("error", "\n".join(brief), ci))


def _interrupt(number: int, _frame: types.FrameType | None) -> None:
    """Handle a signal: the first becomes an error, which cleans up; later ones are ignored."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise InterruptedRunError("interrupted")
    raise TerminatedRunError("terminated")


if __name__ == "__main__":
    try:
        code = main()
        sys.stderr.flush()
    except ApplianceError as error:  # a signal arrived while another error was printed
        code = error.exit_code
    # sys.exit would wait for a `docker build` in a background thread; that ends with this
    # container.
    os._exit(code)
