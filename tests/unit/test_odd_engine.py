"""Tests an engine whose answers are none of Docker's: each ends with a `DockerError` of one line.

Each value of each answer is replaced by odd ones, and left out. What is accepted has the right
types: whoever uses it need not look again.
"""

import contextlib
import copy
import json
import pathlib
import struct
import typing
from collections.abc import Callable, Iterator

import pytest

from orchestrator.decide.host import probe_private
from orchestrator.docker import census, facts, privileges
from orchestrator.docker.answers import OddAnswerError, read
from orchestrator.docker.api import Api
from orchestrator.docker.engine import Engine
from orchestrator.run import reports, resident
from orchestrator.shared.errors import DockerError
from tests.unit.engine_stub import Handler, Server, stub

__all__ = ["stub"]

ID = "sha256:" + "1" * 64
LABELS = {
    "org.nixos-image": "true",
    "org.nixos-image.run": "0badcafe",
    "org.nixos-image.source": "00 11",
}

#: What Docker answers; the names of containers and images are x.
GOOD: dict[str, typing.Any] = {
    "GET /version": {"ApiVersion": "1.41", "Components": [{"Name": "Engine"}]},
    "GET /containers/json": [
        {"Names": ["/nixos-image-worker-1"], "State": "running", "Labels": LABELS, "Created": 1}
    ],
    "GET /networks": [{"Name": "bridge", "Id": "b1", "Created": "today", "Labels": LABELS}],
    "GET /volumes": {"Volumes": [{"Name": "nixos-image-work-bb", "Labels": LABELS}]},
    "GET /volumes/x": {"Name": "x", "Labels": LABELS, "CreatedAt": "today"},
    "GET /images/json": [
        {"Id": ID, "RepoTags": ["nixos-image-x:latest"], "Labels": LABELS, "Created": 1}
    ],
    "GET /images/x/json": {
        "Id": ID,
        "Config": {"Labels": LABELS},
        "RootFS": {"Layers": [ID]},
        "RepoDigests": [f"x@{ID}"],
    },
    "GET /system/df": {
        "Images": [{"Id": ID, "RepoTags": ["a:b"], "Labels": LABELS, "Size": 1}],
        "Volumes": [{"Name": "nixos-image-store", "UsageData": {"Size": 1}}],
    },
    "GET /info": {
        "Architecture": "x86_64",
        "Driver": "overlay2",
        "ID": "1",
        "KernelVersion": "6",
        "MemTotal": 1 << 30,
        "OperatingSystem": "x",
        "SecurityOptions": ["name=userns"],
        "ServerVersion": "28",
    },
    "GET /containers/x/json": {
        "Image": ID,
        "Config": {"User": "1000"},
        "State": {
            "Running": True,
            "OOMKilled": False,
            "StartedAt": "2026-01-02T03:04:05.1Z",
            "FinishedAt": "0001-01-01T00:00:00Z",
        },
        "HostConfig": {
            "CapAdd": ["CAP_SYS_ADMIN"],
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges:true", "seccomp={}"],
            "MaskedPaths": [],
            "Devices": [{"PathOnHost": "/dev/kvm"}],
            "ReadonlyRootfs": True,
            "Memory": 1 << 30,
            "PidsLimit": 9,
        },
        "NetworkSettings": {
            "Networks": {"a": {}},
            "Ports": {"5000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "5000"}]},
        },
        "Mounts": [{"Name": "a", "Source": "b", "Destination": "/c", "RW": True}],
    },
    "POST /containers/create": {"Id": "x"},
    "POST /containers/x/wait": {"StatusCode": 0},
    "POST /containers/x/exec": {"Id": "e"},
    "GET /exec/e/json": {"ExitCode": 0},
    "POST /images/create": {"status": "pulling", "error": None},
}
SERVER, WORKER = (
    "GET /containers/nixos-image-cache/json",
    "GET /containers/nixos-image-worker-1/json",
)
GOOD |= {SERVER: GOOD["GET /containers/x/json"], WORKER: GOOD["GET /containers/x/json"]}

#: Values that no field has, or not each.
ODD: tuple[object, ...] = (
    *(None, True, -1, 10**30, 1e300, "", "\x1b[2J", "\ud800", "a\nb", "../..", "x" * 100_000),
    *([], {}, [[]], [None], {"": 1}, ["\x00"], {"a": {"b": None}}),
)

#: Answers that are no JSON, or none that can be read.
BODIES = (b"", b"{", b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5000, b"NaN", b"1e999")


@pytest.fixture
def engine(stub: Server) -> Iterator[Engine]:
    def log(handler: Handler) -> None:
        handler.begin_stream()
        handler.end_stream()

    for asked, body in GOOD.items():
        stub.answers[asked] = (200, body)
    stub.answers |= {
        "GET /containers/x/logs": log,
        "GET /containers/nixos-image-worker-1/logs": log,
        "POST /containers/x/start": (204, b""),
        "POST /exec/e/start": log,
        "DELETE /containers/x": (204, b""),
        "DELETE /images/x": (200, []),
    }
    with contextlib.closing(Api(5)) as door:
        yield Engine("0badcafe", pathlib.Path("/nonexistent"), door)


def receipt(engine: Engine) -> str:
    return privileges.actual("x", engine.inspect(["x"])[0]).describe()


#: What is asked of the engine, and by which request.
ASKED: dict[str, tuple[str, Callable[[Engine], object]]] = {
    "abandoned": ("GET /containers/json", census.abandoned),
    "living runs": ("GET /containers/json", census.living_runs),
    "makers": ("GET /containers/json", lambda one: census.makers(one, {"0badcafe"})),
    "runs by networks": ("GET /networks", census.runs),
    "runs by volumes": ("GET /volumes", census.runs),
    "engine's start": ("GET /networks", lambda one: facts.host_key(one, one.info())),
    "info": ("GET /info", lambda one: facts.host_key(one, one.info())),
    "podman": ("GET /version", lambda one: one.is_podman()),
    "labels of a volume": ("GET /volumes/x", lambda one: one.volume_labels("x").get("a")),
    "age of a volume": ("GET /volumes/x", lambda one: one.volume_made("x").strip()),
    "packages": ("GET /images/json", lambda one: one.image_tags()),
    "old images": ("GET /images/json", lambda one: one.remove_old_images((), -(1 << 62))),
    "parent": ("GET /images/x/json", lambda one: one.image_source("x")),
    "layers": ("GET /images/x/json", lambda one: one.layers("x")),
    "pull": ("GET /images/x/json", lambda one: one.pull_digest("x")),
    "pull's lines": ("POST /images/create", lambda one: one.pull_digest("x")),
    "disk space": ("GET /system/df", lambda one: one.usage()),
    "receipt": ("GET /containers/x/json", receipt),
    "starved": ("GET /containers/x/json", lambda one: one.starved("x")),
    "server": (SERVER, lambda one: one.server_url()),
    "worker": (WORKER, resident.find),
    "program": ("POST /containers/create", lambda one: one.run_program("x", "r", "p", [])),
    "end": ("POST /containers/x/wait", lambda one: one.exit_code("x", 5)),
    "command": ("POST /containers/x/exec", lambda one: one.execute("x", ["p"])),
    "command's end": ("GET /exec/e/json", lambda one: one.execute("x", ["p"])),
}


def places(value: object) -> Iterator[tuple[object, ...]]:
    """Yield the way to each value in a document; () is the document."""
    yield ()
    pairs: typing.Any = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    for name, item in pairs:
        yield from ((name, *rest) for rest in places(item))


def changed(document: object, place: tuple[object, ...], odd: object) -> object:
    """Return the document with another value at a place; `...` leaves it out."""
    if not place:
        return odd
    fresh = copy.deepcopy(document)
    inner: typing.Any = fresh
    for name in place[:-1]:
        inner = inner[name]
    if odd is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = odd
    return fresh


def one_line(ask: Callable[[], object]) -> None:
    """Ask; what is raised must be an error of Docker's, of one short line."""
    told = ""
    try:
        ask()
    except DockerError as error:
        told = str(error)
    assert "\n" not in told
    assert len(told) < 1500, told


@pytest.mark.parametrize("name", ASKED)
def test_an_odd_answer_is_an_error_of_one_line(name: str, engine: Engine, stub: Server) -> None:
    request, ask = ASKED[name]
    ask(engine)
    document = GOOD[request]
    for place in places(document):
        for odd in (*ODD, *((...,) if place else ())):
            text = json.dumps(changed(document, place, odd), allow_nan=True)
            stub.answers[request] = (200, text.encode())
            one_line(lambda: ask(engine))
    for body in BODIES:
        stub.answers[request] = (200, body)
        with pytest.raises(DockerError):
            ask(engine)


@pytest.mark.parametrize(
    "version", [*ODD, {"ApiVersion": 1}, {"ApiVersion": "1"}, {"ApiVersion": "9" * 99}, {}]
)
def test_an_engine_of_no_version_is_an_error(version: object, stub: Server) -> None:
    stub.answers["GET /version"] = (200, json.dumps(version).encode())
    stub.answers["GET /info"] = (200, GOOD["GET /info"])
    with contextlib.closing(Api(5)) as door:
        engine = Engine("0badcafe", pathlib.Path("/nonexistent"), door)
        with pytest.raises(DockerError) as caught:
            engine.info()
    assert "\n" not in str(caught.value)


def test_a_log_that_is_none_is_an_error(engine: Engine, stub: Server) -> None:
    def cut(handler: Handler) -> None:
        handler.begin_stream()
        handler.chunk(struct.pack(">BxxxL", 1, 9)[:5])
        handler.end_stream()

    stub.answers["GET /containers/x/logs"] = cut
    with pytest.raises(OddAnswerError, match=r"^docker logs: "):
        list(engine.logs("x"))


def test_a_probe_that_says_nothing_known_has_failed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for line in ("[" * 100_000, "[]", '{"event": {}}', '{"event": "private", "message": 1}', "{"):
        monkeypatch.setattr(engine, "run_to_end", lambda _service, said=line: (1, [said]))
        assert probe_private(engine, engine.info()) == "the probe ended with exit code 1"


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        (reports.Table, {"entries": ["a"]}),
        (reports.Cleaned, {"reason": "unlocked"}),
        (reports.Worker, {"line": "a", "systems": ["b"], "nix": "2", "fingerprint": "c"}),
        (reports.Cache, {"paths": 1, "size": 1}),
        (reports.Stock, {"paths": 1, "size": 1, "unneeded": 1, "free": 1, "holdings": []}),
    ],
)
def test_a_report_without_a_field_is_an_error(kind: type, event: dict[str, object]) -> None:
    assert read(kind, {"event": "x", **event}, "x") == event
    for name in event:
        with pytest.raises(OddAnswerError, match=name):
            read(kind, {other: value for other, value in event.items() if other != name}, "x")
        with pytest.raises(OddAnswerError, match=name):
            read(kind, event | {name: {}}, "x")
