"""Tests progress output: regular lines, durations, no control sequences.

JSON on request.
"""

import dataclasses
import itertools
import json
import pathlib
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping

import pytest

from orchestrator.__main__ import tell
from orchestrator.shared import progress as module
from orchestrator.shared.activity import Activity, NixState, Running
from orchestrator.shared.codes import page
from orchestrator.shared.display import Ci, Display, Terminal
from orchestrator.shared.errors import BuildError
from orchestrator.shared.live import LiveTeller
from orchestrator.shared.progress import (
    JsonTeller,
    PlainTeller,
    Progress,
    QuietTeller,
    make_progress,
)
from orchestrator.verbs.registry import Session
from tests.unit.requests import CALLER

STATE = NixState(
    done=12,
    expected=34,
    received=120 << 20,
    running=(Running("linux", "emulated", 600.0), Running("etc", "native", 3.0)),
    others=3,
)
ACTIVITY = Activity(STATE, 0.0, download=812 << 20, rate=12e6, left=850.0)

EVIL = "\x1b[2J\x1b]0;x\x07build\x1b[31ming\r\x08"


class Recorder:
    """Teller that records its calls."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def stage(self, name: str, detail: str, seconds: float, activity: object) -> None:
        self.told.append(("stage", name, detail, seconds))

    def done(self, name: str, seconds: float, failed: bool) -> None:
        self.told.append(("done", name, seconds, failed))

    def say(self, level: str, text: str, fields: Mapping[str, object]) -> None:
        self.told.append(("say", level, text, fields))


def test_plain_output_shows_that_a_long_stage_lives(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIFE_SECONDS", 0.06)
    monkeypatch.setattr(module, "TICK_SECONDS", 0.02)
    progress = Progress(PlainTeller())
    with progress.stage("build", "linux"):
        time.sleep(0.35)
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    alive = [line for line in lines if line.startswith("build: linux")]
    assert 3 <= len(alive) <= 6, "a ticker that keeps quiet within the time, and only then"
    assert lines[-1].startswith("done: build (0.")


def test_the_promise_of_two_seconds_is_kept_with_the_tickers_step() -> None:
    assert module.LIFE_SECONDS + module.TICK_SECONDS <= 2.0


def test_plain_output_tells_news_at_once_and_nothing_twice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    teller = PlainTeller()
    for detail in ("one", "one", "two"):
        teller.stage("assemble", detail, 0.1, None)
    teller.say("info", "hello", {})
    teller.say("warning", "careful", {})
    teller.done("assemble", 3.21, True)
    assert (
        capsys.readouterr().err == "assemble: one\nassemble: two\nhello\nwarning: careful\n"
        "failed: assemble (3.2 s)\n"
    )


def test_plain_output_tells_of_nix_only_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(start=100.0, step=0.61)
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    teller = PlainTeller()
    for done in range(7):
        state = dataclasses.replace(STATE, done=done)
        teller.stage("build", "building", 9.0, Activity(state, 100.0))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(";")[0] for line in lines] == [
        "build: 0 of 34 derivations",
        "build: 3 of 34 derivations",
        "build: 6 of 34 derivations",
    ]


def test_times_are_kept_also_of_what_failed() -> None:
    recorder = Recorder()
    progress = Progress(recorder)

    def fail() -> None:
        with progress.stage("build"):
            time.sleep(0.05)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    progress.close()
    assert progress.seconds["build"] >= 0.05
    assert [event[-1] for event in recorder.told if event[0] == "done"] == [True]


def test_a_stage_that_comes_again_adds_up() -> None:
    progress = Progress(Recorder())
    for name in ("images", "build", "images"):
        progress.to(name)
        time.sleep(0.05)
    progress.end()
    progress.close()
    assert list(progress.seconds) == ["images", "build"]
    assert progress.seconds["images"] >= 0.1


def test_stages_end_when_the_next_begins_and_details_do_not_end_them() -> None:
    recorder = Recorder()
    progress = Progress(recorder)
    progress.to("build", "a")
    progress.to("build", "b")
    assert progress.current == "build"
    progress.to("assemble")
    assert progress.current == "assemble"
    progress.end()
    assert progress.current == ""
    progress.end()
    progress.close()
    assert [(event[1], event[3]) for event in recorder.told if event[0] == "done"] == [
        ("build", False),
        ("assemble", False),
    ]


def test_closing_ends_the_ticker_and_the_open_stage_as_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "TICK_SECONDS", 0.02)
    before = threading.active_count()
    recorder = Recorder()
    progress = Progress(recorder)
    progress.to("build")
    progress.close()
    assert recorder.told[-1][0] == "done"
    assert recorder.told[-1][3] is True
    time.sleep(0.1)
    assert threading.active_count() <= before
    assert recorder.told[-1][0] == "done"


def test_what_builders_print_does_not_steer_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = Progress(PlainTeller())
    progress.to("build", EVIL)
    progress.say(EVIL)
    progress.close()
    said = capsys.readouterr().err
    assert said.count("building") == 2
    assert not set("\x1b\x07\r\x08") & set(said)


def test_fields_may_have_the_names_of_an_agents_event() -> None:
    """Agents' events are passed on completely: level, event and fields."""
    recorder = Recorder()
    progress = Progress(recorder)
    event: dict[str, object] = {
        "event": "refused",
        "level": "warning",
        "message": "m",
        "service": "cleanup",
        "name": "n",
    }
    progress.say("told", "warning", event)
    progress.close()
    assert recorder.told[0][:3] == ("say", "warning", "told")


