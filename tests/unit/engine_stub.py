"""A stand-in for Docker's Engine: HTTP on a Unix socket, with answers that a test has written."""

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

#: What answers a request: a status with JSON or bytes, or a function of the request's handler.
type Answer = tuple[int, object] | Callable[["Handler"], None]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by the server's table; what is not in it is not there."""

    server: "Server"
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle_one_request(self) -> None:
        """As usual; a client that has gone is no error."""
        try:
            super().handle_one_request()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def answer(self) -> None:
        place = re.sub(r"^/v[0-9.]+(?=/)", "", urllib.parse.urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.document: dict[str, typing.Any] = json.loads(body) if body else {}
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
        """A whole answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(0 if status == 204 else len(data)))
        self.end_headers()
        if status != 204:
            self.wfile.write(data)

    def begin_stream(self) -> None:
        """The head of an answer whose parts come by `part`."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def part(self, stream: int, text: bytes) -> None:
        """A frame of a container's log."""
        self.chunk(struct.pack(">BxxxL", stream, len(text)) + text)

    def chunk(self, data: bytes) -> None:
        """A part of any stream."""
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def end_stream(self) -> None:
        """The end of such an answer."""
        self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815


class Server(socketserver.ThreadingUnixStreamServer):
    """`answers` by method and path; `asked` has what came; `silent` answers nothing any more."""

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
    """An engine that knows nothing yet; DOCKER_HOST names it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # a socket's name is short
        path = os.fspath(pathlib.Path(folder, "docker.sock"))
        with Server(path) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
            yield server
            server.ended.set()
            server.shutdown()
            thread.join()
