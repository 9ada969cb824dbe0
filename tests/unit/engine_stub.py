"""Stub of the Docker Engine: HTTP on a Unix socket, with a test's answers."""

import http.server
import json
import os
import pathlib
import re
import socketserver
import struct
import tempfile
import threading
import typing
import urllib.parse
from collections.abc import Callable, Iterator

import pytest

#: Answer to a request: a status with JSON or bytes, or a function of the request's handler.
type Answer = tuple[int, object] | Callable[["Handler"], None]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers from the server's table; status 404 for other requests."""

    server: "Server"
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle_one_request(self) -> None:
        """Handle a request; a disconnected client is not an error."""
        try:
            super().handle_one_request()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def answer(self) -> None:
        place = re.sub(r"^/v[0-9.]+(?=/)", "", urllib.parse.urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        is_json = self.headers.get("Content-Type") == "application/json"
        self.document: dict[str, typing.Any] = json.loads(body) if body and is_json else {}
        asked = f"{self.command} {place}"
        self.server.asked.append(asked)
        if self.server.silent.is_set():
            self.server.ended.wait()
            return
        found = self.server.answers.get(asked, (404, {"message": f"no such thing: {place}"}))
        if callable(found):
            found(self)
            return
        self.send(*found)

    def send(self, status: int, body: object) -> None:
        """Send a complete answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(0 if status == 204 else len(data)))
        self.end_headers()
        if status != 204:
            self.wfile.write(data)

    def begin_stream(self) -> None:
        """Send the headers of a chunked answer, whose chunks `part` sends."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def part(self, stream: int, text: bytes) -> None:
        """Send a frame of a container's log."""
        self.chunk(struct.pack(">BxxxL", stream, len(text)) + text)

    def chunk(self, data: bytes) -> None:
        """Send a chunk of a stream."""
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def end_stream(self) -> None:
        """Send the end of a chunked answer."""
        self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer  # noqa: N815


class Server(socketserver.ThreadingUnixStreamServer):
    """`answers` by method and path; `asked` records requests; with `silent` nothing is answered."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, path: str) -> None:
        self.answers: dict[str, Answer] = {
            "GET /version": (200, {"ApiVersion": "1.41"}),
            "GET /_ping": (200, b"OK"),
        }
        self.asked: list[str] = []
        self.silent = threading.Event()
        self.ended = threading.Event()
        super().__init__(path, Handler)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Start an engine without answers; DOCKER_HOST names it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # a socket's path must be short
        path = os.fspath(pathlib.Path(folder, "docker.sock"))
        with Server(path) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
            yield server
            server.ended.set()
            server.shutdown()
            thread.join()