def json_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    captured = capsys.readouterr()
    assert captured.out == "", "stdout carries the image"
    return [json.loads(line) for line in captured.err.splitlines()]


def test_json_has_no_command_of_githubs_runner(capsys: pytest.CaptureFixture[str]) -> None:
    progress = make_progress(Display("json"), Terminal())
    progress.say("##[set-output name=a]b")
    progress.close()
    captured = capsys.readouterr().err
    assert "##[" not in captured
    assert json.loads(captured)["message"] == "##[set-output name=a]b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a ##[x]\n ::set-output::b\n", "a ## [x]\n : :set-output::b\n"),
        ('{"a": "##[x]"}\n', '{"a": "#\\u0023[x]"}\n'),
    ],
)
def test_what_a_verb_prints_has_none_either(text: str, shown: str, tmp_path: pathlib.Path) -> None:
    who = dataclasses.replace(CALLER, ci="github")
    with (tmp_path / "out").open("wb") as out:
        Session(who, out.fileno(), 0.0, sent=False).show(text)
    assert (tmp_path / "out").read_text() == shown


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    progress = make_progress(Display("json"), Terminal(80))
    with progress.stage("build", "two\nlines"):
        progress.say(
            "found", "warning", {"entry": "x", "event": "refused", "message": "m", "level": "info"}
        )
    progress.close()
    events = json_lines(capsys)
    assert [event["event"] for event in events] == ["stage", "refused", "stage-end"]
    assert (events[0]["stage"], events[0]["detail"]) == ("build", "two\nlines")
    assert (events[1]["level"], events[1]["message"], events[1]["entry"]) == (
        "warning",
        "found",
        "x",
    )
    assert (events[2]["failed"], events[2]["stage"]) == (False, "build")
    assert all("timestamp" in event for event in events)


def test_json_shows_life_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIFE_SECONDS", 0.05)
    monkeypatch.setattr(module, "TICK_SECONDS", 0.02)
    progress = make_progress(Display("json"), Terminal())
    with progress.stage("build"):
        time.sleep(0.3)
    progress.close()
    assert len([event for event in json_lines(capsys) if event["event"] == "stage"]) >= 3


def test_a_field_may_have_any_name(capsys: pytest.CaptureFixture[str]) -> None:
    """An agent's event gives the names: some are those of structlog's own arguments."""
    names = (
        "method_name",
        "name",
        "exc_info",
        "event_kw",
        "new_values",
        "",
        "é",
        "positional_args",
    )
    progress = make_progress(Display("json"), Terminal())
    for name in names:
        progress.say("text", fields={"event": "told", name: [1], "self": 1, "level": 2})
    progress.close()
    for name, event in zip(names, json_lines(capsys), strict=True):
        assert (event["event"], event["message"], event["level"]) == ("told", "text", "info")
        assert event[name] == [1]


@pytest.mark.parametrize(
    ("display", "columns", "kind"),
    [
        (Display("json"), 120, JsonTeller),
        (Display("json", "quiet"), 120, JsonTeller),
        (Display(), 120, LiveTeller),
        (Display("live"), 40, LiveTeller),
        (Display(), 0, PlainTeller),
        (Display(), 19, PlainTeller),
        (Display("live"), 0, PlainTeller),
        (Display("plain"), 120, PlainTeller),
        (Display(detail="quiet"), 120, QuietTeller),
        (Display(detail="verbose"), 120, LiveTeller),
    ],
)
def test_the_way_of_telling_fits(display: Display, columns: int, kind: type) -> None:
    progress = make_progress(display, Terminal(columns, 24))
    progress.close()
    assert isinstance(progress._teller, kind)


def test_live_without_a_terminal_is_plain_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    make_progress(Display("live"), Terminal()).close()
    assert capsys.readouterr().err.startswith("--progress live: no terminal")


