"""Tests what the builder says of Nix while Nix runs, and what is shown of it."""

import dataclasses
import io
import json
import threading
import time

import pytest

from orchestrator.agents import events
from orchestrator.agents.builder import reporter
from orchestrator.agents.builder.nixlog import NixLog
from orchestrator.agents.builder.reporter import LINES, Reporter, state_of
from orchestrator.decide.estimate import Estimate
from orchestrator.run.activity import Follower
from orchestrator.shared.activity import NixState
from orchestrator.shared.cost import Cost, Fetch
from orchestrator.shared.display import Display, Terminal
from orchestrator.shared.errors import BuildError
from orchestrator.shared.progress import make_progress

BUILDS, COPIES, BUILD, TRANSFER = 104, 103, 105, 101


def started(number: int, kind: int, field: str = "") -> str:
    fields = [field] if field else []
    return _line(action="start", id=number, type=kind, fields=fields)


def progressed(number: int, done: int, expected: int) -> str:
    return _line(action="result", id=number, type=105, fields=[done, expected, 0, 0])


def stopped(number: int) -> str:
    return _line(action="stop", id=number)


def said(number: int, text: str) -> str:
    return _line(action="result", id=number, type=101, fields=[text])


def _line(**event: object) -> str:
    return f"@nix {json.dumps(event)}"


@pytest.fixture
def log() -> NixLog:
    return NixLog(io.StringIO())


def feed(log: NixLog, *lines: str) -> None:
    for line in lines:
        log.feed(line)


def test_a_state_has_builds_paths_and_bytes(log: NixLog) -> None:
    feed(log, started(1, BUILDS), started(2, COPIES), progressed(1, 3, 9), progressed(2, 1, 4))
    feed(log, started(3, TRANSFER, "https://x/a"), progressed(3, 100, 900), progressed(3, 250, 900))
    feed(log, started(4, TRANSFER, "https://x/b"), progressed(4, 50, 60), stopped(4))
    feed(log, *(started(10 + one, BUILD, f"/nix/store/h-b{one}.drv") for one in range(10)))
    state = state_of(log)
    assert (state.done, state.expected) == (3, 9)
    assert (state.paths_done, state.paths_expected) == (1, 4)
    assert state.received == 300
    assert [one.name for one in state.running] == [f"b{one}" for one in range(8)]
    assert state.others == 2
    feed(log, stopped(10))
    assert state_of(log).running[0].name == "b1"


def test_a_download_that_begins_again_counts_no_byte_twice_backwards(log: NixLog) -> None:
    feed(log, started(3, TRANSFER, "https://x/a"), progressed(3, 100, 900), progressed(3, 20, 900))
    assert state_of(log).received == 100


def told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_change_is_told_once(
    log: NixLog, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIXOS_IMAGE_LOG", "json")
    events.configure("builder")
    one = Reporter(log, threading.Lock())
    one.tell()
    feed(log, started(1, BUILDS), progressed(1, 0, 2), started(9, BUILD, "/nix/store/h-a.drv"))
    feed(log, said(9, "compiling"))
    one.tell()
    time.sleep(0.15)  # a build that goes on is no change
    one.tell()
    (event,) = told(capsys)
    assert event["event"] == "nix"


def test_a_change_is_told_also_if_nix_says_nothing_more(
    log: NixLog, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIXOS_IMAGE_LOG", "json")
    monkeypatch.setattr(reporter, "INTERVAL_SECONDS", 0.05)
    events.configure("builder")
    with Reporter(log, threading.Lock()).running():
        feed(log, started(1, BUILDS), progressed(1, 0, 2))
        deadline = time.monotonic() + 20
        found: list[dict[str, object]] = []
        while not found and time.monotonic() < deadline:
            time.sleep(0.05)
            found = told(capsys)
        assert found, "it is told within the block"
        feed(log, progressed(1, 2, 2))
    assert told(capsys)[-1]["state"] == dataclasses.asdict(NixState(done=2, expected=2)) | {
        "running": []
    }


def test_log_lines_are_told_on_request_only(
    log: NixLog, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIXOS_IMAGE_LOG", "json")
    events.configure("builder")
    for verbose in (False, True):
        one = Reporter(log, threading.Lock(), verbose)
        feed(log, started(9, BUILD, "/nix/store/h-a.drv"))
        feed(log, *(said(9, f"\x1b[2Jline {number}") for number in range(LINES + 5)))
        one.tell()
    lines = [event["lines"] for event in told(capsys) if event["event"] == "log"]
    expected = ["…", *(f"a> line {number}" for number in range(5, LINES + 5))]
    assert lines == [expected]


# --- the orchestrator's side ----------------------------------------------------------------------

COST = Cost(
    images=(),
    fetches=(Fetch("", 1, 5000, 9000),),
    works=(),
    content=0,
    store_free=0,
    work_free=0,
    one_disk=True,
)


def sent(state: NixState) -> object:
    """Return the state as it comes from the builder."""
    return json.loads(json.dumps(dataclasses.asdict(state)))


def test_rate_and_time_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    follower = Follower()
    before = follower.activity(sent(NixState(received=1000)))
    assert (before.rate, before.download, before.left) == (0.0, 0, None)
    follower.begin(COST, Estimate(60.0, 1, 0, whole=True))
    now = 105.0
    found = follower.activity(sent(NixState(received=3000)))
    assert (found.rate, found.download, found.left, found.whole) == (400.0, 5000, 55.0, True)
    now = 130.0
    assert follower.activity(sent(NixState(received=3000))).rate == 0.0
    follower.begin(COST, Estimate(60.0, 4, 404, whole=False))
    assert follower.activity(sent(NixState())).left is None, "404 builds take longer than 4"
    follower.begin(COST, Estimate(60.0, 4, 4, whole=False))
    assert follower.activity(sent(NixState())).left


@pytest.mark.parametrize("state", [None, [], {"done": -1}, {"running": [{"name": "a\nb"}]}])
def test_a_state_that_is_none_is_an_error(state: object) -> None:
    with pytest.raises(BuildError, match="the builder's announcement is invalid"):
        Follower().activity(state)


def test_what_cannot_be_shown_does_not_end_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    progress = make_progress(Display("plain"), Terminal())
    events_: list[dict[str, object]] = [
        {"event": "nix", "done": "\ud800"},
        {"event": "log", "lines": 7},
    ]
    for event in events_:
        Follower().show(progress, str(event["event"]), event)
    progress.close()
    assert capsys.readouterr().err == ""


def test_log_lines_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    progress = make_progress(Display("plain"), Terminal())
    Follower().show(progress, "log", {"event": "log", "lines": ["a> one", "a> \x1b[2Jtwo"]})
    progress.close()
    assert capsys.readouterr().err == "a> one\na> two\n"
