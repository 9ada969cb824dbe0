"""Progress output on stderr: stages with durations, at least one line every two seconds.

Three output styles: live lines on a terminal (`live.py`), plain lines elsewhere, structlog's JSON
events on request.
"""

import collections.abc
import contextlib
import json
import sys
import threading
import time
import typing
from collections.abc import Iterator

from orchestrator.shared import ci
from orchestrator.shared.activity import Activity
from orchestrator.shared.display import Ci, Display, Terminal
from orchestrator.shared.text import plain

#: Longest silence of plain output in seconds, just below the promised two.
LIFE_SECONDS = 1.8

#: Seconds from one look of the ticker at the open stage to its next.
TICK_SECONDS = 0.2

#: Least columns of a terminal with live lines.
NARROWEST = 20


class Teller(typing.Protocol):
    """One style of progress output."""

    def stage(self, name: str, detail: str, seconds: float, activity: Activity | None) -> None:
        """Show that the stage `name` is running; `activity` is Nix' in the stage of a build."""

    def done(self, name: str, seconds: float, failed: bool) -> None:
        """Show that the stage `name` has ended."""

    def say(self, level: str, text: str, fields: collections.abc.Mapping[str, object]) -> None:
        """Show a message."""


class PlainTeller:
    """Prints plain lines, for logs and CI; in CI each stage is a group that can be folded."""

    def __init__(self, ci: Ci = "") -> None:
        """Start without a last line."""
        self._ci = ci
        self._stage = ""
        self._last = ""
        self._told = 0.0

    def stage(self, name: str, detail: str, seconds: float, activity: Activity | None) -> None:
        """Print a line if the detail is new or the last line is LIFE_SECONDS old.

        Of Nix' activity, which always is new, only the latter.
        """
        now = time.monotonic()
        if name != self._stage:
            self._stage = name
            _write(ci.begin(name, self._ci, int(time.time())))
        elif now - self._told < LIFE_SECONDS and (activity or f"{name}{detail}" == self._last):
            return
        self._last, self._told = f"{name}{detail}", now
        words = (activity.line(now) if activity else "") or detail
        text = f"{name}: {words}" if words else name
        self._line(f"{text}{f' ({seconds:.0f} s)' if seconds >= 1 else ''}")

    def done(self, name: str, seconds: float, failed: bool) -> None:
        """Print the stage's duration."""
        self._line(f"{'failed' if failed else 'done'}: {name} ({seconds:.1f} s)")
        _write(ci.end(name, self._ci, int(time.time())))
        self._stage = ""

    def say(self, level: str, text: str, fields: collections.abc.Mapping[str, object]) -> None:  # noqa: ARG002
        """Print the text, with its level unless that is "info"."""
        self._line(text if level == "info" else f"{level}: {text}")
        if level == "warning":
            _write(ci.annotation(level, text, self._ci))

    def _line(self, text: str) -> None:
        _write(f"{ci.harmless(text, self._ci)}\n")


class QuietTeller:
    """Prints warnings and errors only, one a line."""

    def __init__(self, ci: Ci = "") -> None:
        """Print as `PlainTeller` does."""
        self._plain = PlainTeller(ci)

    def stage(self, name: str, detail: str, seconds: float, activity: Activity | None) -> None:
        """Print nothing."""

    def done(self, name: str, seconds: float, failed: bool) -> None:
        """Print nothing."""

    def say(self, level: str, text: str, fields: collections.abc.Mapping[str, object]) -> None:
        """Print a warning or an error."""
        if level != "info":
            self._plain.say(level, text, fields)


