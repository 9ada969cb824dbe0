"""Follows the containers of a run.

What each says becomes one queue of events, its end an event too.
"""

import collections
import dataclasses
import json
import queue
import threading
import time
import typing

from orchestrator.docker.api import SilentEngineError
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
    TimeLimitError,
    failure,
)
from orchestrator.shared.progress import Progress

Event = dict[str, object]

#: How a service that ends without a word of its own is told.
SILENT_DEATH = {
    "cleanup": CleanupError,
    "registrar": EmulationError,
    "emulators": EmulationError,
    "builder": BuildError,
    "boot": BootError,
}

#: Exit code of a container that is gone.
GONE = -1

#: Lines of a container that are no event (a traceback) are kept for the error, as many as these.
NOISE_LINES = 20


@dataclasses.dataclass(frozen=True)
class Exit:
    """A container has ended; `starved` if the kernel killed it for want of memory."""

    service: str
    code: int
    starved: bool


class Supervisor:
    """Events of a run's containers, in the order in which they come.

    Raises as soon as one fails.
    """

    def __init__(self, engine: Engine, progress: Progress, deadline: float) -> None:
        """`deadline` is on the monotonic clock."""
        self._engine = engine
        self._progress = progress
        self._deadline = deadline
        self._queue: queue.Queue[tuple[str, Event] | Exit | SilentEngineError] = queue.Queue()
        self._noise: dict[str, collections.deque[str]] = {}
        self.exits: dict[str, int] = {}
        self._last: dict[tuple[str, str], Event] = {}

    def follow(self, service: str, container: str) -> None:
        """Follow `container` from now on."""
        self._noise[service] = collections.deque(maxlen=NOISE_LINES)
        threading.Thread(target=self._follow, args=(service, container), daemon=True).start()

    def next(self, patience: float | None = None) -> tuple[str, Event] | Exit | None:
        """The next event or exit; None after `patience` seconds without one.

        Raises on a failure or at the deadline.
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
                        f"the run took longer than allowed, during {stage}",
                        hint="--timeout gives it longer",
                    )
                return None
            try:
                # Short waits: a signal's handler runs between them.
                item = self._queue.get(timeout=min(left, 0.5))
            except queue.Empty:
                continue
            if isinstance(item, SilentEngineError):
                raise item
            if isinstance(item, Exit):
                self.exits[item.service] = item.code
                self._check_exit(item)
                return item
            self._check_event(*item)
            return item

    def wait_exit(self, service: str, patience: float) -> int | None:
        """Wait until `service` has ended; its exit code, None after `patience` seconds."""
        until = time.monotonic() + patience
        while service not in self.exits:
            left = until - time.monotonic()
            if left <= 0 or self.next(left) is None:
                return self.exits.get(service)
        return self.exits[service]

    def event(self, service: str, name: str) -> Event | None:
        """The last event `name` of `service`, if it has said one."""
        return self._last.get((service, name))

    def _follow(self, service: str, container: str) -> None:
        try:
            self._follow_lines(service, container)
            code = self._engine.exit_code(container)
            starved = code == KILLED and self._engine.starved(container)
        except SilentEngineError as error:
            self._queue.put(error)
        else:
            self._queue.put(Exit(service, code, starved))

    def _follow_lines(self, service: str, container: str) -> None:
        try:
            for line in self._engine.logs(container):
                self._take(service, line)
        except SilentEngineError:
            raise
        except DockerError as error:
            self._noise[service].append(str(error))

    def _take(self, service: str, line: str) -> None:
        if event := read_event(line):
            self._last[service, str(event["event"])] = event
            self._queue.put((service, event))
        else:
            self._noise[service].append(line)

    def _check_event(self, service: str, event: Event) -> None:
        if event["event"] == "failed":
            kind = KINDS.get(str(event.get("kind", "failed")), BuildError)
            # Whatever a check of the image has failed of, the image is there.
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
            how = "was killed for want of memory"
            if item.service == "builder":
                kind, hint = HostError, "--memory SIZE gives it more; --cores 1 needs less"
        elif item.code in (KILLED, GONE):
            how = "was killed"
        stage = self._progress.current or "the end"
        detail = "\n".join(self._noise.get(item.service, ()))
        raise kind(f"{item.service} {how} during {stage}", hint=hint, detail=detail)


def read_event(line: str) -> Event | None:
    """The event that a container's `line` is, if it is one."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    good = isinstance(event, dict) and isinstance(event.get("event"), str)
    return typing.cast("Event", event) if good else None
