"""Tests Nix' and apt's downloads when the network fails in the middle (real HTTP)."""

import hashlib
import http.server
import pathlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from orchestrator.agents import debian
from orchestrator.agents.builder import nix_settings
from orchestrator.agents.builder.nix import Nix
from orchestrator.agents.builder.nix_settings import Settings
from orchestrator.agents.debian import Pin
from orchestrator.agents.failure import AgentError
from tests.tools import nix_store

#: Number of bytes that are sent before the network fails.
SENT = 1000


class Server(http.server.ThreadingHTTPServer):
    """HTTP server of `folder`; files below `fragile` fail in the middle, `failures` times."""

    daemon_threads = True

    def __init__(self, folder: pathlib.Path, fragile: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.fragile = fragile
        self.failures = 0
        self.fault = "cut"
        self.asked = 0
        self.closing = threading.Event()

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Close without a FIN, so that the reset comes first."""
        self.close_request(request)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = self.server.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        start = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if not self.path.startswith(self.server.fragile):
            self.wfile.write(data)
            return
        self.server.asked += 1
        if self.server.asked > self.server.failures:
            self.wfile.write(data[start:])
            return
        self.wfile.write(data[start : start + SENT])
        self.wfile.flush()
        self.close_connection = True
        match self.server.fault:
            case "reset":
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            case "stall":
                self.server.closing.wait(600)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


Serve = Callable[[pathlib.Path, str], Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[Server] = []

    def start(folder: pathlib.Path, fragile: str) -> Server:
        servers.append(Server(folder, fragile))
        threading.Thread(target=servers[-1].serve_forever, args=(0.02,)).start()
        return servers[-1]

    yield start
    for server in servers:
        server.closing.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def cache(serve: Serve, tmp_path: pathlib.Path) -> tuple[Server, str, str]:
    """Make a binary cache with one path that the store does not have; return URL, key, path."""
    (tmp_path / "something").write_text(hashlib.sha256(tmp_path.name.encode()).hexdigest() * 1000)
    path = nix_store.add(tmp_path / "something")
    options = "--extra-experimental-features nix-command".split()
    secret = tmp_path / "secret"
    secret.write_text(nix_store.run("nix", *options, "key", "generate-secret", "--key-name", "t"))
    public = nix_store.run(
        "sh", "-c", f"nix {' '.join(options)} key convert-secret-to-public < {secret}"
    )
    place = f"file://{tmp_path}/cache?secret-key={secret}&compression=none"
    nix_store.run("nix", *options, "copy", "--to", place, path)
    nix_store.run("nix-store", "--delete", path)
    return serve(tmp_path / "cache", "/nar/"), public, path


def substitute(cache: tuple[Server, str, str], folder: pathlib.Path) -> None:
    server, key, path = cache
    settings = Settings(substituters=(server.url,), trusted_keys=(key,))
    Nix(settings, folder / "nix.log").run(["build", "--no-link", path])


@pytest.mark.own_store
@pytest.mark.parametrize("fault", ["cut", "reset", pytest.param("stall", marks=pytest.mark.slow)])
def test_nix_goes_on_after_a_dropped_connection(
    fault: str,
    cache: tuple[Server, str, str],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nix_settings, "STALL_SECONDS", 2)
    server, _key, path = cache
    server.failures, server.fault = 1, fault
    substitute(cache, tmp_path)
    assert server.asked == 2
    assert pathlib.Path(path).stat().st_size == 64000


@pytest.mark.own_store
@pytest.mark.parametrize("fault", ["cut", "reset"])
def test_a_network_that_stays_away_is_named_in_the_end(
    fault: str,
    cache: tuple[Server, str, str],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nix_settings, "ATTEMPTS", 3)
    server, _key, path = cache
    server.failures, server.fault = 1000, fault
    with pytest.raises(AgentError, match=r"/nar/\S+ cannot be fetched: ") as caught:
        substitute(cache, tmp_path)
    assert caught.value.kind == "network"
    assert "check the network" in caught.value.hint
    assert server.asked == nix_settings.ATTEMPTS
    assert not pathlib.Path(path).exists()


@pytest.fixture
def mirror(
    serve: Serve, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Server, Pin]:
    """Make a mirror of one package; return it with the package's pin."""
    package = tmp_path / "mirror/pool/a.deb"
    package.parent.mkdir(parents=True)
    package.write_bytes(b"package" * 10000)
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    server = serve(tmp_path / "mirror", "/pool/")
    monkeypatch.setattr(debian, "urls", lambda pin, snapshot: [f"{server.url}/{pin.path}"])
    return server, Pin("busybox", "busybox-static", "1", "trixie", "pool/a.deb", digest)


@pytest.mark.needs("/usr/lib/apt/apt-helper")
@pytest.mark.parametrize("fault", ["cut", "reset"])
def test_apt_goes_on_after_a_dropped_connection(
    fault: str, mirror: tuple[Server, Pin], tmp_path: pathlib.Path
) -> None:
    server, pin = mirror
    server.failures, server.fault = 1, fault
    assert debian.fetch(pin, "", tmp_path / "a.deb")
    assert server.asked == 2
    assert (tmp_path / "a.deb").stat().st_size == 70000


@pytest.mark.needs("/usr/lib/apt/apt-helper")
def test_a_mirror_that_stays_away_leaves_nothing(
    mirror: tuple[Server, Pin], tmp_path: pathlib.Path
) -> None:
    server, pin = mirror
    server.failures = 1000
    assert not debian.fetch(pin, "", tmp_path / "a.deb")
    assert not (tmp_path / "a.deb").exists()
    assert server.asked > 1
