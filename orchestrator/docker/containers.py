"""Lists, starts, stops and inspects containers of one engine, and reads their logs."""

import concurrent.futures
import contextlib
import dataclasses
import math
import signal
import struct
import threading
from collections.abc import Iterator, Sequence

import requests

from orchestrator.docker.answers import (
    Container,
    Ended,
    Executed,
    Named,
    Ps,
    State,
    Stated,
    read,
)
from orchestrator.docker.api import HEAVY, Api, Client, forgiven
from orchestrator.docker.labels import LABEL, RUN_LABEL
from orchestrator.shared.errors import DockerError

#: Time limit in seconds for a short container, such as a probe.
LOOK_SECONDS = 60

#: Docker's states of a container that has a process.
RUNNING = frozenset({"running", "paused", "restarting"})

#: Longest line of a log in bytes: the builder's longest tells of its images. A container that never
#: ends a line must not take the orchestrator's memory, which has no limit.
LONGEST_LINE = 16 << 20

#: Exit code of a container that does not exist.
NONE = -1

#: Header of a frame in a log: stream number and payload length (Engine API, "Attach to a
#: container", stream format).
FRAME = struct.Struct(">BxxxL")
Frame = tuple[int, bytes]


@dataclasses.dataclass(frozen=True)
class Listed:
    """A container as the engine lists it; `created` is in seconds since 1970."""

    name: str
    labels: dict[str, str]
    running: bool
    state: str = ""
    created: float = 0


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """Delay signals while Docker creates something.

    After an interrupted call the engine would continue, and its object would be left behind.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals only to the main thread
        return
    pending: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {
        number: signal.signal(number, lambda got, _: pending.append(got)) for number in numbers
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for got in pending:  # a signal takes precedence over an error
            signal.raise_signal(got)


class Containers:
    """Containers of an engine, by name."""

    def __init__(self, api: Api) -> None:
        """`api` is the engine's API."""
        self.api = api

    def containers(self, label: str) -> list[Listed]:
        """List containers with `label` (`NAME` or `NAME=VALUE`), running or not."""
        found = self.api.answer(
            "docker ps",
            list[Ps],
            lambda client: client.containers(all=True, filters={"label": label}),
        )
        return [
            Listed(
                # Legacy links give a container more names, with a slash inside: take the one
                # without.
                min(one["Names"] or ["/"], key=lambda name: name.count("/")).lstrip("/"),
                one.get("Labels") or {},
                one["State"] in RUNNING,
                one["State"],
                one.get("Created") or 0,
            )
            for one in found
        ]

    def inspect(self, names: Sequence[str]) -> list[Container]:
        """Return `docker inspect` of containers, in the order of `names`."""
        return [self._inspect(Container, name) for name in names]

    def how_is(self, name: str) -> State:
        """Return the state of a container."""
        return self._inspect(Stated, name)["State"]

    def _inspect[Kind](self, kind: type[Kind], name: str) -> Kind:
        what = f"docker inspect {name}"
        return self.api.answer(what, kind, lambda client: client.inspect_container(name))

    def start(self, names: list[str]) -> None:
        """Start containers in parallel; their agents wait for each other."""

        def ask(name: str) -> None:
            self.api.call(f"starting {name}", lambda client: client.start(name), times=HEAVY)

        with signals_wait(), concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(ask, names))

    def logs(self, name: str, patience: float = math.inf) -> Iterator[str]:
        """Yield the container's log lines, until it ends or for `patience` seconds.

        Raises `DockerError` for a line that is too long.
        """
        left = {1: bytearray(), 2: bytearray()}
        frames = self.api.stream("docker logs", lambda client: _log(client, name), patience)
        for stream, data in frames:
            begun = left.setdefault(stream, bytearray())
            *lines, end = data.split(b"\n")
            for line in lines:
                begun += line
                yield begun.decode(errors="replace")
                begun.clear()
            begun += end
            if len(begun) > LONGEST_LINE:
                raise DockerError(f"{name} has printed a line of more than {LONGEST_LINE} bytes")
        for rest in left.values():
            if rest:
                yield rest.decode(errors="replace")

    def exit_code(self, name: str, patience: float = math.inf) -> int:
        """Wait at most `patience` seconds for a container's end; return its exit code, or -1."""
        with forgiven():
            what = "docker wait"
            for answer in self.api.stream(
                what, lambda one: [read(Ended, one.wait(name), what)], patience
            ):
                return answer["StatusCode"]
        return NONE

    def code_after_log(self, name: str) -> int:
        """Return the exit code of a container whose log has ended; -1 if it does not exist.

        Raises `DockerError` if it still runs: the engine has lost its log.
        """
        code = self.exit_code(name, HEAVY * self.api.patience)
        if code == NONE and self._runs(name):
            raise DockerError(
                f"Docker has ended the log of {name}, which still runs",
                hint="run the command again; if Docker was not restarted meanwhile, see its log",
            )
        return code

    def _runs(self, name: str) -> bool:
        with forgiven():
            return self.how_is(name)["Running"]
        return False

    def starved(self, name: str) -> bool:
        """Whether the kernel's OOM killer has killed the container."""
        with forgiven():
            return self.how_is(name).get("OOMKilled", False)
        return False

    def execute(self, name: str, command: list[str]) -> None:
        """Run `command` in a running container."""
        what = f"{command[0]} in {name}"
        made = self.api.answer(what, Named, lambda client: client.exec_create(name, command))
        frames = self.api.stream(what, lambda client: _said(client, made["Id"]), LOOK_SECONDS)
        said = b"".join(data for _, data in frames)
        ended = self.api.answer(what, Executed, lambda client: client.exec_inspect(made["Id"]))
        if ended["ExitCode"] != 0:
            lines = said.decode(errors="replace").strip().splitlines()
            raise DockerError(f"{what}: {lines[-1] if lines else ended['ExitCode']}")

    def stop(self, name: str, seconds: int) -> None:
        """Send SIGTERM, and SIGKILL after `seconds`; ignore a container that has ended."""
        times = HEAVY + seconds / self.api.patience
        with forgiven():
            self.api.call(
                f"stopping {name}", lambda client: client.stop(name, seconds), times=times
            )

    def kill(self, name: str) -> None:
        """Send SIGKILL; ignore a container that has ended.

        Removal of a running container alone is slow: Podman waits for `stop_grace_period` first.
        """
        with forgiven():
            self.api.call(f"killing {name}", lambda client: client.kill(name), times=HEAVY)

    def remove(self, name: str) -> None:
        """Remove a container, running or not; ignore a missing one."""
        with forgiven():
            self.api.call(
                f"removing {name}",
                lambda client: client.remove_container(name, v=True, force=True),
                times=HEAVY,
            )

    def run_program(self, image: str, run: str, program: str, arguments: list[str]) -> str:
        """Run `program` of `image` in a container without a network; return its output."""

        def make(client: Client) -> object:
            return client.create_container(
                image,
                arguments,
                entrypoint=[program],
                labels={LABEL: "true", RUN_LABEL: run},
                host_config=client.create_host_config(network_mode="none"),
            )

        with signals_wait():
            name = self.api.answer(f"{program} in {image}", Named, make, times=HEAVY)["Id"]
        try:
            self.start([name])
            code = self.exit_code(name, LOOK_SECONDS)
            lines = list(self.logs(name, LOOK_SECONDS))
            if code != 0:
                raise DockerError(f"{program} in {image}: {lines[-1] if lines else code}")
            return "".join(f"{line}\n" for line in lines)
        finally:
            self.remove(name)


def _log(client: Client, name: str) -> Iterator[Frame]:
    """Yield frames of a container's log until it ends."""
    return _frames(
        client,
        client.get(
            f"{client.base_url}/v{client.api_version}/containers/{name}/logs",
            params={"stdout": 1, "stderr": 1, "follow": 1},
            stream=True,
        ),
    )


def _said(client: Client, execution: str) -> Iterator[Frame]:
    """Start a created exec command; yield frames of its output until it ends."""
    return _frames(
        client,
        client.post(
            f"{client.base_url}/v{client.api_version}/exec/{execution}/start",
            json={"Detach": False, "Tty": False},
            stream=True,
        ),
    )


def _frames(client: Client, response: requests.Response) -> Iterator[Frame]:
    """Yield the frames of a Docker stream: stream number and payload.

    docker-py's own reader merges stdout and stderr, which mixes partial lines, and loses output of
    an exec command that arrives together with the response headers.
    """
    with response:
        client._raise_for_status(response)
        while header := response.raw.read(FRAME.size):
            stream, length = FRAME.unpack(header)
            yield stream, response.raw.read(length)