def test_quiet_says_only_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    progress = make_progress(Display(detail="quiet"), Terminal())
    with progress.stage("build"):
        progress.say("hello")
        progress.say("careful", "warning")
    progress.close()
    assert capsys.readouterr().err == "warning: careful\n"


def test_json_has_what_nix_is_doing(capsys: pytest.CaptureFixture[str]) -> None:
    progress = make_progress(Display("json"), Terminal())
    progress.to("build", "building", ACTIVITY)
    progress.close()
    found = json_lines(capsys)[0]["nix"]
    assert isinstance(found, dict)
    assert (found["done"], found["expected"], found["download"]) == (12, 34, 812 << 20)
    assert found["running"][0] == {"name": "linux", "kind": "emulated", "seconds": 600.0}
    assert found["left"] <= 850.0, "the time of the activity is the start of the machine"


# --- what Nix is doing ----------------------------------------------------------------------------


def test_an_activity_is_one_line() -> None:
    assert ACTIVITY.line(10.0) == (
        "12 of 34 derivations; 120 MiB of 812 MiB, 12 MiB/s;"
        " linux 10 min (emulated), etc 13 s, and 3 more; about 14 min left"
    )
    assert Activity(NixState(), 0.0).line(1.0) == ""


def test_a_time_that_has_passed_is_not_told() -> None:
    assert ACTIVITY.remaining(0.0) == "about 14 min left"
    assert ACTIVITY.remaining(851.0) == ""
    assert dataclasses.replace(ACTIVITY, whole=False).remaining(0.0) == "more than 14 min left"


def test_where_nothing_is_fetched_no_fetch_is_told() -> None:
    assert Activity(NixState(paths_expected=3), 0.0).fetched == ""
    assert Activity(NixState(paths_expected=3), 0.0, download=1 << 20).fetched == "0 MiB of 1 MiB"


def test_names_of_builds_steer_nothing() -> None:
    state = NixState(running=(Running(EVIL, "native", 1.0),))
    assert not set("\x1b\x07\r\x08") & set(Activity(state, 0.0).line(0.0))


# --- live lines -----------------------------------------------------------------------------------


class Screen:
    """A terminal that knows what the live lines need: cursor up, erase, no wrapping."""

    def __init__(self, columns: int) -> None:
        self.lines = [""]
        self.columns = columns
        self.row = 0

    def show(self, text: str) -> list[str]:
        """Return the screen's lines after `text` was printed on it; raise if a line wraps."""
        for found in re.finditer(r"\x1b\[([0-9?;]*)([a-zA-Z])|([^\x1b])", text):
            number, command, letter = found.groups()
            if command == "A":
                self.row -= int(number or 1)
            elif command == "K":
                self.lines[self.row] = ""
            elif letter == "\n":
                self.row += 1
                self.lines += [""] * (self.row == len(self.lines))
            elif letter and letter != "\r":
                self.lines[self.row] += letter
                assert len(self.lines[self.row]) < self.columns, self.lines[self.row]
            else:
                assert letter == "\r" or command in "mhl", found[0]
        return [line.rstrip() for line in self.lines]


def live(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, terminal: Terminal
) -> tuple[LiveTeller, Callable[[], list[str]]]:
    """Return a teller, and a function that returns what is on its terminal."""
    screen = Screen(terminal.columns)
    teller = LiveTeller(terminal, tmp_path / "size")
    return teller, lambda: screen.show(capsys.readouterr().err)


