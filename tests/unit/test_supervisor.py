"""Tests the supervisor of containers.

The tests cover failures, silent deaths and time limits.
"""

import json
import time
import tracemalloc
import typing
from collections.abc import Iterator, Mapping

import pytest

from orchestrator.docker.api import SilentEngineError
from orchestrator.docker.containers import LONGEST_LINE
from orchestrator.docker.engine import Engine
from orchestrator.run import supervisor
from orchestrator.run.supervisor import Exit, Supervisor, read_event
from orchestrator.shared.errors import (
    ApplianceError,
    BootError,
    BuildError,
    CleanupError,
    DockerError,
    EmulationError,
    HostError,
    NetworkError,
    TimeLimitError,
)
from orchestrator.shared.progress import Progress


class SilentTeller:
    """Teller that records messages and prints nothing."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def stage(self, name: str, detail: str, seconds: float, activity: object) -> None:
        pass

    def done(self, name: str, seconds: float, failed: bool) -> None:
        pass

    def say(self, level: str, text: str, fields: Mapping[str, object]) -> None:
        self.said.append((level, text))


class FakeEngine:
    """Fake containers with given log lines and exit codes; `None` never ends."""

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = {}
        self.codes: dict[str, int | None] = {}
        self.broken: DockerError | None = None
        self.hungry: set[str] = set()
        self.odd: Exception | None = None

    def starved(self, name: str) -> bool:
        return name in self.hungry

    def logs(self, name: str) -> Iterator[str]:
        yield from self.lines.get(name, [])
        if self.broken:
            raise self.broken
        while self.codes.get(name) is None:
            time.sleep(0.02)

    def code_after_log(self, name: str) -> int:
        if self.odd:
            raise self.odd
        code = self.codes.get(name)
        return -1 if code is None else code


class World:
    """Make a supervisor of fake containers."""

    def __init__(self, seconds: float = 20) -> None:
        self.engine = FakeEngine()
        self.teller = SilentTeller()
        self.progress = Progress(self.teller)
        deadline = time.monotonic() + seconds
        self.supervisor = Supervisor(typing.cast("Engine", self.engine), self.progress, deadline)

    def run(self, service: str, *events: dict[str, object] | str, code: int | None = None) -> None:
        self.engine.lines[service] = [
            event if isinstance(event, str) else json.dumps(event) for event in events
        ]
        self.engine.codes[service] = code
        self.supervisor.follow(service, service)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.engine.codes = dict.fromkeys(world.engine.lines, 0)  # lets the threads end
    world.progress.close()


def test_a_container_that_was_killed_for_want_of_memory_is_told_from_another(world: World) -> None:
    world.engine.hungry.add("builder")
    world.run("builder", code=137)
    with pytest.raises(
        HostError, match="builder was killed because memory ran out during"
    ) as caught:
        world.supervisor.next()
    assert "--memory" in caught.value.hint
    world.engine.hungry.clear()
    world.run("builder", code=137)
    with pytest.raises(BuildError, match="builder was killed during"):
        world.supervisor.next()


def test_events_come_in_order_and_are_remembered(world: World) -> None:
    world.run(
        "cleanup",
        {"event": "table", "n": 1},
        {"event": "table", "n": 2},
        "noise",
        {"event": "cleaned"},
        code=0,
    )
    found = [world.supervisor.next() for _ in range(4)]
    assert [item[1]["event"] if isinstance(item, tuple) else item for item in found] == [
        "table",
        "table",
        "cleaned",
        Exit("cleanup", 0, starved=False),
    ]
    assert world.supervisor.event("cleanup", "table") == {"event": "table", "n": 2}
    assert world.supervisor.event("cleanup", "nothing") is None
    assert world.supervisor.event("nobody", "table") is None
    assert world.supervisor.exits == {"cleanup": 0}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("network", NetworkError),
        ("disk", HostError),
        ("emulation", EmulationError),
        ("build", BuildError),
        ("cleanup", CleanupError),
        ("unheard-of", BuildError),
        (None, BuildError),
    ],
)
def test_a_failure_becomes_its_error(
    kind: str | None, expected: type[ApplianceError], world: World
) -> None:
    event = {"event": "failed", "level": "error", "message": "why", "hint": "do", "detail": "log"}
    world.run("builder", {**event, **({"kind": kind} if kind else {})})
    with pytest.raises(expected, match=r"^why$") as caught:
        world.supervisor.next()
    assert type(caught.value) is expected
    assert (caught.value.hint, caught.value.detail) == ("do", "log")


def test_whatever_the_boot_check_fails_of_the_image_is_there(world: World) -> None:
    world.run("boot", {"event": "failed", "level": "error", "message": "full", "kind": "disk"})
    with pytest.raises(BootError, match=r"^full$"):
        world.supervisor.next()


@pytest.mark.parametrize(
    ("service", "kind"),
    [
        ("cleanup", CleanupError),
        ("registrar", EmulationError),
        ("builder", BuildError),
        ("boot", BootError),
    ],
)
def test_a_silent_death_names_the_service_and_the_stage(
    service: str, kind: type[ApplianceError], world: World
) -> None:
    world.progress.to("assemble")
    world.run(service, code=137)
    with pytest.raises(kind, match=rf"^{service} was killed during assemble$"):
        world.supervisor.next()


def test_a_traceback_is_the_errors_detail(world: World) -> None:
    world.progress.to("build")
    lines = [f"line {number}" for number in range(30)]
    world.run("builder", *lines, code=1)
    with pytest.raises(BuildError, match="builder ended with exit code 1 during build") as caught:
        world.supervisor.next()
    assert caught.value.detail.splitlines() == lines[-20:]


def test_a_container_that_vanishes_is_told(world: World) -> None:
    world.engine.broken = DockerError("docker logs: exit code 1")
    world.run("builder")
    with pytest.raises(BuildError, match="builder was killed"):
        world.supervisor.next()


@pytest.mark.parametrize("line", ["", "[]", "7", '"event"', '{"no": "event"}', "{", "null"])
def test_lines_that_are_no_events_are_noise(line: str, world: World) -> None:
    world.run("builder", line, {"event": "canary"})
    assert world.supervisor.next() == ("builder", {"event": "canary"})


def test_a_warning_is_handed_on_and_ends_nothing(world: World) -> None:
    """Events as agents write them, with structlog's `level` and the `service`."""
    warning: dict[str, object] = {
        "event": "refused",
        "level": "warning",
        "message": "refused 10.0.0.9: silence",
        "service": "cleanup",
        "peer": "x",
    }
    world.run("cleanup", warning, {"event": "table"})
    assert world.supervisor.next() == ("cleanup", warning)
    assert world.teller.said == [("warning", "cleanup: refused 10.0.0.9: silence")]
    assert world.supervisor.next() == ("cleanup", {"event": "table"})


