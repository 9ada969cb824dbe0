"""Tests progress output: regular lines, durations, no control sequences.

JSON on request.
"""

import json
import threading
import time
from collections.abc import Mapping

import pytest

from orchestrator.shared import progress as module
from orchestrator.shared.display import Display, Style, Terminal
from orchestrator.shared.progress import (
    JsonTeller,
    LiveTeller,
    PlainTeller,
    Progress,
    make_progress,
)

EVIL = "\x1b[2J\x1b]0;x\x07build\x1b[31ming\r\x08"


class Recorder:
    """Teller that records its calls."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def stage(self, name: str, detail: str, seconds: float) -> None:
        self.told.append(("stage", name, detail, seconds))

    def done(self, name: str, seconds: float, failed: bool) -> None:
        self.told.append(("done", name, seconds, failed))

    def say(self, level: str, text: str, fields: Mapping[str, object]) -> None:
        self.told.append(("say", level, text, fields))


def test_plain_output_shows_that_a_long_stage_lives(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIFE_SECONDS", 0.3)
    progress = Progress(PlainTeller())
    with progress.stage("build", "linux"):
        time.sleep(1.2)
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    alive = [line for line in lines if line.startswith("build: linux")]
    assert 3 <= len(alive) <= 6, "a ticker that keeps quiet within the time, and only then"
    assert lines[-1].startswith("done: build (1.")


def test_the_promise_of_two_seconds_is_kept_with_the_tickers_step() -> None:
    assert module.LIFE_SECONDS + 0.2 <= 2.0


def test_plain_output_tells_news_at_once_and_nothing_twice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    teller = PlainTeller()
    for detail in ("1 of 2", "1 of 2", "2 of 2"):
        teller.stage("build", detail, 0.1)
    teller.say("info", "hello", {})
    teller.say("warning", "careful", {})
    teller.done("build", 3.21, True)
    assert (
        capsys.readouterr().err
        == "build: 1 of 2\nbuild: 2 of 2\nhello\nwarning: careful\nfailed: build (3.2 s)\n"
    )


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


def test_closing_ends_the_ticker_and_the_open_stage_as_failed() -> None:
    before = threading.active_count()
    recorder = Recorder()
    progress = Progress(recorder)
    progress.to("build")
    progress.close()
    assert recorder.told[-1][0] == "done"
    assert recorder.told[-1][3] is True
    time.sleep(0.5)
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
    monkeypatch.setattr(module, "LIFE_SECONDS", 0.2)
    progress = make_progress(Display("json"), Terminal())
    with progress.stage("build"):
        time.sleep(0.9)
    progress.close()
    assert len([event for event in json_lines(capsys) if event["event"] == "stage"]) >= 3


def test_the_live_line_fits_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    teller = LiveTeller(40)
    teller.stage("build", "x" * 200, 1.0)
    teller.done("build", 1.0, False)
    teller.done("boot", 2.0, True)
    said = capsys.readouterr().err
    live = said.split("\x1b[2K")[1].rstrip("\r")
    assert len(live) < 40
    assert "✓" in said
    assert "✗" in said
    assert "\n" not in live


@pytest.mark.parametrize(
    ("style", "columns", "kind"),
    [
        ("json", 120, JsonTeller),
        ("auto", 120, LiveTeller),
        ("auto", 0, PlainTeller),
        ("auto", 20, PlainTeller),
        ("plain", 120, PlainTeller),
    ],
)
def test_the_way_of_telling_fits(style: Style, columns: int, kind: type) -> None:
    progress = make_progress(Display(style), Terminal(columns))
    progress.close()
    assert isinstance(progress._teller, kind)
