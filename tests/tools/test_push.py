"""Tests the agent push with the real Nix: signatures, passwords, this engine's own cache."""

import base64
import http.server
import pathlib
import threading
import typing
from collections.abc import Iterator

import pytest

from orchestrator.agents.builder import own_cache, push
from orchestrator.agents.failure import AgentError
from orchestrator.decide.sent_keys import check_credentials
from orchestrator.shared.errors import UsageError
from orchestrator.shared.push import CREDENTIALS, OWN, SIGN_KEY, Order, Push, public_key
from tests.tools.nix_store import run

pytestmark = [pytest.mark.own_store, pytest.mark.needs("nix")]

CONFIG = "experimental-features = nix-command\nbuild-users-group =\n"
LOGIN = base64.b64encode(b"me:word").decode()


class Web(http.server.BaseHTTPRequestHandler):
    """A binary cache that wants a password to be written to."""

    files: typing.ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        found = self.files.get(self.path)
        self.send_response(200 if found is not None else 404)
        self.send_header("Content-Length", str(len(found or b"")))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(found or b"")

    do_HEAD = do_GET  # noqa: N815 - http.server calls it by this name

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        good = self.headers["Authorization"] == f"Basic {LOGIN}"
        if good:
            self.files[self.path] = body
        self.send_response(200 if good else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def web() -> Iterator[str]:
    Web.files.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def keys(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("NIX_CONFIG", CONFIG)
    folder = tmp_path / "keys"
    folder.mkdir()
    push.make_key(Order("key"), folder)
    return folder


def a_path(folder: pathlib.Path) -> str:
    """Build a store path: what is only added to the store needs no signature."""
    made = (
        f'derivation {{ name = "thing"; system = builtins.currentSystem; builder = "/bin/sh";'
        f' args = [ "-c" "echo {folder} > $out" ]; }}'
    )
    config = f"{CONFIG}sandbox = false\n"
    return run("nix-build", "--no-out-link", "--expr", made, NIX_CONFIG=config)


def fetched(url: str, path: str, key: str, store: pathlib.Path) -> bool:
    """Fetch `path` from the cache to another, empty store that trusts `key` alone."""
    config = f"{CONFIG}trusted-public-keys = {key}\n"
    try:
        run("nix", "copy", "--from", url, "--to", f"local?root={store}", path, NIX_CONFIG=config)
    except Exception:  # noqa: BLE001 - why is not asked
        return False
    return (store / path.lstrip("/")).exists()


def test_the_own_cache_is_signed_by_its_key(
    tmp_path: pathlib.Path, keys: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr(push, "OWN_FOLDER", cache)
    path = a_path(tmp_path)
    push.copy(Order("copy", OWN, (path,)), keys)
    assert own_cache.content(cache).paths == 1
    key = public_key((keys / SIGN_KEY).read_bytes())
    other = f"{key.partition(':')[0]}:{base64.b64encode(bytes(32)).decode()}"
    assert not fetched(f"file://{cache}", path, other, tmp_path / "second")
    assert fetched(f"file://{cache}", path, key, tmp_path / "third")
    assert oct((keys / SIGN_KEY).stat().st_mode)[-3:] == "600"


def test_a_password_reaches_the_server_and_no_message(
    tmp_path: pathlib.Path, keys: pathlib.Path, web: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = a_path(tmp_path)
    with pytest.raises(AgentError) as error:
        push.copy(Order("copy", web, (path,)), keys)
    assert error.value.kind == "push"
    assert str(error.value).startswith(f"{web}: ")
    assert not Web.files
    (keys / CREDENTIALS).write_text("machine 127.0.0.1 login me password word\n")
    push.copy(Order("copy", web, (path,)), keys)
    (entry,) = (text for name, text in Web.files.items() if name.endswith(".narinfo"))
    assert b"\nSig: nixos-image:" in entry
    assert b"\nCompression: zstd\n" in entry
    said = "".join(capfd.readouterr())
    assert "one store path copied" in said
    assert "word" not in said


@pytest.mark.needs("ssh-keygen")
def test_a_key_that_asks_for_a_passphrase_is_refused_before_anything_is_built(
    tmp_path: pathlib.Path,
) -> None:
    order = Push("ssh-ng://me@host", "/k", "/c")
    file = tmp_path / "key"
    for passphrase in ("", "word"):
        file.unlink(missing_ok=True)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(file))
        if not passphrase:
            check_credentials(order, file)
    for text in (file.read_text(), file.with_suffix(".pub").read_text(), ""):
        file.write_text(text)
        with pytest.raises(UsageError, match="/c: it is no private key, or has a passphrase"):
            check_credentials(order, file)


def test_a_cache_that_is_away_is_named_without_the_places_of_keys(
    tmp_path: pathlib.Path, keys: pathlib.Path
) -> None:
    with pytest.raises(AgentError) as error:
        push.copy(Order("copy", "http://127.0.0.1:9", (a_path(tmp_path),)), keys)
    assert str(error.value).startswith("http://127.0.0.1:9: ")
    assert str(keys) not in str(error.value)
