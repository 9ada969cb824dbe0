"""Tests an engine that stops answering at any call: exit code 3 in time, `clean` suffices.

A proxy between the orchestrator and the real engine stops passing data, in both directions and on
all connections, at the n-th request.
"""

import contextlib
import itertools
import os
import pathlib
import re
import selectors
import socket
import socketserver
import tempfile
import threading
import time
from collections.abc import Iterator

import pytest

from tests.integration.conftest import Run
from tests.shares import Share

pytestmark = [pytest.mark.docker, pytest.mark.e2e, pytest.mark.timeout(7200)]

REQUEST = re.compile(rb"(GET|HEAD|POST|PUT|DELETE) \S+ HTTP/1\.1\r\n")

#: The orchestrator's time limit for an answer in these tests, in seconds.
PATIENCE = 3

#: Time limit in seconds until the orchestrator has ended: the slowest call may take three times the
#: patience, calls of the teardown little; the rest is for a loaded machine.
LIMIT = 3 * PATIENCE + 30

RUNS = {"private": [], "shared": ["--emulation", "shared"]}


class _Connection(socketserver.BaseRequestHandler):
    server: "Proxy"

    def handle(self) -> None:
        engine = socket.socket(socket.AF_UNIX)
        with engine, selectors.DefaultSelector() as ready:
            engine.connect("/var/run/docker.sock")
            ready.register(self.request, selectors.EVENT_READ, engine)
            ready.register(engine, selectors.EVENT_READ, self.request)
            while not self.server.ended.is_set():
                for key, _ in ready.select(0.2):
                    data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                    if key.fileobj is self.request and REQUEST.match(data):
                        self.server.count()
                    if self.server.silent_since:
                        self.server.ended.wait()
                        return
                    if not data:
                        ready.unregister(key.fileobj)
                        with contextlib.suppress(OSError):
                            key.data.shutdown(socket.SHUT_WR)
                        if key.fileobj is engine:
                            return
                        continue
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        key.data.sendall(data)


class Proxy(socketserver.ThreadingUnixStreamServer):
    """Proxy that passes the first `answered` requests on and no more; `requests` counts all."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, path: str, answered: float) -> None:
        self.answered = answered
        self.requests = 0
        self.silent_since = 0.0
        self.ended = threading.Event()
        self._lock = threading.Lock()
        super().__init__(path, _Connection)

    def count(self) -> None:
        """Count one more request; after the last answered one the proxy is silent."""
        with self._lock:
            self.requests += 1
            if self.requests > self.answered and not self.silent_since:
                self.silent_since = time.monotonic()


@contextlib.contextmanager
def proxy(answered: float) -> Iterator[tuple[Proxy, str]]:
    """Start a proxy; return it and its address as DOCKER_HOST."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.fspath(pathlib.Path(folder, "docker.sock"))
        with Proxy(path, answered) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.1,))
            thread.start()
            # The orchestrator has its own files, but shares this container's PID namespace.
            yield server, f"unix:///proc/{os.getpid()}/root{path}"
            server.ended.set()
            server.shutdown()
            thread.join()


def silent_at(number: int, orchestrate: Run, options: list[str]) -> bool:
    """Run with an engine that does not answer request `number`; False if there are fewer.

    Checks how the run ends, and that `clean` is all that is needed afterwards.
    """
    with proxy(number - 1) as (server, address):
        done = orchestrate(
            *("demo", "--no-boot", *options),
            DOCKER_HOST=address,
            NIXOS_IMAGE_PATIENCE=str(PATIENCE),
        )
        if not server.silent_since:
            return False
        took = time.monotonic() - server.silent_since
    assert done.code == 3, f"request {number}: {done.err}"
    assert "error: Docker does not answer: " in done.err, f"request {number}: {done.err}"
    assert took < LIMIT, f"request {number}: {done.err}"
    print(f"request {number}: {took:.1f} s until exit code 3")
    cleaned = orchestrate("clean")
    assert cleaned.code == 0, cleaned.err
    return True


def test_a_silent_engine_ends_the_run(orchestrate: Run) -> None:
    """The engine stops in the middle of a run."""
    assert silent_at(25, orchestrate, RUNS["private"])


@pytest.mark.slow
@pytest.mark.parametrize("mode", RUNS)
def test_a_silent_engine_ends_the_run_at_any_call(
    mode: str, orchestrate: Run, request: pytest.FixtureRequest, mine: Share
) -> None:
    """Tries every call of a run with `--every`, else every tenth; of these those of the share."""
    step = 1 if request.config.getoption("--every") else 10
    for number in mine.part(itertools.count(1, step)):
        if not silent_at(number, orchestrate, RUNS[mode]):
            print(f"{mode}: a run makes fewer than {number} requests")
            assert number > 20
            return
