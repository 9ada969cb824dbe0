"""Obtains a person's word before a build that costs much; run.sh asks, because it has the terminal.

run.sh starts this container without a terminal. Where it can ask, the stream to it begins with a
line: `ask`, or `go` if there is nothing to ask. It answers by a signal.
"""

import os
import signal
import threading
import types
import typing
from collections.abc import Callable

from orchestrator.shared.errors import InterruptedRunError
from orchestrator.shared.progress import Progress

#: Stage of the question, for the error.
STAGE = "plan"

ASK = b"ask\n"
GO = b"go\n"

#: Signals of run.sh: the answer is yes, or no.
YES, NO = signal.SIGUSR1, signal.SIGUSR2


class Word:
    """Asks at most once in a run. `stream` is None where run.sh cannot ask, or need not."""

    def __init__(self, stream: int | None, *, yes: bool) -> None:
        """`yes` answers each question."""
        self._stream = stream
        self._yes = yes
        self._given = False

    def obtain(self, reasons: list[str], progress: Progress, look: Callable[[], None]) -> None:
        """Return if the build may go on.

        `look` waits a moment, and raises if the run has failed meanwhile. Raises
        `InterruptedRunError` if the answer is no.
        """
        if self._given:
            return
        self._given = True
        if not reasons:
            self.settle()
            return
        why = "; ".join(reasons)
        if self._yes or self._stream is None:
            by = "--yes says so" if self._yes else "no terminal can be asked (--yes expects this)"
            progress.say(f"a costly build: {why}. It goes on: {by}.")
            self.settle()
            return
        progress.end()
        progress.say(f"a costly build: {why}", "warning")
        if not self._ask(look):
            error = InterruptedRunError("the answer was no: nothing was fetched or built")
            error.stage = STAGE
            raise error

    def settle(self) -> None:
        """Tell run.sh that no question comes: files do, or nothing."""
        if self._stream is not None:
            os.write(self._stream, GO)
            self._stream = None

    def _ask(self, look: Callable[[], None]) -> bool:
        answers: list[int] = []
        answered = threading.Event()

        def take(number: int, _frame: types.FrameType | None) -> None:
            answers.append(number)
            answered.set()

        before = {one: signal.signal(one, take) for one in (YES, NO)}
        try:
            os.write(typing.cast("int", self._stream), ASK)
            self._stream = None
            while not answered.is_set():
                look()
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)
        return answers[0] == YES
