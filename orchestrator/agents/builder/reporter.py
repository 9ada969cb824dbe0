"""Tells the orchestrator, while Nix runs, what Nix is doing."""

import collections
import contextlib
import dataclasses
import threading
from collections.abc import Iterator

from orchestrator.agents import events
from orchestrator.agents.builder.nixlog import NixLog
from orchestrator.shared.activity import NAMED, NixState, Running

#: Seconds between two events.
INTERVAL_SECONDS = 1.0

#: Number of log lines that one event has at most: the last ones. The log file has all of them.
LINES = 40


@dataclasses.dataclass
class Reporter:
    """Sends an event when the state of `log` has changed, also while Nix says nothing.

    `lock` is held by whoever changes the log. With `verbose` the log lines of builds are sent, too.
    """

    log: NixLog
    lock: threading.Lock
    verbose: bool = False
    _told: NixState = dataclasses.field(default_factory=NixState)

    def __post_init__(self) -> None:
        """Have the log keep its lines for this reporter."""
        if self.verbose:
            self.log.fresh = collections.deque(maxlen=LINES + 1)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Report during a `with` block."""
        done = threading.Event()
        thread = threading.Thread(target=self._report, args=(done,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _report(self, done: threading.Event) -> None:
        last = False
        while not last:
            last = done.wait(INTERVAL_SECONDS)
            self.tell()

    def tell(self) -> None:
        """Send the events that are due."""
        with self.lock:
            state = state_of(self.log)
            lines = list(self.log.fresh or ())
            if self.log.fresh:
                self.log.fresh.clear()
        if lines:
            more = ["…"] if len(lines) > LINES else []
            events.emit("log", message=None, lines=[*more, *lines[-LINES:]])
        if _without_clock(state) != _without_clock(self._told):
            events.emit("nix", message=None, state=dataclasses.asdict(state))
            self._told = state


def state_of(log: NixLog) -> NixState:
    """Return what Nix is doing."""
    builds = log.recorder.builds()
    return NixState(
        done=log.done,
        expected=log.expected,
        paths_done=log.paths_done,
        paths_expected=log.paths_expected,
        received=log.received,
        running=tuple(Running(name, kind, seconds) for name, kind, seconds in builds[:NAMED]),
        others=max(0, len(builds) - NAMED),
    )


def _without_clock(state: NixState) -> NixState:
    """Return the state without the seconds, which whoever shows it counts on."""
    names = tuple(dataclasses.replace(one, seconds=0.0) for one in state.running)
    return dataclasses.replace(state, running=names)
