"""Tests calls to Docker: time limits, errors, and no unnecessary calls."""

import contextlib
import datetime
import gc
import itertools
import json
import os
import pathlib
import signal
import threading
import time
import typing
import urllib.parse
from collections.abc import Callable, Iterator

import pytest

from orchestrator.docker import api, census, one_step, stored
from orchestrator.docker.api import AHEAD, Api, NotThereError, SilentEngineError
from orchestrator.docker.compose import INSTEAD_OF_PROFILE
from orchestrator.docker.engine import Engine
from orchestrator.docker.labels import LABEL, SOURCE_LABEL
from orchestrator.docker.one_step import OneStep
from orchestrator.docker.stored import Recipe
from orchestrator.run.runs import forget_dead_runs
from orchestrator.shared import retry
from orchestrator.shared.debian_package import Package
from orchestrator.shared.errors import DockerError, TerminatedRunError, UsageError
from tests.unit.engine_stub import Answer, Handler, Server, stub

__all__ = ["stub"]

NOWHERE = pathlib.Path("/nonexistent")
PATIENCE = 0.2


@pytest.fixture
def engine(stub: Server) -> Iterator[Engine]:
    with contextlib.closing(Api(PATIENCE)) as door:
        yield Engine("0badcafe", NOWHERE, door)


CONTAINER = {
    "Names": ["/other/alias", "/nixos-image-0badcafe-builder-1"],
    "Labels": {"org.nixos-image.run": "0badcafe"},
}


@pytest.mark.parametrize(
    ("state", "running"),
    [("running", True), ("paused", True), ("exited", False), ("created", False)],
)
def test_containers_are_told_by_name_run_and_whether_they_run(
    state: str, running: bool, engine: Engine, stub: Server
) -> None:
    stub.answers["GET /containers/json"] = (200, [CONTAINER | {"State": state}])
    name = "nixos-image-0badcafe-builder-1"
    assert census.containers(engine) == {name: ("0badcafe", running)}


def test_runs_are_those_of_containers_networks_and_volumes(engine: Engine, stub: Server) -> None:
    def of(run: str) -> dict[str, object]:
        project = f"nixos-image-{run}"
        return {"Name": project, "Id": run, "Labels": {"com.docker.compose.project": project}}

    stub.answers["GET /containers/json"] = (200, [CONTAINER | {"State": "exited"}])
    stub.answers["GET /networks"] = (200, [of("aa"), of("bb") | {"Labels": None}])
    stub.answers["GET /volumes"] = (200, {"Volumes": [{"Name": "nixos-image-work-cc"}]})
    assert census.runs(engine) == {"0badcafe", "aa", "cc"}
    stub.answers["GET /volumes"] = (200, {"Volumes": None})
    assert census.runs(engine) == {"0badcafe", "aa"}


def test_only_old_containers_that_never_started_are_abandoned(engine: Engine, stub: Server) -> None:
    old = CONTAINER | {"State": "created", "Created": 1767322800}
    young = old | {"Names": ["/young"], "Created": int(time.time())}
    begun = old | {"Names": ["/begun"], "State": "exited"}
    stub.answers["GET /containers/json"] = (200, [young, begun, old])
    assert census.abandoned(engine) == ["nixos-image-0badcafe-builder-1"]


def test_what_the_clock_was_set_back_for_is_abandoned(engine: Engine, stub: Server) -> None:
    """Else it would stay until that time has come."""
    future = CONTAINER | {"State": "created", "Created": int(time.time()) + 86400}
    making = {"Names": ["/nixos-image-make-01"], "State": "exited", "Created": 1}
    stub.answers["GET /containers/json"] = (200, [future, making])
    state = {"Running": False, "FinishedAt": "9999-12-31T23:59:59Z"}
    stub.answers["GET /containers/nixos-image-make-01/json"] = (200, {"State": state})
    found = census.abandoned(engine)
    assert found == ["nixos-image-0badcafe-builder-1", "nixos-image-make-01"]


