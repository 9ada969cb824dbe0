"""Shows what the builder says it is doing; adds rates and the time that is left."""

import collections
import contextlib
import time

from orchestrator.decide.estimate import Estimate
from orchestrator.deliver.stream import as_announced
from orchestrator.run.supervisor import Event
from orchestrator.shared.activity import Activity, NixState
from orchestrator.shared.cost import Cost
from orchestrator.shared.errors import BuildError
from orchestrator.shared.json_reader import FreeText
from orchestrator.shared.progress import Progress

EVALUATING = "evaluating the configuration"

#: Seconds of the downloads whose mean is the rate.
RATE_SECONDS = 10.0


class Follower:
    """Shows the builder's events; before the word there is no plan to compare with."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._cost: Cost | None = None
        self._estimate: Estimate | None = None
        self._began = 0.0
        self._received: collections.deque[tuple[float, int]] = collections.deque()

    def begin(self, cost: Cost, estimate: Estimate) -> None:
        """Note that the build has begun, with what the plan says of it."""
        self._cost, self._estimate, self._began = cost, estimate, time.monotonic()

    def show(self, progress: Progress, name: str, event: Event) -> None:
        """Show the event `name` of the builder as a stage of the progress, or as a message."""
        message = str(event.get("message", ""))
        match name:
            case "lease-held" | "waiting":
                progress.to("emulation", message)
            case "canary" | "retry" | "sandbox":
                # The supervisor has printed the event already if it is a warning.
                if name == "sandbox" and event.get("level") == "info":
                    progress.say(message, fields=event)
                progress.to("build", EVALUATING)
            case "network" | "evaluating":
                progress.to("build", message)
            case "nix" | "log":
                # What cannot be shown does not end a run.
                with contextlib.suppress(BuildError):
                    self._show_nix(progress, event)
            case "assemble":
                progress.to("assemble", message)
            case "checked":
                progress.say(message, fields=event)

    def _show_nix(self, progress: Progress, event: Event) -> None:
        if event["event"] == "log":
            lines = as_announced(tuple[FreeText, ...], event.get("lines"), "log")
            progress.say("\n".join(lines), fields=event)
            return
        doing = "building" if self._cost else EVALUATING
        progress.to("build", doing, self.activity(event.get("state")))

    def activity(self, state: object) -> Activity:
        """Return the activity of the field `state` of the event `nix`; raises `BuildError`."""
        found = as_announced(NixState, state, "nix")
        now = time.monotonic()
        self._received.append((now, found.received))
        while self._received[0][0] < now - RATE_SECONDS and len(self._received) > 1:
            self._received.popleft()
        then, before = self._received[0]
        rate = (found.received - before) / (now - then) if now - then >= 1 else 0.0
        left, whole = None, True
        if self._estimate and self._estimate.tells:
            assert self._estimate.seconds is not None
            left, whole = self._estimate.seconds - (now - self._began), self._estimate.whole
        return Activity(
            state=found,
            since=now,
            download=self._cost.download if self._cost else 0,
            rate=max(0.0, rate),
            left=left,
            whole=whole,
        )