class JsonTeller:
    """Prints structlog events, one JSON object per line."""

    def __init__(self) -> None:
        """Configure structlog for this process."""
        import structlog  # it costs time, which the other styles save

        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(
                    lambda event, **options: ci.in_json(json.dumps(event, **options))
                ),
            ],
            logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        )
        self._log = structlog.get_logger()
        self._told = ("", 0.0)

    def stage(self, name: str, detail: str, seconds: float, activity: Activity | None) -> None:
        """Log an event if the detail is new or the last event is LIFE_SECONDS old."""
        now = time.monotonic()
        if self._told[0] == f"{name}{detail}" and now - self._told[1] < LIFE_SECONDS:
            return
        self._told = (f"{name}{detail}", now)
        more = {"nix": activity.document(now)} if activity else {}
        self._log.info("stage", stage=name, detail=detail, seconds=round(seconds, 3), **more)

    def done(self, name: str, seconds: float, failed: bool) -> None:
        """Log the stage's end."""
        self._log.info("stage-end", stage=name, seconds=round(seconds, 3), failed=failed)

    def say(self, level: str, text: str, fields: collections.abc.Mapping[str, object]) -> None:
        """Log the event under its name, with the text and all its fields."""
        own = {"event", "level", "message", "self"}
        others = {key: value for key, value in fields.items() if key not in own}
        # Fields are bound, because an agent's could have the name of an argument of structlog's.
        log = self._log.bind(**others)
        getattr(log, level)(str(fields.get("event", "note")), message=text)


class Progress:
    """Stages of a run: the current one, and the duration of each ended one in `seconds`."""

    def __init__(self, teller: Teller) -> None:
        """Start the thread that refreshes the output."""
        self.seconds: dict[str, float] = {}
        self._teller = teller
        self._lock = threading.Lock()
        self._name = ""
        self._detail = ""
        self._activity: Activity | None = None
        self._since = 0.0
        self._stop = threading.Event()
        threading.Thread(target=self._tick, daemon=True).start()

    @property
    def current(self) -> str:
        """Name of the current stage, empty if there is none."""
        return self._name

    def to(self, name: str, detail: str = "", activity: Activity | None = None) -> None:
        """End the current stage and start stage `name`; if it is current, only set its detail.

        `activity` is what Nix is doing in that stage.
        """
        with self._lock:
            if name != self._name:
                self._end(failed=False)
                self._name, self._since = name, time.monotonic()
            self._detail, self._activity = plain(detail), activity
            self._show()

    def end(self, *, failed: bool = False) -> None:
        """End the current stage."""
        with self._lock:
            self._end(failed=failed)

    @contextlib.contextmanager
    def stage(self, name: str, detail: str = "") -> Iterator[None]:
        """Run stage `name` during a `with` block."""
        self.to(name, detail)
        try:
            yield
        except BaseException:
            self.end(failed=True)
            raise
        self.end()

    def say(
        self,
        text: str,
        level: str = "info",
        fields: collections.abc.Mapping[str, object] | None = None,
    ) -> None:
        """Print a message; `fields` are added to the JSON event."""
        with self._lock:
            self._teller.say(level, plain(text), fields or {})

    def close(self) -> None:
        """Stop the refresh thread; end the current stage, if any, as failed."""
        self._stop.set()
        self.end(failed=True)

    def _end(self, *, failed: bool) -> None:
        if not self._name:
            return
        seconds = time.monotonic() - self._since
        self.seconds[self._name] = round(self.seconds.get(self._name, 0.0) + seconds, 3)
        self._teller.done(self._name, seconds, failed)
        self._name = self._detail = ""
        self._activity = None

    def _show(self) -> None:
        seconds = time.monotonic() - self._since
        self._teller.stage(self._name, self._detail, seconds, self._activity)

    def _tick(self) -> None:
        while not self._stop.wait(TICK_SECONDS):
            with self._lock:
                if self._name:
                    self._show()


def make_progress(display: Display, terminal: Terminal) -> Progress:
    """Choose the output style: JSON on request, live lines on a terminal, else plain lines.

    A caller who wants live lines where no terminal can redraw gets plain ones, and is told so.
    """
    if display.style == "json":
        return Progress(JsonTeller())
    if display.detail == "quiet":
        return Progress(QuietTeller(terminal.ci))
    if display.style in {"auto", "live"} and terminal.columns >= NARROWEST:
        from orchestrator.shared.live import LiveTeller  # rich costs time, which others save

        return Progress(LiveTeller(terminal))
    progress = Progress(PlainTeller(terminal.ci))
    if display.style == "live":
        progress.say("--progress live: no terminal that can redraw lines, so they are plain")
    return progress


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