@pytest.mark.parametrize("suffix", ["", "-prepare", "-trees", "-send"])
def test_a_run_is_not_dead_while_run_sh_may_start_its_container(
    suffix: str, engine: Engine, stub: Server
) -> None:
    def container(name: str, age: int) -> dict[str, object]:
        labels = {LABEL: "true", "org.nixos-image.run": name.split("-")[2]}
        made = int(time.time()) - age
        return {"Names": [f"/{name}"], "State": "created", "Labels": labels, "Created": made}

    asked: list[str] = []
    found = [
        container(f"nixos-image-aa{suffix}", 60),
        container("nixos-image-bb-builder-1", 60),  # its orchestrator was killed
        container(f"nixos-image-cc{suffix}", census.ABANDONED_SECONDS + 60),
    ]

    def remove(handler: Handler) -> None:
        name = urllib.parse.urlsplit(handler.path).path.rpartition("/")[2]
        asked.append(name)
        found[:] = [one for one in found if one["Names"] != [f"/{name}"]]
        handler.send(204, b"")

    def listed(handler: Handler) -> None:
        filters = json.loads(
            urllib.parse.parse_qs(urllib.parse.urlsplit(handler.path).query)["filters"][0]
        )
        project = filters["label"][0].partition("com.docker.compose.project=nixos-image-")[2]
        handler.send(200, [one for one in found if project in str(one["Names"])])

    stub.answers["GET /containers/json"] = listed
    stub.answers["GET /networks"] = (200, [])
    stub.answers["GET /volumes"] = (200, {"Volumes": [{"Name": "nixos-image-work-cc"}]})
    for one in found:
        (name,) = typing.cast("list[str]", one["Names"])
        stub.answers[f"DELETE /containers{name}"] = remove
    assert forget_dead_runs(engine) == {"bb", "cc"}
    assert asked == [f"nixos-image-cc{suffix}", "nixos-image-bb-builder-1"]


def test_what_is_in_use_is_not_abandoned_when_the_clock_was_set_forward(
    engine: Engine, stub: Server
) -> None:
    labels = {LABEL: "true", "org.nixos-image.run": "0badcafe"}
    waiting = {"Names": ["/nixos-image-0badcafe"], "State": "created", "Labels": labels}
    sending = {"Names": ["/nixos-image-0badcafe-send"], "State": "running", "Labels": labels}
    making = {"Names": ["/nixos-image-make-01"], "State": "running", "Labels": {LABEL: "true"}}
    found = [one | {"Created": 1} for one in (waiting, sending, making)]
    stub.answers["GET /containers/json"] = (200, found)
    assert census.abandoned(engine) == []
    stub.answers["GET /containers/json"] = (200, found[:1])
    assert census.abandoned(engine) == ["nixos-image-0badcafe"]


def test_a_container_that_has_become_no_image_is_abandoned(engine: Engine, stub: Server) -> None:
    def ended(seconds: float) -> Answer:
        then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)
        state = {"Running": False, "FinishedAt": then.isoformat()}
        return (200, {"State": state})

    maker = {"State": "exited", "Labels": {LABEL: "true"}, "Created": 1}
    names = ["nixos-image-make-01", "nixos-image-make-02", "nixos-image-make-03", "users"]
    made = {"Names": ["/nixos-image-make-04"], "State": "created", "Created": int(time.time())}
    found = [made, *(maker | {"Names": [f"/{name}"]} for name in names)]
    stub.answers["GET /containers/json"] = (200, found)
    stub.answers["GET /containers/nixos-image-make-01/json"] = ended(60)  # it becomes one now
    stub.answers["GET /containers/nixos-image-make-02/json"] = ended(census.ABANDONED_SECONDS + 60)
    assert census.abandoned(engine) == ["nixos-image-make-02"]  # 03 is being removed


@pytest.mark.parametrize(("name", "late"), [("Engine", False), ("Podman Engine", True)])
def test_who_fills_volumes_late_is_told_by_name(
    name: str, late: bool, engine: Engine, stub: Server
) -> None:
    version = {"ApiVersion": "1.41", "Components": [{"Name": name}, {"Name": "Conmon"}]}
    stub.answers["GET /version"] = (200, version)
    assert engine.fills_volumes_late() == late
    stub.answers["GET /version"] = (200, {"ApiVersion": "1.41"})
    assert not engine.fills_volumes_late()


def test_what_an_engine_refuses_is_told_in_its_words(engine: Engine, stub: Server) -> None:
    stub.answers["POST /containers/x/start"] = (500, {"message": "first\nno space left"})
    with pytest.raises(DockerError, match=r"^starting x: no space left$"):
        engine.start(["x"])


def test_a_container_that_runs_on_after_its_log_has_lost_it(
    stub: Server, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "exit_code", lambda _name, _patience: -1)
    assert engine.code_after_log("x") == -1
    stub.answers["GET /containers/x/json"] = (200, {"State": {"Running": False}})
    assert engine.code_after_log("x") == -1
    stub.answers["GET /containers/x/json"] = (200, {"State": {"Running": True}})
    with pytest.raises(DockerError, match="has ended the log of x, which still runs"):
        engine.code_after_log("x")


