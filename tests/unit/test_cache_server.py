"""Tests the server of the binary cache: it sends files, and does nothing else."""

import http.client
import pathlib
import threading
from collections.abc import Iterator

import pytest

from orchestrator.agents import cache_server
from orchestrator.docker import server
from orchestrator.shared.push import OWN_FOLDER


@pytest.fixture
def cache(tmp_path: pathlib.Path) -> Iterator[tuple[pathlib.Path, http.client.HTTPConnection]]:
    """Serve a folder; return it with a connection to the server."""
    folder = tmp_path / "cache"
    (folder / "nar").mkdir(parents=True)
    (folder / "nar/a.nar.zst").write_bytes(b"\x28" * 70000)
    (folder / "a.narinfo").write_text("StorePath: /nix/store/a\n")
    (tmp_path / "other").write_text("not in the cache")
    with cache_server.serve(folder, 0) as served:
        threading.Thread(target=served.serve_forever, args=(0.02,), daemon=True).start()
        connection = http.client.HTTPConnection("localhost", served.server_port, timeout=10)
        yield folder, connection
        connection.close()
        served.shutdown()


def get(connection: http.client.HTTPConnection, path: str, how: str = "GET") -> tuple[int, bytes]:
    connection.request(how, path)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_files_are_sent_by_one_connection(
    cache: tuple[pathlib.Path, http.client.HTTPConnection],
) -> None:
    _folder, connection = cache
    assert get(connection, "/a.narinfo") == (200, b"StorePath: /nix/store/a\n")
    assert get(connection, "/nar/a.nar.zst") == (200, b"\x28" * 70000)
    assert get(connection, "/a.narinfo", "HEAD") == (200, b"")
    assert get(connection, "/b.narinfo")[0] == 404


def test_no_program_in_the_folder_is_run(
    cache: tuple[pathlib.Path, http.client.HTTPConnection],
) -> None:
    """Other servers take some names for programs, or for their own settings."""
    folder, connection = cache
    (folder / "cgi-bin").mkdir()
    for name in ("cgi-bin/x", "cgi-bin/index.cgi", "run"):
        (folder / name).write_text(f"#!/bin/sh\necho; echo run; touch {folder}/was-run\n")
        (folder / name).chmod(0o755)
    (folder / "httpd.conf").write_text(f"*.narinfo:{folder}/run\n")
    assert get(connection, "/cgi-bin/x")[1].startswith(b"#!/bin/sh")
    assert get(connection, "/a.narinfo") == (200, b"StorePath: /nix/store/a\n")
    assert get(connection, "/cgi-bin/x", "POST")[0] == 501
    assert not (folder / "was-run").exists()


@pytest.mark.parametrize(
    "path", ["/link", "/down/other", "/../other", "/%2e%2e/other", "/nar", "/"]
)
def test_nothing_but_a_file_of_the_folder_is_sent(
    path: str, cache: tuple[pathlib.Path, http.client.HTTPConnection]
) -> None:
    folder, connection = cache
    (folder / "link").symlink_to("../other")
    (folder / "down").symlink_to("..")
    status, content = get(connection, path)
    assert status == 404
    assert b"not in the cache" not in content
    assert b"narinfo" not in content


def test_the_container_runs_this_server() -> None:
    assert [*server.ENTRY, *server.WORDS] == ["python3", "-m", cache_server.__name__]
    assert f"{cache_server.PORT}/tcp" == server.INNER
    assert OWN_FOLDER.is_relative_to("/nix")


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        ("cannot assign requested address", "the engine's host has no address 192.0.2.7"),
        ("address already in use", "--port N takes another port"),
    ],
)
def test_an_address_of_another_machine_is_no_port_that_is_taken(cause: str, told: str) -> None:
    problem = f"Error starting userland proxy: listen tcp4 192.0.2.7:5000: bind: {cause}"
    assert server.refused_hint(problem, "192.0.2.7").startswith(told)
