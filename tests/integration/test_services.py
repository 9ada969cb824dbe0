"""Tests cleanup and its lease as a Compose service (pytest-docker).

Attacked over TCP from the builder's network.
"""

import json
import time
from collections.abc import Iterator

import pytest

from orchestrator.shared.constants import BUILDER
from tests.integration.conftest import HOME, docker

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

PROJECT = "nixos-image-leasetest"

CLIENT = """
import socket, sys
from orchestrator.shared.run import TOKEN_FILE

def ask(data, wait=True):
    with socket.create_connection(("cleanup", 11111), timeout=10) as c:
        if data:
            c.sendall(data)
        return c.recv(100).decode().strip() if wait else ""

token = TOKEN_FILE.read_bytes()
"""


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    return str(HOME / "compose.yaml")


@pytest.fixture(scope="session")
def docker_compose_project_name() -> str:
    return PROJECT


@pytest.fixture(scope="session")
def docker_setup() -> list[str]:
    return ["up --detach cleanup"]


@pytest.fixture(scope="session")
def docker_cleanup() -> list[str]:
    return ["down"]


@pytest.fixture
def cleanup(nothing_left: None, docker_services: object) -> Iterator[str]:
    """Start a new cleanup for each test.

    The services fixture has created the network; each test recreates the container.
    """
    compose("rm", "--force", "--stop", "cleanup")
    compose("up", "--detach", "cleanup")
    while "cleanup is ready" not in docker("logs", f"{PROJECT}-cleanup-1"):
        time.sleep(0.1)
    yield f"{PROJECT}-cleanup-1"
    compose("rm", "--force", "--stop", "cleanup")


def compose(*arguments: str) -> str:
    """Run `docker compose` for this project; return its stdout."""
    files = ["--file", str(HOME / "compose.yaml"), "--project-name", PROJECT]
    return docker("compose", *files, *arguments)


def client(code: str) -> str:
    """Run Python in a builder container on cleanup's network; return its output."""
    options = ["--rm", "--no-deps", "--no-TTY", "--entrypoint", "python3"]
    return compose("run", *options, "builder", "-c", CLIENT + code)


def state(container: str) -> tuple[bool, int]:
    running, code = docker(
        "inspect", "-f", "{{.State.Running}} {{.State.ExitCode}}", container
    ).split()
    return running == "true", int(code)


def wait_end(container: str, seconds: float) -> int:
    deadline = time.monotonic() + seconds
    while state(container)[0]:
        assert time.monotonic() < deadline, docker("logs", container)
        time.sleep(0.1)
    return state(container)[1]


def test_wrong_tokens_and_noise_are_refused_and_logged_and_the_lock_holds(cleanup: str) -> None:
    said = client(
        "print(ask(b'UNLOCK ' + b'0' * 64 + b'\\n'), ask(b'UNLOCK\\n'),"
        " ask(b'GET / HTTP/1.1\\r\\n\\r\\n'),"
        " ask(b'\\xff' * 1000), ask(b'HOLD ' + token[:-1] + b'\\n'), sep=',')\n"
        "for _ in range(500): ask(b'', wait=False)\n"
    )
    assert said == ",".join(["REFUSED"] * 5)
    assert state(cleanup) == (True, 0)
    log = docker("logs", cleanup)
    assert log.count("refused") >= 5
    assert "lease-held" not in log


def test_right_token_unlocks_and_the_table_is_proved_clean(cleanup: str) -> None:
    assert client("print(ask(b'UNLOCK ' + token + b'\\n'))") == "UNLOCKED"
    assert wait_end(cleanup, 20) == 0
    log = docker("logs", cleanup)
    assert "(unlocked); binfmt_misc is as before" in log


@pytest.mark.slow
def test_a_holder_that_vanishes_ends_the_lease_after_the_grace_time(cleanup: str) -> None:
    assert client("print(ask(b'HOLD ' + token + b'\\n'))") == "HELD"
    began = time.monotonic()
    assert wait_end(cleanup, 40) == 0
    assert time.monotonic() - began > 5
    assert "(connection lost)" in docker("logs", cleanup)


@pytest.mark.slow
def test_sigterm_cleans_at_once(cleanup: str) -> None:
    docker("stop", "--time", "20", cleanup)
    assert state(cleanup) == (False, 0)
    assert "(terminated)" in docker("logs", cleanup)


def test_privileges_are_what_the_design_says(cleanup: str) -> None:
    host = json.loads(docker("inspect", "-f", "{{json .HostConfig}}", cleanup))
    assert host["CapAdd"] == ["SYS_ADMIN"] or host["CapAdd"] == ["CAP_SYS_ADMIN"]
    assert host["CapDrop"] == ["ALL"]
    assert host["Privileged"] is False
    assert host["ReadonlyRootfs"] is True
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["PortBindings"] in ({}, None)
    networks = json.loads(docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", cleanup))
    assert list(networks) == [f"{PROJECT}_lease"]
    assert docker("network", "inspect", "-f", "{{.Internal}}", f"{PROJECT}_lease") == "true"
    effective = docker("exec", cleanup, "grep", "CapEff", "/proc/1/status").split()[1]
    assert int(effective, 16) == 1 << 21  # CAP_SYS_ADMIN is capability 21 (linux/capability.h)


@pytest.mark.slow
def test_the_token_is_in_no_log_and_no_inspection(cleanup: str) -> None:
    token = client("print(token.decode())")
    assert len(token) == 64
    assert token not in docker("inspect", cleanup)
    assert token not in docker("logs", cleanup)


def test_builder_is_an_ordinary_user_without_capabilities(cleanup: str) -> None:
    status = client("print(open('/proc/self/status').read())")
    lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert lines["Uid"].split() == [str(BUILDER)] * 4
    assert int(lines["CapEff"], 16) == int(lines["CapBnd"], 16) == 0
    assert lines["NoNewPrivs"] == "1"
