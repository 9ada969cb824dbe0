"""Follows the containers of a run: one queue of their events and exits.

A failed event or a failed container raises an error.
"""

import collections
import dataclasses
import queue
import sys
import threading
import time
import typing

from orchestrator.docker.answers import LostEngineError
from orchestrator.docker.engine import Engine
from orchestrator.shared.constants import KILLED
from orchestrator.shared.errors import (
    KINDS,
    BootError,
    BuildError,
    CleanupError,
    DockerError,
    EmulationError,
    HostError,
    PushError,
    TimeLimitError,
    failure,
)
from orchestrator.shared.json_reader import JsonError, read_json
from orchestrator.shared.progress import Progress

Event = dict[str, object]

#: Error class by service, for a container that fails without a `failed` event.
SILENT_DEATH = {
    "cleanup": CleanupError,
    "registrar": EmulationError,
    "emulators": EmulationError,
    "builder": BuildError,
    "boot": BootError,
    "push": PushError,
}

#: Exit code of a container that does not exist any more.
GONE = -1

#: Number of a container's last non-event lines (a traceback) that an error shows, and of letters of
#: each.
NOISE_LINES = 20
NOISE_LETTERS = 4096

#: Bytes of memory of a container's events that may wait. Twice as many are remembered, and a single
#: event may have as many. A container that says more than this process can show has to wait: it
#: would take this process' memory.
BACKLOG = 48 << 20

#: Bytes of memory that a value in JSON takes at most, beside the letters of its text.
VALUE_BYTES = 100

#: Number of different events of a container that are remembered.
NAMES = 100


@dataclasses.dataclass(frozen=True)
class Exit:
    """A container has ended; `starved`: the OOM killer killed it."""

    service: str
    code: int
    starved: bool


@dataclasses.dataclass(frozen=True)
class _Said:
    """A container has printed `event`, which takes `weight` bytes of memory."""

    service: str
    event: Event
    weight: int