def test_live_lines_tell_what_nix_is_doing(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    teller, shown = live(capsys, tmp_path, Terminal(100, 24))
    activity = dataclasses.replace(ACTIVITY, since=time.monotonic())
    teller.stage("build", "building", 61.0, activity)
    lines = shown()
    assert lines[0].endswith("build         61 s  about 14 min left")
    assert re.fullmatch(r"  build ━+╺?━* 12 of 34 derivations", lines[1])
    assert lines[3:] == ["    linux 10 min (emulated)", "    etc 3 s", "    and 3 more"]
    teller.say("warning", "careful", {})
    teller.stage("build", "building", 61.5, activity)
    assert shown()[0] == "warning: careful"
    teller.done("build", 62.0, True)
    assert [line for line in shown() if line] == ["warning: careful", "✗ build       62.0 s"]


@pytest.mark.parametrize("columns", [20, 40, 59, 60, 80, 300])
def test_live_lines_fit_the_terminal(
    columns: int, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    teller, shown = live(capsys, tmp_path, Terminal(columns, 24))
    running = tuple(Running("x" * 400, "emulated", 1.0) for _ in range(3))
    state = dataclasses.replace(STATE, running=running)
    teller.stage("build", "y" * 400, 1.0, dataclasses.replace(ACTIVITY, state=state))
    assert any("xx" in line for line in shown())
    teller.stage("assemble", "y" * 400, 1.0, None)
    assert any("assemble" in line for line in shown())


def test_on_a_narrow_terminal_the_name_of_a_build_is_cut(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    teller, shown = live(capsys, tmp_path, Terminal(40, 24))
    running = (Running("security-wrapper-newuidmap", "emulated", 4.0), Running("a", "native", 2.0))
    state = dataclasses.replace(STATE, running=running)
    teller.stage("build", "", 1.0, Activity(state, time.monotonic()))
    assert "    security-wrapper-ne… 4 s (emulated)" in shown()
    assert "    a 2 s" in shown()


def test_live_lines_fit_a_low_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    teller, shown = live(capsys, tmp_path, Terminal(100, 6))
    running = tuple(Running(f"n{one}", "native", 1.0) for one in range(8))
    teller.stage("build", "", 1.0, Activity(dataclasses.replace(STATE, running=running), 0.0))
    assert 3 <= len(shown()) <= 5


def test_live_lines_follow_the_terminals_size(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.shared.live.REDRAW_SECONDS", 0.0)
    teller, shown = live(capsys, tmp_path, Terminal(100, 24))
    teller.stage("build", "z" * 400, 1.0, None)
    assert len(shown()[0]) == 99
    for text in ("junk", "", "1 2 3", "24 50\n"):
        (tmp_path / "size").write_text(text)
        teller.stage("build", "z" * 400, 1.0, None)
    assert len(shown()[0]) == 49


def test_live_lines_are_redrawn_twice_a_second_at_most(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    teller, shown = live(capsys, tmp_path, Terminal(100, 24))
    teller.stage("build", "first", 1.0, None)
    teller.stage("build", "second", 1.0, None)
    assert shown()[0].endswith("first")
    teller.stage("boot", "third", 1.0, None)
    assert shown()[0].endswith("third"), "a new stage is shown at once"


def test_nothing_is_redrawn_while_run_sh_prints_paths(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    teller, shown = live(capsys, tmp_path, Terminal(100, 24))
    teller.stage("deliver", "a.img", 1.0, None)
    teller.stage("clean up", "removing files", 0.0, None)
    sys.stderr.write("/out/a.img\n")
    teller.stage("clean up", "removing files", 0.5, None)
    teller.done("clean up", 1.0, False)
    lines = [line for line in shown() if line]
    assert lines == ["clean up: removing files", "/out/a.img", "✓ clean up     1.0 s"]


@pytest.mark.parametrize("color", [True, False])
def test_colors_may_be_off(
    color: bool, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    teller = LiveTeller(Terminal(100, 24, color=color), tmp_path / "size")
    teller.stage("build", "", 1.0, ACTIVITY)
    teller.done("build", 1.0, False)
    colors = re.findall(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", capsys.readouterr().err)
    assert bool(colors) is color


# --- CI -------------------------------------------------------------------------------------------


def ci_lines(capsys: pytest.CaptureFixture[str], ci: Ci) -> str:
    progress = make_progress(Display(), Terminal(ci=ci))
    with progress.stage("build it"):
        progress.say("50% of\nit", "warning")
        progress.say(" ::set-env name=x::y\na ##[error]z")
    progress.close()
    return capsys.readouterr().err


def test_github_folds_stages_and_gets_annotations(capsys: pytest.CaptureFixture[str]) -> None:
    assert ci_lines(capsys, "github").splitlines() == [
        "::group::build it",
        "build it",
        "warning: 50% of",
        "it",
        "::warning::50%25 of%0Ait",
        " : :set-env name=x::y",
        "a ## [error]z",
        "done: build it (0.0 s)",
        "::endgroup::",
    ]


def test_gitlab_folds_stages(capsys: pytest.CaptureFixture[str]) -> None:
    text = ci_lines(capsys, "gitlab")
    assert re.search(r"^\x1b\[0Ksection_start:\d+:build_it\r\x1b\[0Kbuild it\n", text)
    assert re.search(r"\x1b\[0Ksection_end:\d+:build_it\r\x1b\[0K\n$", text)
    assert "::warning" not in text


def test_an_error_is_an_annotation_and_its_log_gives_no_commands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = BuildError("it failed", hint="try it", detail="::error::forged")
    tell(error, ci="github")
    assert capsys.readouterr().err.splitlines() == [
        ": :error::forged",
        "error: it failed",
        "try: try it",
        f"see: {page(error.code)}",
        f"::error::error: it failed%0Atry: try it%0Asee: {page(error.code)}",
    ]
    tell(error)
    assert "::error::error" not in capsys.readouterr().err