def test_the_deadline_ends_a_run_that_hangs() -> None:
    world = World(seconds=0.15)
    world.run("builder")
    began = time.monotonic()
    with pytest.raises(TimeLimitError):
        world.supervisor.next()
    assert 0.1 <= time.monotonic() - began < 3
    world.engine.codes["builder"] = 0
    world.progress.close()


def test_patience_ends_a_wait_without_an_error(world: World) -> None:
    world.run("builder")
    began = time.monotonic()
    assert world.supervisor.next(0.1) is None
    assert world.supervisor.wait_exit("builder", 0.1) is None
    assert 0.2 <= time.monotonic() - began < 3


def test_waiting_for_one_service_passes_over_the_others(world: World) -> None:
    world.run("builder", {"event": "image"})
    world.run("cleanup", {"event": "cleaned"}, code=0)
    assert world.supervisor.wait_exit("cleanup", 10) == 0
    assert world.supervisor.wait_exit("cleanup", 0) == 0


def test_waiting_for_one_service_sees_the_failure_of_another(world: World) -> None:
    world.run("builder", {"event": "failed", "message": "full", "kind": "disk"})
    world.run("cleanup")
    with pytest.raises(HostError, match="full"):
        world.supervisor.wait_exit("cleanup", 10)


def test_an_engine_that_is_silent_is_told_as_that(world: World) -> None:
    """No container has ended, but the error of a silent engine ends the wait at once."""
    world.engine.broken = SilentEngineError("Docker does not answer: ping for 60 s")
    world.run("builder")
    with pytest.raises(SilentEngineError, match="Docker does not answer"):
        world.supervisor.next()


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (DockerError("its log has ended, and it runs"), "^its log has ended, and it runs$"),
        (KeyError("StatusCode"), "Docker's answer about builder cannot be understood"),
        (TypeError("NoneType"), "Docker's answer about builder cannot be understood"),
    ],
)
def test_an_engine_that_does_not_tell_of_the_end_ends_the_run(
    odd: Exception, words: str, world: World
) -> None:
    """The thread that follows the container ends, and nobody else would learn of the end."""
    world.engine.odd = odd
    world.run("builder", code=0)
    with pytest.raises(DockerError, match=words):
        world.supervisor.next(3)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_a_number_that_is_none_makes_a_line_text(number: str) -> None:
    assert read_event(f'{{"event": "nix", "seconds": {number}}}') is None
    assert read_event(f'{{"event": "nix", "state": [{{"seconds": {number}}}]}}') is None


