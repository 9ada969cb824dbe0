"""Runs the cleanup agent with its own binfmt_misc: it cleans up once, whatever ends the lease."""

import contextlib
import dataclasses
import json
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from tests.unit.test_lease import free_port

RUN = "0badcafe"
OURS = [f"nixos-image-{RUN}-aarch64", f"nixos-image-{RUN}-riscv64"]
FOREIGN = {
    "WSLInterop": "enabled\nflags: P\n",
    f"nixos-image-{RUN}2-aarch64": "enabled\nflags: F\n",
}

#: Time limit in seconds for an event that should be immediate.
SOON = 10

#: Program: the agent with a folder in place of binfmt_misc; removal of an entry is slow.
AGENT = """
import pathlib, sys, time
from orchestrator.agents.emulation import binfmt, cleanup
folder, cleanup.PORT, seconds = pathlib.Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
binfmt.MOUNT_POINT, cleanup.TOKEN_FILE = folder / "table", folder / "token"
binfmt.mount = lambda: None
def remove(name):
    print("removing", name, flush=True)
    time.sleep(seconds)
    (binfmt.MOUNT_POINT / name).unlink()
binfmt.remove = remove
sys.argv[1:] = []
cleanup.main()
"""


@dataclasses.dataclass
class Agent:
    """A running cleanup, with its folder and its port."""

    process: subprocess.Popen[str]
    folder: pathlib.Path
    port: int

    @property
    def token(self) -> str:
        until = time.monotonic() + SOON
        while not (self.folder / "token").exists():
            assert time.monotonic() < until
            time.sleep(0.01)
        return (self.folder / "token").read_text()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=SOON)

    def hold(self) -> socket.socket:
        holder = self.connect()
        holder.sendall(f"HOLD {self.token}\n".encode())
        assert holder.recv(100) == b"HELD\n"
        return holder

    def wait_for(self, text: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if text in line:
                return
        pytest.fail(f"it never said {text}")

    def descriptors(self) -> int:
        return len(list(pathlib.Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def signal(self, number: int = signal.SIGTERM) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def cleaned(self) -> str:
        """Wait for the agent's end; check that it has cleaned up once; return the reason."""
        said = self.process.communicate(timeout=SOON)[0].splitlines()
        assert self.process.returncode == 0, said
        events = [json.loads(line) for line in said if line.startswith("{")]
        (event,) = (event for event in events if event["event"] == "cleaned")
        assert event["removed"] == OURS
        assert {path.name: path.read_text() for path in self.table.iterdir()} == FOREIGN
        assert not (self.folder / "token").exists()
        return str(event["reason"])

    @property
    def table(self) -> pathlib.Path:
        return self.folder / "table"


Start = Callable[..., Agent]


@pytest.fixture
def start(tmp_path: pathlib.Path) -> Iterator[Start]:
    """Start an agent; the run's entries are registered when its token exists."""
    agents: list[Agent] = []

    def call(
        seconds: float = 0.1, deadline: float = 60, begin: float = 60, grace: float = 60
    ) -> Agent:
        (tmp_path / "table").mkdir()
        for name, text in FOREIGN.items():
            (tmp_path / "table" / name).write_text(text)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "NIXOS_IMAGE_RUN": RUN,
            "NIXOS_IMAGE_SYSTEMS": "aarch64-linux riscv64-linux",
            "NIXOS_IMAGE_LOG": "json",
            "NIXOS_IMAGE_START_SECONDS": str(begin),
            "NIXOS_IMAGE_GRACE_SECONDS": str(grace),
            "NIXOS_IMAGE_DEADLINE_SECONDS": str(deadline),
        }
        port = free_port()
        command = [sys.executable, "-c", AGENT, os.fspath(tmp_path), str(port), str(seconds)]
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        agents.append(Agent(process, tmp_path, port))
        assert agents[0].token
        for name in OURS:
            (tmp_path / "table" / name).write_text("enabled\nflags: PF\n")
        return agents[0]

    yield call
    for agent in agents:
        agent.process.kill()
        agent.process.communicate()


def unlock(agent: Agent) -> None:
    with agent.connect() as connection:
        connection.sendall(f"UNLOCK {agent.token}\n".encode())
        assert connection.recv(100) == b"UNLOCKED\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_cleans_changes_nothing(number: int, start: Start) -> None:
    agent = start()
    unlock(agent)
    agent.wait_for(f"removing {OURS[0]}")
    agent.signal(number)
    agent.wait_for(f"removing {OURS[1]}")
    agent.signal(number)
    assert_once(agent, "unlocked")


def assert_once(agent: Agent, *reasons: str) -> None:
    assert agent.cleaned() in reasons


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_once(number: int, start: Start) -> None:
    agent = start()
    for _ in range(20):
        agent.signal(number)
    assert_once(agent, "terminated")


@pytest.mark.parametrize("milliseconds", [0, 1, 2, 5, 10, 20, 50])
def test_an_unlock_and_a_signal_at_once_clean_once(milliseconds: int, start: Start) -> None:
    agent = start(seconds=0.02)
    with agent.hold() as holder:
        holder.sendall(f"UNLOCK {agent.token}\n".encode())
        time.sleep(milliseconds / 1000)
        agent.signal()
    assert_once(agent, "unlocked", "terminated")


@pytest.mark.parametrize("milliseconds", [-30, -10, -3, 0, 3, 10])
def test_an_unlock_at_the_deadline_cleans_once(milliseconds: int, start: Start) -> None:
    began = time.monotonic()
    agent = start(seconds=0.05, deadline=1)
    with agent.hold() as holder, contextlib.suppress(OSError):
        line = f"UNLOCK {agent.token}\n".encode()
        time.sleep(max(0.0, began + 1 + milliseconds / 1000 - time.monotonic()))
        holder.sendall(line)
        assert holder.recv(100) in {b"UNLOCKED\n", b""}
    assert_once(agent, "unlocked", "deadline")


def test_a_connection_that_is_reset_cleans_once(start: Start) -> None:
    agent = start(grace=0.3)
    holder = agent.hold()
    # SO_LINGER 0: the connection ends with a TCP reset.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    holder.close()
    assert_once(agent, "connection lost")


def test_one_half_of_a_connection_holds_nothing(start: Start) -> None:
    agent = start(grace=0.3)
    with agent.hold() as holder:
        holder.shutdown(socket.SHUT_WR)
        assert_once(agent, "connection lost")


def test_nobody_ever_came(start: Start) -> None:
    assert_once(start(begin=0.3), "never held")


def test_it_unlocks_and_cleans_without_a_free_descriptor(start: Start) -> None:
    agent = start()
    holder = agent.hold()
    few = agent.descriptors() + 20
    resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE, (few, few))
    crowd = [agent.connect() for _ in range(60)]
    until = time.monotonic() + SOON
    while agent.descriptors() < few:
        assert time.monotonic() < until
        time.sleep(0.01)
    holder.sendall(f"UNLOCK {agent.token}\n".encode())
    assert holder.recv(100) == b"UNLOCKED\n"
    assert_once(agent, "unlocked")
    for connection in (holder, *crowd):
        connection.close()