def test_what_is_gone_already_is_no_error(engine: Engine) -> None:
    engine.stop("x", 1)
    engine.kill("x")
    engine.remove("x")
    engine.remove_volume("x")
    assert engine.exit_code("x") == -1
    assert not engine.starved("x")
    assert engine.image_source("x") == ""
    assert engine.volume_labels("x") == {}
    with pytest.raises(NotThereError, match="docker inspect x: no such thing"):
        engine.inspect(["x"])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_engine_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    with pytest.raises(DockerError, match=r"ping: Docker cannot be reached: .*No such file"):
        Api(PATIENCE).ping()
    gc.collect()  # collects the socket that docker-py left open


@pytest.mark.parametrize("part", ["head", "body"])
def test_an_answer_that_drips_ends_in_time(
    part: str, engine: Engine, stub: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole answer has a limit: each byte of it comes in time."""

    def drip(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n")
        handler.wfile.write(b"X: " if part == "head" else b"\r\n")
        while not stub.ended.wait(PATIENCE / 20):
            handler.wfile.write(b"x")

    engine.api.ping()
    engine.api.patience = PATIENCE / 4
    monkeypatch.setattr("orchestrator.docker.api.SPARE_SECONDS", 0.1)
    stub.answers["GET /_ping"] = drip
    began = time.monotonic()
    with pytest.raises(SilentEngineError, match=r"^Docker does not answer: ping for "):
        engine.api.ping()
    assert time.monotonic() - began < 10


CALLS: dict[str, Callable[[Engine], object]] = {
    "docker info": Engine.info,
    "docker ps": census.containers,
    "docker network ls": lambda engine: engine.networks("x"),
    "docker image inspect x": lambda engine: engine.image_source("x"),
    "starting x": lambda engine: engine.start(["x"]),
    "stopping x": lambda engine: engine.stop("x", 0),
    "killing x": lambda engine: engine.kill("x"),
    "removing x": lambda engine: engine.remove("x"),
    "docker volume create x": lambda engine: engine.make_volume("x", {}),
    "true in x": lambda engine: engine.execute("x", ["true"]),
    "ping": lambda engine: list(engine.logs("x")),
}


@pytest.mark.parametrize("what", CALLS)
def test_a_silent_engine_ends_each_call(what: str, engine: Engine, stub: Server) -> None:
    engine.api.ping()
    stub.silent.set()
    engine.api.patience = PATIENCE / 6  # no answer will come: only the limit is waited for
    began = time.monotonic()
    with pytest.raises(SilentEngineError, match=f"^Docker does not answer: {what} for ") as caught:
        CALLS[what](engine)
    assert time.monotonic() - began < 5
    assert caught.value.exit_code == 3
    assert caught.value.hint


@pytest.mark.parametrize(("text", "seconds"), [("", 60), ("7.5", 7.5)])
def test_patience_is_the_environments(
    text: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIXOS_IMAGE_PATIENCE", text)
    assert Api().patience == seconds


@pytest.mark.parametrize("text", ["x", "0", "-1", "nan", "inf", "1m"])
def test_what_is_no_time_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIXOS_IMAGE_PATIENCE", text)
    with pytest.raises(UsageError, match=f"NIXOS_IMAGE_PATIENCE: '{text}' is no"):
        Api()


def test_an_engine_that_was_silent_gets_little_time_until_it_answers(
    engine: Engine, stub: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "LOST_SECONDS", 0.1)
    engine.api.ping()
    assert engine.api.beat == PATIENCE / 2
    stub.silent.set()
    with pytest.raises(SilentEngineError):
        engine.api.ping()
    assert engine.api.beat == 0.1
    began = time.monotonic()
    with pytest.raises(SilentEngineError):
        engine.api.call("starting", lambda client: client.start("x"), times=1000)
    assert time.monotonic() - began < 10
    stub.silent.clear()
    engine.api.ping()
    assert engine.api.beat == PATIENCE / 2


def silent_after(stub: Server, line: bytes) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.begin_stream()
        handler.part(1, line)
        stub.silent.set()
        stub.ended.wait()

    return answer


def test_an_engine_that_falls_silent_within_a_log_is_noticed(engine: Engine, stub: Server) -> None:
    stub.answers["GET /containers/x/logs"] = silent_after(stub, b"a line\n")
    lines = engine.logs("x")
    assert next(lines) == "a line"
    with pytest.raises(SilentEngineError):
        next(lines)


def test_saved_images_do_not_fill_the_memory_when_nobody_reads_them(
    engine: Engine, stub: Server
) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while taken < 10 * AHEAD:
            taken += 1
            yield b"x"

    first = next(engine.api.stream("docker save", lambda _client: endless()))
    time.sleep(0.2)
    assert first == b"x"
    assert taken <= AHEAD + 2


def test_images_are_saved_together_and_by_their_ids(engine: Engine, stub: Server) -> None:
    asked: list[str] = []

    def save(handler: Handler) -> None:
        asked.append(urllib.parse.urlsplit(handler.path).query)
        handler.send(200, b"archive")

    stub.answers["GET /images/get"] = save
    assert b"".join(engine.save_images(["sha256:a", "sha256:b"])) == b"archive"
    assert asked == ["names=sha256%3Aa&names=sha256%3Ab"]


def test_a_log_may_be_silent_as_long_as_the_engine_answers(engine: Engine, stub: Server) -> None:
    def answer(handler: Handler) -> None:
        handler.begin_stream()
        time.sleep(3 * PATIENCE)
        handler.part(1, b"late\n")
        handler.end_stream()

    stub.answers["GET /containers/x/logs"] = answer
    assert list(engine.logs("x")) == ["late"]
    assert stub.asked.count("GET /_ping") > 2


def test_a_log_ends_when_patience_does(engine: Engine, stub: Server) -> None:
    def answer(handler: Handler) -> None:
        handler.begin_stream()
        stub.ended.wait()

    stub.answers["GET /containers/x/logs"] = answer
    began = time.monotonic()
    assert list(engine.logs("x", 0.2)) == []
    assert 0.2 <= time.monotonic() - began < 3


def test_lines_come_whole_however_the_engine_cuts_them(engine: Engine, stub: Server) -> None:
    """Long lines arrive in parts, mixed with the other stream's."""

    def answer(handler: Handler) -> None:
        handler.begin_stream()
        for stream, text in ((1, b"one "), (2, b"warn"), (1, b"line\ntwo\nth"), (2, b"ing\n")):
            handler.part(stream, text)
        handler.part(1, b"ree")
        handler.end_stream()

    stub.answers["GET /containers/x/logs"] = answer
    assert list(engine.logs("x")) == ["one line", "two", "warning", "three"]


def test_a_line_without_an_end_takes_no_memory(
    engine: Engine, stub: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.docker.containers.LONGEST_LINE", 1000)

    def answer(handler: Handler) -> None:
        handler.begin_stream()
        handler.part(1, b"first\n" + b"x" * 900)
        handler.part(1, b"x" * 200)
        stub.ended.wait()

    stub.answers["GET /containers/x/logs"] = answer
    lines = engine.logs("x")
    assert next(lines) == "first"
    with pytest.raises(DockerError, match="x has printed a line of more than 1000 bytes"):
        next(lines)


def executing(text: bytes) -> Callable[[Handler], None]:
    """Answer an exec call whose command prints `text`."""

    def answer(handler: Handler) -> None:
        assert handler.document == {"Detach": False, "Tty": False}
        handler.begin_stream()
        handler.part(1, text)
        handler.end_stream()

    return answer


def test_a_command_in_a_container_fails_with_its_last_line(engine: Engine, stub: Server) -> None:
    stub.answers |= {
        "POST /containers/x/exec": (201, {"Id": "e"}),
        "POST /exec/e/start": executing(b"first\nlast\n"),
        "GET /exec/e/json": (200, {"ExitCode": 0}),
    }
    engine.execute("x", ["true", "y"])
    stub.answers["GET /exec/e/json"] = (200, {"ExitCode": 1})
    with pytest.raises(DockerError, match=r"^true in x: last$"):
        engine.execute("x", ["true", "y"])


def test_packages_are_asked_of_each_image(engine: Engine, stub: Server) -> None:
    def said(handler: Handler) -> None:
        handler.begin_stream()
        handler.part(1, b"jq\t1.7+b1\tamd64\tjq\t1.7\ttrixie\t\nlibo\t1\tall\to\t2\tforky\t00\n")
        handler.end_stream()

    tags = ["nixos-image-builder:latest", "<none>:<none>"]
    row = {"Id": "1", "Created": 1, "RepoTags": None}
    stub.answers |= {
        "GET /images/json": (200, [row | {"RepoTags": tags}, row]),
        "POST /containers/create": (201, {"Id": "x"}),
        "POST /containers/x/start": (204, b""),
        "POST /containers/x/wait": (200, {"StatusCode": 0}),
        "GET /containers/x/logs": said,
        "DELETE /containers/x": (204, b""),
    }
    assert engine.packages() == [
        ("nixos-image-builder", Package("jq", "1.7+b1", "amd64", "jq", "1.7", "trixie")),
        ("nixos-image-builder", Package("libo", "1", "all", "o", "2", "forky", "00")),
    ]
    assert stub.asked[-1] == "DELETE /containers/x"
    stub.answers["POST /containers/x/wait"] = (200, {"StatusCode": 2})
    with pytest.raises(DockerError, match="sh in nixos-image-builder:latest: libo"):
        engine.packages()
    assert stub.asked[-1] == "DELETE /containers/x"


def test_old_images_are_removed_and_no_others(engine: Engine, stub: Server) -> None:
    """Images are removed from the top down: a parent image after its children."""
    source = SOURCE_LABEL
    there: list[dict[str, object]] = [
        {"Id": "sha256:parent", "RepoTags": None, "Labels": {source: "old"}, "Created": 1},
        {"Id": "sha256:stage", "RepoTags": ["<none>:<none>"], "Labels": {}, "Created": 1},
        {"Id": "sha256:young", "RepoTags": None, "Labels": {}, "Created": 9},
        {"Id": "sha256:used", "RepoTags": None, "Labels": {source: "old"}, "Created": 1},
        {"Id": "1", "RepoTags": ["nixos-image-a:11"], "Labels": {source: "old"}, "Created": 1},
        {"Id": "2", "RepoTags": ["nixos-image-b:latest"], "Labels": {source: "new"}, "Created": 1},
        {
            "Id": "3",
            "RepoTags": ["nixos-image-c:1"],
            "Labels": {source: "new-locked"},
            "Created": 1,
        },
        {
            "Id": "7",
            "RepoTags": ["nixos-image-orchestrator:latest"],
            "Labels": {source: "new sha256:used"},
            "Created": 1,
        },
        {"Id": "4", "RepoTags": ["nixos-image-base:latest"], "Labels": None, "Created": 1},
        {"Id": "5", "RepoTags": ["the-users:own"], "Labels": {source: "old"}, "Created": 1},
        {"Id": "6", "RepoTags": ["nixos-image-d:1"], "Labels": {source: "old"}, "Created": 1},
    ]

    def remove(name: str) -> Answer:
        def answer(handler: Handler) -> None:
            if name == "sha256:parent" and any(one["Id"] == "sha256:stage" for one in there):
                handler.send(409, {"message": "image has dependent child images"})
                return
            there[:] = [one for one in there if name not in (one["Id"], *(one["RepoTags"] or []))]  # type: ignore[misc]
            handler.send(200, [])

        return answer

    stub.answers["GET /images/json"] = lambda handler: handler.send(200, there)
    for name in ("sha256:parent", "sha256:stage", "nixos-image-a:11"):
        stub.answers[f"DELETE /images/{name}"] = remove(name)
    in_use = (409, {"message": "image is being used by running container"})
    stub.answers["DELETE /images/nixos-image-d:1"] = in_use
    gone = engine.remove_old_images({"new", "sha256:used"}, made_before=5)
    assert gone == ["sha256:stage", "nixos-image-a:11", "sha256:parent"]
    assert [one["Id"] for one in there] == [
        "sha256:young",
        "sha256:used",
        "2",
        "3",
        "7",
        "4",
        "5",
        "6",
    ]
    asked = {line.removeprefix("DELETE /images/") for line in stub.asked if "DELETE" in line}
    assert asked == {*gone, "nixos-image-d:1"}


def test_the_parent_is_the_one_that_the_orchestrator_is_made_of(
    engine: Engine, stub: Server
) -> None:
    """Its name is anybody's: another checkout may have given it to another image."""
    own = {"Id": "9", "Config": {"Labels": {SOURCE_LABEL: "0123 sha256:1"}}}
    stub.answers["GET /images/sha256:9/json"] = (200, own)
    assert engine.image_source("sha256:9") == "0123"
    stub.answers["GET /images/sha256:1/json"] = (200, {"Id": "sha256:1"})
    assert engine.parent("sha256:9") == "sha256:1"
    gone = (404, {"message": "no such image"})
    for missing in ("1", "9"):
        stub.answers[f"GET /images/sha256:{missing}/json"] = gone
        with pytest.raises(DockerError, match="all others are made of is missing"):
            engine.parent("sha256:9")


@pytest.mark.parametrize("known", [True, False])
def test_a_pulled_name_is_forgotten_if_it_is_new(known: bool, engine: Engine, stub: Server) -> None:
    image = (200, {"Id": "sha256:2", "RepoDigests": ["other@sha256:0", "debian@sha256:1"]})

    def pull(handler: Handler) -> None:
        stub.answers["GET /images/debian:trixie-slim/json"] = image
        handler.begin_stream()
        handler.chunk(b'{"status": "Pulling"}\r\n{"status": "Digest"}\r\n')
        handler.end_stream()

    if known:
        stub.answers["GET /images/debian:trixie-slim/json"] = image
    stub.answers["POST /images/create"] = pull
    stub.answers["DELETE /images/debian:trixie-slim"] = (200, [])
    assert engine.pull_digest("debian:trixie-slim") == "sha256:1"
    assert ("DELETE /images/debian:trixie-slim" in stub.asked) != known


def test_a_failed_pull_is_told_in_the_registrys_words(engine: Engine, stub: Server) -> None:
    stub.answers["POST /images/create"] = (200, b'{"error": "no such host"}\r\n')
    with pytest.raises(DockerError, match=r"^pulling debian:x: no such host$"):
        engine.pull_digest("debian:x")


def wait_for_the_end(handler: Handler) -> None:
    handler.server.ended.wait()


def test_a_wait_for_an_end_is_limited(engine: Engine, stub: Server) -> None:
    stub.answers["POST /containers/x/wait"] = (200, {"StatusCode": 7})
    assert engine.exit_code("x") == 7
    stub.answers["POST /containers/x/wait"] = wait_for_the_end
    assert engine.exit_code("x", 0.15) == -1


def test_a_signal_ends_a_call(engine: Engine, stub: Server) -> None:
    """A signal is not lost in the first call, where docker-py suppresses errors."""

    def terminate(*_: object) -> None:
        raise TerminatedRunError("terminated")

    before = signal.signal(signal.SIGTERM, terminate)
    stub.silent.set()
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    try:
        with pytest.raises(TerminatedRunError):
            Api(20).ping()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_networks_that_are_still_in_use_are_removed_a_moment_later(
    engine: Engine, stub: Server
) -> None:
    tries = []

    def remove(handler: Handler) -> None:
        tries.append(1)
        if len(tries) == 3:
            stub.answers["GET /networks"] = (200, [])
            handler.send(204, b"")
        else:
            handler.send(403, {"message": "network has active endpoints"})

    stub.answers["GET /containers/json"] = (200, [])
    stub.answers["GET /networks"] = (200, [{"Name": "n", "Id": "n1"}])
    stub.answers["DELETE /networks/n1"] = remove
    engine_work = f"nixos-image-work-{engine.run}"
    volumes = [{"Name": "nixos-image-store"}, {"Name": engine_work}, {"Name": "lease"}]
    stub.answers["GET /volumes"] = (200, {"Volumes": volumes})
    stub.answers["DELETE /volumes/lease"] = (204, b"")
    engine.down()
    assert len(tries) == 3
    removed = [one for one in stub.asked if one.startswith("DELETE /volumes")]
    assert removed == ["DELETE /volumes/lease"]


class Refusing(Engine):
    """Fake that fails once for each message."""

    def __init__(self, env_file: pathlib.Path, *messages: str) -> None:
        super().__init__("0badcafe", env_file)
        self.messages = list(messages)
        self.created: list[tuple[str, ...]] = []

    def _create(self, services: tuple[str, ...]) -> None:
        if self.messages:
            raise DockerError(self.messages.pop(0))
        self.created.append(services)


def test_an_engine_that_takes_no_profile_is_asked_again_without(tmp_path: pathlib.Path) -> None:
    env_file = tmp_path / "compose.env"
    env_file.write_text("A=1\n")
    engine = Refusing(env_file, "container create: opening seccomp profile failed: open {}")
    assert engine.create(("builder",)) == {"builder": "nixos-image-0badcafe-builder-1"}
    assert engine.created == [("builder",)]
    assert env_file.read_text() == f"A=1\n{INSTEAD_OF_PROFILE}"


def test_what_else_an_engine_refuses_is_an_error(tmp_path: pathlib.Path) -> None:
    env_file = tmp_path / "compose.env"
    env_file.touch()
    engine = Refusing(env_file, "no space left on device")
    with pytest.raises(DockerError, match="no space left"):
        engine.create(("builder",))
    assert engine.created == []
    assert env_file.read_text() == ""


def compose(tmp_path: pathlib.Path, script: str, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Engine whose Compose is a shell script with its arguments in $*."""
    program = tmp_path / "bin/fake-compose"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    engine = Engine("0badcafe", NOWHERE, Api(PATIENCE))
    monkeypatch.setattr(engine, "compose_command", lambda: [os.fspath(program)])
    return engine


def test_services_that_will_not_run_are_not_made(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the builder is created: on a fresh host, other services' images do not exist."""
    engine = compose(tmp_path, f'echo "$*" > {tmp_path}/asked', monkeypatch)
    assert engine.create(("builder",)) == {"builder": "nixos-image-0badcafe-builder-1"}
    asked = (tmp_path / "asked").read_text().split()
    assert asked[-1] == "builder"
    assert {"--no-start", "--no-deps", "--no-build"} <= set(asked)


def test_composes_last_words_are_the_error(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = compose(tmp_path, "echo one >&2; echo error: two >&2; exit 1", monkeypatch)
    with pytest.raises(DockerError, match=r"^creating builder: error: two$"):
        engine.create(("builder",))
    with pytest.raises(DockerError, match=r"^two$"):
        engine.run_service("builder", [])


CONFIG = {
    "services": {
        "builder": {
            "image": "nixos-image-builder",
            "build": {
                "dockerfile": "Dockerfile.builder",
                "args": {"HTTP_PROXY": None, "NIXOS_IMAGE_LOCKED": "1"},
                "labels": {"org.nixos-image.source": "0123-locked"},
            },
        }
    }
}


def test_an_image_is_built_as_compose_yaml_says(
    stub: Server, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(json.dumps(CONFIG))
    engine = compose(tmp_path, f"cat {tmp_path}/config", monkeypatch)
    asked: list[dict[str, list[str]]] = []
    events: list[dict[str, object]] = [{"stream": "Step 1/1\n"}, {"aux": {"ID": "sha256:1"}}]

    def build(handler: Handler) -> None:
        asked.append(urllib.parse.parse_qs(urllib.parse.urlsplit(handler.path).query))
        handler.begin_stream()
        for event in events:
            handler.chunk(json.dumps(event).encode() + b"\r\n")
        handler.end_stream()

    stub.answers["POST /build"] = build
    # Podman gets a build of each Dockerfile; for Docker this one is made in one step.
    components = [{"Name": "Podman Engine"}]
    stub.answers["GET /version"] = (200, {"ApiVersion": "1.41", "Components": components})
    log = tmp_path / "log"
    one_step = OneStep(engine, engine.run)
    with contextlib.closing(engine.api):
        engine.build("builder", log, {}, one_step)
        assert log.read_text() == "Step 1/1\n"
        (query,) = asked
        assert query["dockerfile"] == ["Dockerfile.builder"]
        assert query["t"] == ["nixos-image-builder"]
        assert json.loads(query["buildargs"][0]) == {"NIXOS_IMAGE_LOCKED": "1"}
        assert json.loads(query["labels"][0]) == {"org.nixos-image.source": "0123-locked"}
        events.append({"error": "The command returned a non-zero code: 2"})
        with pytest.raises(DockerError, match=r"^the image of builder cannot be built$") as caught:
            engine.build("builder", log, {}, one_step)
        assert caught.value.detail == "Step 1/1\nThe command returned a non-zero code: 2"
        events.insert(1, {"stream": "nix: error: no mirror: x\nnix: try: check it\n"})
        with pytest.raises(
            DockerError, match=r"image of builder cannot be built: no mirror: x$"
        ) as caught:
            engine.build("builder", log, {}, one_step)
        assert caught.value.hint == "check it"
        made: list[tuple[str, str, str, Recipe, pathlib.Path]] = []
        events.pop()
        monkeypatch.setattr(one_step, "make", lambda *words: made.append(words))
        engine.build("builder", log, {}, one_step)
        assert made == []
        stub.answers["GET /version"] = (200, {"ApiVersion": "1.41"})
        engine.build("builder", log, {}, one_step)
        ((service, image, command, recipe, _log),) = made
        assert (service, image) == ("builder", "nixos-image-builder")
        assert "orchestrator.agents.builder.nix_package" in command
        assert recipe.arguments["NIXOS_IMAGE_LOCKED"] == "1"


def test_compose_ends_with_an_engine_that_is_silent(
    stub: Server, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The container never ends by itself."""
    engine = compose(tmp_path, f"sleep 60 & echo $! > {tmp_path}/child; wait", monkeypatch)
    engine.api.ping()
    stub.silent.set()
    began = time.monotonic()
    with contextlib.closing(engine.api), pytest.raises(SilentEngineError):
        engine.create(("builder",))
    assert time.monotonic() - began < 5
    child = pathlib.Path("/proc", (tmp_path / "child").read_text().strip(), "stat")
    assert retry.until(lambda: not child.exists() or child.read_text().split()[2] == "Z", 5)


def container(state: str) -> list[dict[str, object]]:
    return [{"Names": ["/nixos-image-0badcafe-builder-1"], "State": state, "Labels": {}}]


@pytest.mark.parametrize("work", ["create", "create_one", "run_service"])
def test_compose_ends_when_the_engine_leaves_one_call_open(
    work: str, stub: Server, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All other calls are answered, but nothing changes."""
    engine = compose(tmp_path, "sleep 60", monkeypatch)
    stub.answers["GET /containers/json"] = (200, container("created"))
    asks: dict[str, Callable[[], object]] = {
        "create": lambda: engine.create(("builder",)),
        "create_one": lambda: engine.create_one("builder", "x", []),
        "run_service": lambda: engine.run_service("builder", []),
    }
    began = time.monotonic()
    with contextlib.closing(engine.api), pytest.raises(SilentEngineError, match="builder"):
        asks[work]()
    assert time.monotonic() - began < 5


def test_compose_may_take_its_time_while_something_happens(
    stub: Server, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = compose(tmp_path, "sleep 2; echo done", monkeypatch)
    stub.answers["GET /containers/json"] = (200, container("running"))
    with contextlib.closing(engine.api):
        assert engine.run_service("builder", []) == "done\n"
        with pytest.raises(SilentEngineError):
            engine.create(("builder",))  # a service that runs creates nothing
        states = itertools.cycle(("created", "exited"))
        stub.answers["GET /containers/json"] = lambda one: one.send(200, container(next(states)))
        engine.create(("builder",))


def test_a_commit_that_the_engine_leaves_open_ends(
    engine: Engine, stub: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_step, "LONG_SECONDS", 1)
    stub.answers["POST /commit"] = wait_for_the_end
    with pytest.raises(SilentEngineError, match="docker commit"):
        OneStep(engine, "r")._commit("x", "image", {})


def test_a_build_that_the_engine_leaves_open_ends(
    engine: Engine, stub: Server, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "LONG_SECONDS", 1)
    stub.answers["POST /build"] = wait_for_the_end
    monkeypatch.setattr(stored, "ROOT", tmp_path)
    (tmp_path / "Dockerfile").touch()
    with pytest.raises(SilentEngineError, match="docker build"):
        engine.build_image("x", Recipe("Dockerfile", {}, {}), tmp_path / "log")


def test_runs_volumes_are_known_by_their_names(
    stub: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Podman creates the work volume without run.sh's labels."""
    names = ["nixos-image-store", "nixos-image-work", "nixos-image-work-compose"]
    names += [
        "nixos-image-work-0badcafe0001",
        "nixos-image-0badcafe0002_lease",
        "nixos-image_lease",
    ]
    stub.answers["GET /volumes"] = (200, {"Volumes": [{"Name": name} for name in names]})
    stub.answers["GET /networks"] = (200, [])
    monkeypatch.setattr(census, "containers", lambda _: {"a": ("0badcafe0003", True)})
    one = Engine("0badcafe0004", NOWHERE, Api(PATIENCE))
    assert census.runs(one) == {f"0badcafe000{number}" for number in (1, 2, 3)}


def test_a_run_whose_files_are_on_their_way_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "nixos-image-a1-send": ("a1", True),
        "nixos-image-a2-send": ("a2", False),
        "nixos-image-a3-prepare": ("a3", True),
        "nixos-image-a4": ("a4", True),
        "nixos-image-a5": ("a5", False),
        "nixos-image-a6-builder-1": ("a6", True),
    }
    monkeypatch.setattr(census, "containers", lambda _: found)
    assert census.living_runs(Engine("", NOWHERE)) == {"a1", "a4"}
