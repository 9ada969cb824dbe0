"""Live progress on a terminal: the current stage with what Nix is doing, redrawn in place.

This process has no terminal. run.sh tells the size at the start, and writes it to a file of this
container after each change (`caller/terminal.sh`).
"""

import collections.abc
import pathlib
import sys
import time

import rich.console
import rich.live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.shared.activity import Activity
from orchestrator.shared.display import Terminal
from orchestrator.shared.progress import PlainTeller

#: Seconds between two redraws: each costs a few milliseconds.
REDRAW_SECONDS = 0.5

#: Widest line. Narrow lines survive that a terminal becomes narrower.
WIDEST = 100

#: Least columns with room for bars.
BARS = 60

#: File with the terminal's rows and columns after a change.
SIZE = pathlib.Path("/tmp/terminal")  # noqa: S108 - this container's own

#: Stages in which run.sh prints to the same terminal (the images' paths): nothing is redrawn then.
CALM = ("clean up",)

SPINNER = "|/-\\"
STYLES = {"warning": "yellow", "error": "bold red"}


class LiveTeller:
    """Redraws some lines for the current stage; ended stages and messages stay above them."""

    def __init__(self, terminal: Terminal, size_file: pathlib.Path = SIZE) -> None:
        """`size_file` has rows and columns, separated by a blank, once they have changed."""
        self._console = rich.console.Console(
            file=sys.stderr,
            force_terminal=True,
            no_color=not terminal.color,
            highlight=False,
            markup=False,
            emoji=False,
            legacy_windows=False,
        )
        self._size_file = size_file
        self._size_time = 0
        self._resize(terminal.rows or 24, terminal.columns)
        self._live: rich.live.Live | None = None
        self._frame = 0
        self._drawn = 0.0
        self._shown: tuple[str, str, Activity | None] = ("", "", None)
        self._calm = PlainTeller()

    def stage(self, name: str, detail: str, seconds: float, activity: Activity | None) -> None:
        """Redraw, at once for a new stage, else each REDRAW_SECONDS; of CALM stages print lines."""
        if name in CALM:
            self._stop()
            self._calm.stage(name, detail, seconds, None)
            return
        now = time.monotonic()
        if self._live and name == self._shown[0] and now - self._drawn < REDRAW_SECONDS:
            return
        self._look_at_size()
        self._frame = (self._frame + 1) % len(SPINNER)
        self._shown, self._drawn = (name, detail, activity), now
        picture = self._picture(name, detail, seconds, activity, now)
        if not self._live:
            self._live = rich.live.Live(
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            )
            self._live.start()
        self._live.update(picture, refresh=True)

    def done(self, name: str, seconds: float, failed: bool) -> None:
        """Replace the redrawn lines by the ended stage, with ✓ or ✗."""
        self._stop()
        self._console.print("✗" if failed else "✓", style="red" if failed else "green", end=" ")
        self._console.print(f"{name:<10} {seconds:5.1f} s")

    def say(self, level: str, text: str, fields: collections.abc.Mapping[str, object]) -> None:  # noqa: ARG002
        """Print a message above the redrawn lines."""
        self._stop()
        words = text if level == "info" else f"{level}: {text}"
        self._console.print(words, style=STYLES.get(level), soft_wrap=True)

    def _stop(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def _picture(
        self, name: str, detail: str, seconds: float, activity: Activity | None, now: float
    ) -> rich.console.RenderableType:
        head = f"{SPINNER[self._frame]} {name:<10} {seconds:5.0f} s"
        left = activity.remaining(now) if activity else ""
        words = " ".join(detail.split()) if not activity or not activity.state.expected else ""
        lines: list[rich.console.RenderableType] = [
            self._line("  ".join(part for part in (head, left or words) if part), "bold")
        ]
        if activity:
            lines += self._counted(activity)
            # The head and the counts stay on a low terminal.
            room = max(0, self._rows - len(lines) - 2)
            lines += [self._run(run) for run in activity.runs(now)[:room]]
        return rich.console.Group(*lines)

    def _counted(self, activity: Activity) -> list[rich.console.RenderableType]:
        state, found = activity.state, list[rich.console.RenderableType]()
        if state.expected:
            found.append(self._bar("build", state.done, state.expected, activity.counts))
        if activity.fetched:
            total = max(activity.download, state.received)
            found.append(self._bar("fetch", state.received, total, activity.fetched))
        return found

    def _bar(self, what: str, done: int, total: int, words: str) -> rich.console.RenderableType:
        if self._columns < BARS:
            return self._line(f"  {what} {words}")
        table = Table.grid(padding=(0, 1))
        bar = ProgressBar(max(total, 1), done, width=20)
        room = self._columns - 32
        table.add_row(Text(f"  {what}"), bar, self._line(words, room=room))
        return table

    def _run(self, text: str) -> Text:
        # On a narrow terminal the name is cut, not the time and that it is emulated.
        name, _, rest = text.partition(" ")
        room = self._columns - len(f"     {rest}")
        shown = f"{name[: room - 1]}…" if len(name) > room > 8 else name
        return self._line(f"    {shown} {rest}", "yellow" if text.endswith("(emulated)") else "")

    def _line(self, text: str, style: str = "", room: int = 0) -> Text:
        line = Text(text, style=style, no_wrap=True, overflow="ellipsis")
        line.truncate(room or self._columns, overflow="ellipsis")
        return line

    def _look_at_size(self) -> None:
        try:
            changed = self._size_file.stat().st_mtime_ns
            if changed == self._size_time:
                return
            rows, columns = map(int, self._size_file.read_text().split())
        except (OSError, ValueError):  # no change, or not wholly written yet
            return
        self._size_time = changed
        if rows > 0 and columns > 0:
            self._resize(rows, columns)

    def _resize(self, rows: int, columns: int) -> None:
        self._rows = rows
        # A full line would make some terminals wrap.
        self._columns = min(columns - 1, WIDEST)
        self._console.size = rich.console.ConsoleDimensions(columns, rows)