class Supervisor:
    """Events of a run's containers, in order of arrival.

    Its methods raise an error as soon as a container fails.
    """

    def __init__(self, engine: Engine, progress: Progress, deadline: float) -> None:
        """`deadline` is a time of the monotonic clock."""
        self._engine = engine
        self._progress = progress
        self._deadline = deadline
        self._queue: queue.Queue[_Said | Exit | DockerError] = queue.Queue()
        #: Weight of the events in the queue by service.
        self._waiting: collections.Counter[str] = collections.Counter()
        self._taken = threading.Condition()
        self._noise: dict[str, collections.deque[str]] = {}
        self.exits: dict[str, int] = {}
        self._last: dict[str, dict[str, _Said]] = {}

    def follow(self, service: str, container: str) -> None:
        """Follow the container `container` of `service` in a thread."""
        self._noise[service] = collections.deque(maxlen=NOISE_LINES)
        threading.Thread(target=self._follow, args=(service, container), daemon=True).start()

    def next(self, patience: float | None = None) -> tuple[str, Event] | Exit | None:
        """Return the next event or exit; None after `patience` seconds without one.

        Raises the error of a failed container, or `TimeLimitError` at the deadline.
        """
        until = (
            self._deadline if patience is None else min(self._deadline, time.monotonic() + patience)
        )
        while True:
            left = until - time.monotonic()
            if left <= 0:
                if time.monotonic() >= self._deadline:
                    stage = self._progress.current or "the end"
                    raise TimeLimitError(
                        f"the run exceeded its time limit during {stage}",
                        hint="--timeout SECONDS sets a longer limit",
                    )
                return None
            try:
                # Short waits, so that signal handlers can run.
                item = self._queue.get(timeout=min(left, 0.5))
            except queue.Empty:
                continue
            if isinstance(item, DockerError):
                raise item
            if isinstance(item, Exit):
                self.exits[item.service] = item.code
                self._check_exit(item)
                return item
            with self._taken:
                self._waiting[item.service] -= item.weight
                self._taken.notify_all()
            self._check_event(item.service, item.event)
            return item.service, item.event

    def wait_exit(self, service: str, patience: float) -> int | None:
        """Wait for the end of `service`; returns its exit code, None after `patience` seconds."""
        until = time.monotonic() + patience
        while service not in self.exits:
            left = until - time.monotonic()
            if left <= 0 or self.next(left) is None:
                return self.exits.get(service)
        return self.exits[service]

    def event(self, service: str, name: str) -> Event | None:
        """Return the last event `name` of `service`, or None."""
        said = self._last.get(service, {}).get(name)
        return said.event if said else None

    def _follow(self, service: str, container: str) -> None:
        try:
            self._follow_lines(service, container)
            code = self._engine.code_after_log(container)
            starved = code == KILLED and self._engine.starved(container)
        except DockerError as error:
            self._queue.put(error)
        except Exception as error:  # noqa: BLE001 - else nobody would learn of the container's end
            problem = f"Docker's answer about {container} cannot be understood: {error!r}"
            self._queue.put(DockerError(problem, hint="./run.sh doctor examines Docker"))
        else:
            self._queue.put(Exit(service, code, starved))

    def _follow_lines(self, service: str, container: str) -> None:
        try:
            for line in self._engine.logs(container):
                self._take(service, line)
        except LostEngineError:
            raise
        except DockerError as error:
            self._noise[service].append(str(error))

    def _take(self, service: str, line: str) -> None:
        if not (event := read_event(line)):
            self._noise[service].append(line[:NOISE_LETTERS])
            return
        said = _Said(service, event, weight(line))
        with self._taken:
            self._remember(said)
            self._taken.wait_for(lambda: self._waiting[service] < BACKLOG)
            self._waiting[service] += said.weight
        self._queue.put(said)

    def _remember(self, said: "_Said") -> None:
        """Remember the event as the last one of its name, if there is room for it."""
        known = self._last.setdefault(said.service, {})
        name = str(said.event["event"])
        others = [one.weight for other, one in known.items() if other != name]
        if len(others) < NAMES and sum(others) + said.weight <= 2 * BACKLOG:
            known[name] = said

    def _check_event(self, service: str, event: Event) -> None:
        if event["event"] == "failed":
            kind = KINDS.get(str(event.get("kind", "failed")), BuildError)
            # A failure of the boot check is a BootError, whatever its kind: the image exists.
            raise failure(BootError if service == "boot" else kind, event)
        if event.get("level") == "warning":
            self._progress.say(
                f"{service}: {event.get('message', event['event'])}", "warning", event
            )

    def _check_exit(self, item: Exit) -> None:
        if item.code == 0:
            return
        how, hint = f"ended with exit code {item.code}", ""
        kind = SILENT_DEATH.get(item.service, BuildError)
        if item.starved:
            how = "was killed because memory ran out"
            if item.service == "builder":
                kind, hint = (
                    HostError,
                    "--memory SIZE gives the builder more memory; --cores 1 needs less",
                )
        elif item.code in (KILLED, GONE):
            how = "was killed"
        stage = self._progress.current or "the end"
        detail = "\n".join(self._noise.get(item.service, ()))
        raise kind(f"{item.service} {how} during {stage}", hint=hint, detail=detail)


def weight(line: str) -> int:
    """Return how many bytes of memory the JSON of `line` takes at most, with the line itself."""
    return sys.getsizeof(line) + VALUE_BYTES * sum(map(line.count, "[{,:"))


def read_event(line: str) -> Event | None:
    """Parse a container's log line as an event; None if it is not one, or takes too much memory."""
    if weight(line) > 2 * BACKLOG:
        return None
    try:
        event = read_json(line, "event")
    except JsonError:
        return None
    good = isinstance(event, dict) and isinstance(event.get("event"), str)
    return typing.cast("Event", event) if good else None
