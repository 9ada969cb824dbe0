"""Tests whether a server answers: existing page, missing page, no server."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from orchestrator.agents import debian, network


class Handler(http.server.BaseHTTPRequestHandler):
    """HTTP server with only the page `/there`."""

    def do_HEAD(self) -> None:
        self.send_response(200 if self.path == "/there" else 404)
        self.end_headers()

    def log_message(self, *_words: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as it:
        threading.Thread(target=it.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{it.server_port}"
        it.shutdown()


def test_what_is_there_answers(server: str) -> None:
    assert network.problem(f"{server}/there", 5, found=True) == ""
    assert network.problem(f"{server}/there", 5, found=False) == ""
    assert debian.available(f"{server}/there")


def test_an_errors_status_is_an_answer_but_not_the_file(server: str) -> None:
    assert network.problem(f"{server}/gone", 5, found=False) == ""
    assert network.problem(f"{server}/gone", 5, found=True) == "status 404"
    assert not debian.available(f"{server}/gone")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/there", "http://[", "nonsense"])
@pytest.mark.parametrize("found", [True, False])
def test_nobody_is_told_with_the_reason(url: str, found: bool) -> None:
    assert network.problem(url, 5, found=found)
    assert not debian.available(url)