def test_a_container_that_says_more_than_is_shown_has_to_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "BACKLOG", 10_000)
    count = 500
    world.run("builder", *({"event": "nix", "number": one} for one in range(count)), code=0)
    world.run("cleanup", {"event": "cleaned"}, code=0)
    until = time.monotonic() + 10
    while not world.supervisor.event("cleanup", "cleaned") and time.monotonic() < until:
        time.sleep(0.01)
    assert world.supervisor.event("cleanup", "cleaned")  # another container does not wait
    assert world.supervisor._queue.qsize() < 100
    found: list[object] = []
    while len(found) < count:
        item = world.supervisor.next()
        if isinstance(item, tuple) and item[0] == "builder":
            found.append(item[1]["number"])
    assert found == list(range(count))


def test_little_is_remembered_of_one_who_says_much(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "BACKLOG", 100_000)
    names = ["first", "long", *map(str, range(200))]
    events = (json.dumps({"event": one, "x": "x" * 199_500 * (one == "long")}) for one in names)
    world.run("builder", *events, "y" * 10**6, code=1)
    for _event in names:
        world.supervisor.next()
    with pytest.raises(BuildError, match="ended with exit code 1") as caught:
        world.supervisor.next()
    assert len(caught.value.detail) == supervisor.NOISE_LETTERS
    assert world.supervisor.event("builder", "first")
    assert not world.supervisor.event("builder", "long")
    assert not world.supervisor.event("builder", "199")


def test_few_names_are_remembered(world: World) -> None:
    names = [str(number) for number in range(supervisor.NAMES + 1)]
    world.run("builder", *(json.dumps({"event": name}) for name in names), code=0)
    for _event in names:
        world.supervisor.next()
    assert [name for name in names if not world.supervisor.event("builder", name)] == names[-1:]


@pytest.mark.parametrize("value", ["[]", "{}", '{"":0}', "0.5", '"\\ud834\\udd1e"', "[[[[0]]]]"])
def test_what_an_event_weighs_is_no_less_than_it_takes(value: str) -> None:
    count = 20_000
    line = f'{{"event":"x","a":[{",".join([value] * count)}]}}'
    tracemalloc.start()
    event = read_event(line)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert event
    assert taken < supervisor.weight(line)


def test_a_line_of_many_small_values_is_no_event() -> None:
    line = f'{{"event":"x","a":[{"[]," * 5_500_000}[]]}}'
    assert len(line) < LONGEST_LINE
    assert read_event(line) is None
    images = [{"path": f"image/{number}.img", "sha256": "0" * 64} for number in range(100_000)]
    assert read_event(json.dumps({"event": "results", "images": images}))
