"""Containers of one engine: what there is, starting and ending them, what they say."""

import concurrent.futures
import contextlib
import dataclasses
import math
import signal
import struct
import threading
from collections.abc import Iterator, Sequence

import requests

from orchestrator.docker.api import HEAVY, Api, Client, Json, forgiven
from orchestrator.docker.labels import LABEL, RUN_LABEL
from orchestrator.shared.errors import DockerError

#: Longest time (seconds) that a container takes which only looks at something.
LOOK_SECONDS = 60

#: States in which a container has a process.
RUNNING = frozenset({"running", "paused", "restarting"})

#: Exit code of a container that is not there.
NONE = -1

#: Docker's frames of a log: the stream's number and the length of what follows (Engine API,
#: "Attach to a container", stream format).
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
    """Let signals wait while Docker makes something.

    Interrupted halfway, the engine would go on behind our back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python hands signals to the main thread only
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
        for got in pending:  # counts more than what may have failed
            signal.raise_signal(got)


class Containers:
    """Containers, by their names."""

    def __init__(self, api: Api) -> None:
        """`api` asks the engine."""
        self.api = api

    def containers(self, label: str) -> list[Listed]:
        """Containers that have `label` (`NAME` or `NAME=VALUE`), running or not."""
        found: list[Json] = self.api.call(
            "docker ps", lambda client: client.containers(all=True, filters={"label": label})
        )
        return [
            Listed(
                # Links give other names, with a slash inside.
                min(one["Names"] or ["/"], key=lambda name: name.count("/")).lstrip("/"),
                one.get("Labels") or {},
                one["State"] in RUNNING,
                one["State"],
                one.get("Created") or 0,
            )
            for one in found
        ]

    def inspect(self, names: Sequence[str]) -> list[Json]:
        """What Docker knows of containers, in the order of `names`."""

        def ask(name: str) -> Json:
            what = f"docker inspect {name}"
            found: Json = self.api.call(what, lambda client: client.inspect_container(name))
            return found

        return [ask(name) for name in names]

    def start(self, names: list[str]) -> None:
        """Start containers side by side: they wait for each other by themselves."""

        def ask(name: str) -> None:
            self.api.call(f"starting {name}", lambda client: client.start(name), times=HEAVY)

        with signals_wait(), concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(ask, names))

    def logs(self, name: str, patience: float = math.inf) -> Iterator[str]:
        """Lines that the container says, until it ends or for `patience` seconds."""
        left = {1: b"", 2: b""}
        frames = self.api.stream("docker logs", lambda client: _log(client, name), patience)
        for stream, data in frames:
            *lines, left[stream] = (left.get(stream, b"") + data).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace")
        for rest in left.values():
            if rest:
                yield rest.decode(errors="replace")

    def exit_code(self, name: str, patience: float = math.inf) -> int:
        """Wait for the end of a container, at most `patience` seconds; -1 if there was none."""
        with forgiven():
            for answer in self.api.stream("docker wait", lambda one: [one.wait(name)], patience):
                return int(answer["StatusCode"])
        return NONE

    def starved(self, name: str) -> bool:
        """Whether the kernel has killed the container for want of memory."""
        with forgiven():
            return bool(self.inspect([name])[0]["State"]["OOMKilled"])
        return False

    def execute(self, name: str, command: list[str]) -> None:
        """Run `command` in a running container."""
        what = f"{command[0]} in {name}"
        made: Json = self.api.call(what, lambda client: client.exec_create(name, command))
        frames = self.api.stream(what, lambda client: _said(client, made["Id"]), LOOK_SECONDS)
        said = b"".join(data for _, data in frames)
        ended: Json = self.api.call(what, lambda client: client.exec_inspect(made["Id"]))
        if ended["ExitCode"] != 0:
            lines = said.decode(errors="replace").strip().splitlines()
            raise DockerError(f"{what}: {lines[-1] if lines else ended['ExitCode']}")

    def stop(self, name: str, seconds: int) -> None:
        """SIGTERM, then SIGKILL after `seconds`; nothing if it is gone or has ended."""
        times = HEAVY + seconds / self.api.patience
        with forgiven():
            self.api.call(
                f"stopping {name}", lambda client: client.stop(name, seconds), times=times
            )

    def kill(self, name: str) -> None:
        """SIGKILL; nothing if it is gone or has ended.

        To remove what runs is not enough: Podman then waits for `stop_grace_period`.
        """
        with forgiven():
            self.api.call(f"killing {name}", lambda client: client.kill(name), times=HEAVY)

    def remove(self, name: str) -> None:
        """Remove a container, running or not; nothing if it is not there."""
        with forgiven():
            self.api.call(
                f"removing {name}",
                lambda client: client.remove_container(name, v=True, force=True),
                times=HEAVY,
            )

    def run_program(self, image: str, run: str, program: str, arguments: list[str]) -> str:
        """What `program` of `image` says on its streams, in a container without a network."""

        def make(client: Client) -> str:
            return str(
                client.create_container(
                    image,
                    arguments,
                    entrypoint=[program],
                    labels={LABEL: "true", RUN_LABEL: run},
                    host_config=client.create_host_config(network_mode="none"),
                )["Id"]
            )

        with signals_wait():
            name = self.api.call(f"{program} in {image}", make, times=HEAVY)
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
    """The parts of a container's log, as they come, until it ends."""
    return _frames(
        client,
        client.get(
            f"{client.base_url}/v{client.api_version}/containers/{name}/logs",
            params={"stdout": 1, "stderr": 1, "follow": 1},
            stream=True,
        ),
    )


def _said(client: Client, execution: str) -> Iterator[Frame]:
    """Start a command that was made; the parts of what it says, until it ends."""
    return _frames(
        client,
        client.post(
            f"{client.base_url}/v{client.api_version}/exec/{execution}/start",
            json={"Detach": False, "Tty": False},
            stream=True,
        ),
    )


def _frames(client: Client, response: requests.Response) -> Iterator[Frame]:
    """The parts of a stream of Docker's, each with the number of its stream.

    docker-py does not tell streams apart, so a line that comes in parts would be mixed up; and of
    what a command says it loses what comes along with the answer's head.
    """
    with response:
        client._raise_for_status(response)
        while header := response.raw.read(FRAME.size):
            stream, length = FRAME.unpack(header)
            yield stream, response.raw.read(length)
