"""Progress output on stderr: stages with durations, at least one line every two seconds.

Three output styles: one live line on a terminal, plain lines elsewhere, structlog's JSON events
on request.
"""

import collections.abc
import contextlib
import sys
import threading
import time
import typing
from collections.abc import Iterator

import rich.console
import structlog

from orchestrator.shared.display import Display, Terminal
from orchestrator.shared.text import plain

#: Longest silence of plain output in seconds, just below the promised two.
LIFE_SECONDS = 1.8

SPINNER = "|/-\\"


class Teller(typing.Protocol):
    """One style of progress output."""

    def stage(self, name: str, detail: str, seconds: float) -> None:
        """Show that the stage `name` is running."""

    def done(self, name: str, seconds: float, failed: bool) -> None:
        """Show that the stage `name` has ended."""

    def say(self, level: str, text: str, fields: collections.abc.Mapping[str, object]) -> None:
        """Show a message."""


class PlainTeller:
    """Prints plain lines, for logs and CI."""

    def __init__(self) -> None:
        """Start without a last line."""
        self._last = ""
        self._told = 0.0

    def stage(self, name: str, detail: str, seconds: float) -> None:
        """Print a line if the detail is new or the last line is LIFE_SECONDS old."""
        text = f"{name}: {detail}" if detail else name
        now = time.monotonic()
        if text == self._last and now - self._told < LIFE_SECONDS:
            return
        self._last, self._told = text, now
        _write(f"{text}{f' ({seconds:.0f} s)' if seconds >= 1 else ''}")

    def done(self, name: str, seconds: float, failed: bool) -> None:
        """Print the stage's duration."""
        _write(f"{'failed' if failed else 'done'}: {name} ({seconds:.1f} s)")

    def say(self, level: str, text: str, fields: collections.abc.Mapping[str, object]) -> None:  # noqa: ARG002
        """Print the text, with its level unless that is "info"."""
        _write(text if level == "info" else f"{level}: {text}")


class LiveTeller:
    """Redraws one terminal line for the current stage; ended stages stay above it."""

    def __init__(self, columns: int) -> None:
        """`columns` is the terminal's width.

        run.sh passes the width, because this process has no terminal.
        """
        self._console = rich.console.Console(
            file=sys.stderr,
            force_terminal=True,
            width=columns,
            highlight=False,
            markup=False,
            legacy_windows=False,
        )
        self._frame = 0

    def stage(self, name: str, detail: str, seconds: float) -> None:
        """Redraw the live line."""
        self._frame = (self._frame + 1) % len(SPINNER)
        text = f"{SPINNER[self._frame]} {name:<10} {seconds:5.1f} s  {detail}"
        text = text.replace("\n", " ").replace("\t", " ")
        sys.stderr.write(f"\r\x1b[2K{text[: self._console.width - 1]}")
        sys.stderr.flush()

    def done(self, name: str, seconds: float, failed: bool) -> None:
        """Replace the live line by the ended stage, with ✓ or ✗."""
        self._clear()
        self._console.print("✗" if failed else "✓", style="red" if failed else "green", end=" ")
        self._console.print(f"{name:<10} {seconds:5.1f} s")

    def say(self, level: str, text: str, fields: collections.abc.Mapping[str, object]) -> None:  # noqa: ARG002
        """Print a line above the live line."""
        self._clear()
        style = {"warning": "yellow", "error": "bold red"}.get(level)
        self._console.print(
            text if level == "info" else f"{level}: {text}", style=style, soft_wrap=True
        )

    def _clear(self) -> None:
        sys.stderr.write("\r\x1b[2K")


class JsonTeller:
    """Prints structlog events, one JSON object per line."""

    def __init__(self) -> None:
        """Configure structlog for this process."""
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(),
            ],
            logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        )
        self._log = structlog.get_logger()
        self._told = ("", 0.0)

    def stage(self, name: str, detail: str, seconds: float) -> None:
        """Log an event if the detail is new or the last event is LIFE_SECONDS old."""
        now = time.monotonic()
        if self._told[0] == f"{name}{detail}" and now - self._told[1] < LIFE_SECONDS:
            return
        self._told = (f"{name}{detail}", now)
        self._log.info("stage", stage=name, detail=detail, seconds=round(seconds, 3))

    def done(self, name: str, seconds: float, failed: bool) -> None:
        """Log the stage's end."""
        self._log.info("stage-end", stage=name, seconds=round(seconds, 3), failed=failed)

    def say(self, level: str, text: str, fields: collections.abc.Mapping[str, object]) -> None:
        """Log the event under its name, with the text and all its fields."""
        # Names of structlog's own arguments, which no field may have.
        own = {"event", "level", "message", "self"}
        others = {key: value for key, value in fields.items() if key not in own}
        getattr(self._log, level)(str(fields.get("event", "note")), message=text, **others)


class Progress:
    """Stages of a run: the current one, and the duration of each ended one in `seconds`."""

    def __init__(self, teller: Teller) -> None:
        """Start the thread that refreshes the output."""
        self.seconds: dict[str, float] = {}
        self._teller = teller
        self._lock = threading.Lock()
        self._name = ""
        self._detail = ""
        self._since = 0.0
        self._stop = threading.Event()
        threading.Thread(target=self._tick, daemon=True).start()

    @property
    def current(self) -> str:
        """Name of the current stage, empty if there is none."""
        return self._name

    def to(self, name: str, detail: str = "") -> None:
        """End the current stage and start stage `name`; if it is current, only set its detail."""
        with self._lock:
            if name != self._name:
                self._end(failed=False)
                self._name, self._since = name, time.monotonic()
            self._detail = plain(detail)
            self._teller.stage(self._name, self._detail, time.monotonic() - self._since)

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

    def _tick(self) -> None:
        while not self._stop.wait(0.2):
            with self._lock:
                if self._name:
                    self._teller.stage(self._name, self._detail, time.monotonic() - self._since)


def make_progress(display: Display, terminal: Terminal) -> Progress:
    """Choose the output style.

    JSON on request, a live line on a terminal of at least 40 columns, else plain lines.
    """
    if display.style == "json":
        return Progress(JsonTeller())
    if display.style in {"auto", "live"} and terminal.columns >= 40:
        return Progress(LiveTeller(terminal.columns))
    return Progress(PlainTeller())


def _write(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
