"""Tests whether a server answers: existing page, missing page, no server, no mirror."""

import http.server
import pathlib
import threading
from collections.abc import Iterator

import pytest

from orchestrator.agents import debian, network
from orchestrator.agents.failure import AgentError
from orchestrator.shared import command


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


def test_any_server_that_can_be_connected_to_will_do(server: str) -> None:
    assert network.no_connection(server, 5) == ""
    assert network.no_connection("mirror+file:/etc/mirrors", 5) == ""
    assert network.no_connection("http://127.0.0.1:1/debian", 5) == "127.0.0.1: Connection refused"
    assert network.no_connection("http://127.0.0.1:port/debian", 5)


@pytest.fixture
def mirrors(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the mirrors that apt has, by suite, none at first; no proxy is set."""
    found: dict[str, str] = {}
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(debian, "repositories", lambda: found)
    settings(monkeypatch, 'Acquire::http::Pipeline-Depth "0";\n')
    return found


def settings(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let apt-config print `text`; apt-helper must not be started."""

    def run(words: list[str], **_: object) -> command.Done:
        assert words == ["apt-config", "dump"]
        return command.Done("apt-config", 0, text.encode(), b"", 0.1)

    monkeypatch.setattr(command, "run", run)


DEAD = "http://127.0.0.1:1/debian"


def test_without_a_mirror_nothing_is_tried_for_minutes(
    mirrors: dict[str, str], tmp_path: pathlib.Path
) -> None:
    mirrors |= {"trixie": DEAD, "trixie-security": f"{DEAD}-security"}
    pin = debian.Pin("r", "p", "1", "trixie", "pool/p.deb", "0" * 64)
    said = r"^no package mirror can be reached: 127\.0\.0\.1: Connection refused$"
    with pytest.raises(AgentError, match=said) as caught:
        debian.fetch(pin, "S", tmp_path / "p.deb")
    assert "kit import" in caught.value.hint
    with pytest.raises(AgentError, match=said):
        debian.fetch_all([pin], "S", tmp_path)


def test_one_mirror_is_enough(mirrors: dict[str, str], server: str) -> None:
    debian.reach_mirrors()
    mirrors |= {"trixie": DEAD, "trixie-security": server}
    debian.reach_mirrors()
    mirrors |= {"trixie-security": "mirror+file:/etc/mirrors"}
    debian.reach_mirrors()


@pytest.mark.parametrize("text", ['Acquire::http::Proxy "http://proxy:3128";\n', ""])
def test_where_a_proxy_is_set_mirrors_are_its_affair(
    text: str, mirrors: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrors["trixie"] = DEAD
    if text:
        settings(monkeypatch, f'Dir::Log "x";\n{text}')
    else:
        monkeypatch.setenv("https_proxy", "http://proxy:3128")
    debian.reach_mirrors()
