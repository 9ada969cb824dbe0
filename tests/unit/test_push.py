"""Tests `--push`, `cache` and this engine's own cache: requests, refusals, what Nix is told."""

import base64
import contextlib
import dataclasses
import gzip
import http.server
import os
import pathlib
import threading
import types
import typing
from collections.abc import Iterator

import pytest
import requests

from orchestrator.agents.builder import own_cache, push, s3
from orchestrator.decide.sent_keys import check_credentials, take_keys
from orchestrator.docker.engine import Engine
from orchestrator.docker.server import _place
from orchestrator.docker.workspace import ROOTS_OWN, TAKEN, Workspace
from orchestrator.run import appliance
from orchestrator.run.push import Pusher, _adopt
from orchestrator.shared.builders import encoded
from orchestrator.shared.constants import MIB
from orchestrator.shared.errors import PushError, UsageError
from orchestrator.shared.progress import Progress
from orchestrator.shared.push import (
    HOST_KEY,
    KEYS,
    OWN,
    OWN_FOLDER,
    SIGN_KEY,
    Order,
    Push,
    public_key,
)
from orchestrator.verbs.cache import Cache, describe, reachable
from tests.unit.asking import ask, demo, orders
from tests.unit.requests import CALLER

WEB = "https://cache.example.org"
SECRET = "me-1:" + base64.b64encode(bytes(range(64))).decode()


@pytest.mark.parametrize("verb", ["demo", "build"])
def test_keys_are_sent_and_are_paths_of_the_caller(verb: str) -> None:
    words = [verb, "--push", WEB, "--sign-key", "a/key", "--push-credentials=/c"]
    request = ask(words)
    assert getattr(request, "push") == Push(WEB, f"{CALLER.cwd}/a/key", "/c")  # noqa: B009 - any verb
    sent = [one for one in orders(verb, request) if one[0] == "send" and "key" in one[1] + one[2]]
    assert ["send", "--sign-key", f"{CALLER.cwd}/a/key"] in sent
    assert ["send", "--push-credentials", "/c"] in orders(verb, request)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--sign-key k", "only with --push"),
        ("--push-credentials k", "only with --push"),
        (f"--push {WEB}", "without a signature"),
        ("--push file: --sign-key k", "no other key than the cache's own"),
        ("--push file:///srv/cache --sign-key k", "no folder of this computer"),
        ("--push ftp://host --sign-key k", "not the URL of a binary cache"),
        ("--push http:cache --sign-key k", "not the URL of a binary cache"),
        ("--push http://cache?secret-key=/k --sign-key k", "names a file that is not sent"),
        ("--push s3://cache --sign-key k", "nobody may write there without credentials"),
        ("--push s3://Cache --sign-key k --push-credentials c", "not the name of a bucket"),
        ("--push s3://cache?acl=x --sign-key k --push-credentials c", "'acl' is not known"),
        ("--push s3://cache?scheme=ftp --sign-key k --push-credentials c", "http or https"),
        ("--push ssh-ng://me@host --sign-key k", "nobody may write there without credentials"),
        ("--push ssh-ng://me@localhost --sign-key k --push-credentials c", "container itself"),
        ("--push ssh-ng://me@host?ssh-key=/k --sign-key k --push-credentials c", "is not known"),
        (
            "--push ssh-ng://h?base64-ssh-public-host-key=AA --sign-key k --push-credentials c",
            "no host key",
        ),
        ("--push https://me:word@host --sign-key k", "would be seen in process lists"),
    ],
)
def test_what_cannot_be_pushed_to_is_refused(words: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        ask(["demo", *words.split()])
    assert error.value.hint
    assert "word@" not in str(error.value)


def test_a_wrong_key_is_refused_before_anything_is_built(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    monkeypatch.setattr("orchestrator.decide.sent_keys.received_file", lambda _who, _path: file)
    request = demo(push=Push(WEB, "/key"))
    for text in ("no key", "me-1:AAAA", f"me 1:{SECRET.partition(':')[2]}"):
        file.write_text(text)
        with pytest.raises(UsageError, match="--sign-key /key: not a secret key of Nix"):
            take_keys(request, CALLER, tmp_path / f"kept{len(text)}")
    file.write_text(SECRET + "\n")
    take_keys(request, CALLER, tmp_path / "kept")
    assert (tmp_path / "kept/sign-key").read_text() == SECRET + "\n"


def test_an_image_named_like_the_key_does_not_keep_the_key_away(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "run"
    for folder in (shared / TAKEN, shared / ROOTS_OWN, shared / KEYS):
        folder.mkdir(parents=True)
    (shared / TAKEN / "cache.key").write_text("an image")
    monkeypatch.setattr(os, "chown", lambda *_args, **_options: None)
    monkeypatch.setattr("orchestrator.run.push.OWN_KEY", tmp_path / "cache.key")
    none = typing.cast("Engine", None)
    pusher = Pusher(none, Workspace(shared, tmp_path / "own"), typing.cast("Progress", None), 0)

    def made(_order: Order) -> None:
        (shared / KEYS / SIGN_KEY).write_text(SECRET)

    monkeypatch.setattr(Pusher, "order", lambda _self, order: made(order))
    (tmp_path / "own").mkdir()
    assert pusher.own_key() == SECRET.encode()
    assert (tmp_path / "cache.key").stat().st_mode & 0o777 == 0o600
    assert (shared / TAKEN / "cache.key").read_text() == "an image"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["cache.key", "own", "run"]


def test_a_key_that_another_run_has_made_meanwhile_stays(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What that run has signed is on the cache: nobody would take it with another key."""
    monkeypatch.setattr("orchestrator.run.push.OWN_KEY", tmp_path / "cache.key")
    (tmp_path / "cache.key").write_text(SECRET)
    (tmp_path / "made").write_text("a later one")
    _adopt(tmp_path / "made")
    assert [one.read_text() for one in tmp_path.iterdir()] == [SECRET]


def test_the_public_key_is_the_second_half_of_the_secret_one() -> None:
    assert public_key(SECRET.encode()) == f"me-1:{base64.b64encode(bytes(range(32, 64))).decode()}"


def test_a_cache_at_all_addresses_is_named_by_the_computer() -> None:
    assert reachable("http://0.0.0.0:5000", "desk") == "http://desk:5000"
    assert reachable("http://[::]:5001", "desk") == "http://desk:5001"
    assert reachable("http://192.0.2.10:5000", "desk") == "http://192.0.2.10:5000"
    assert reachable("", "desk") == ""


@pytest.mark.parametrize(
    ("url", "stranger"),
    [
        ("ssh-ng://me@host:23", "ssh-ng://me@host:23"),
        (f"ssh-ng://me@host?{HOST_KEY}=", "ssh-ng://me@host"),
        (f"ssh-ng://me@host?{HOST_KEY}=AAAA", ""),
        (WEB, ""),
        (OWN, ""),
    ],
)
def test_a_machine_without_a_host_key_is_a_stranger(url: str, stranger: str) -> None:
    assert Push(url).stranger == stranger


def found(url: str, keys: pathlib.Path) -> push.Target:
    """Return the target at `url` as Nix is told of it."""
    with push.target(url, keys) as one:
        return one


def test_each_kind_of_cache_gets_its_keys_by_path(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIX_CONFIG", "")
    key = f"secret-key={tmp_path}/sign-key"
    assert found(OWN, tmp_path).url == f"file://{OWN_FOLDER}?{key}&compression=zstd"
    assert found(f"{WEB}?compression=xz", tmp_path).url == f"{WEB}?compression=xz&{key}"
    assert os.environ["NIX_CONFIG"] == ""
    (tmp_path / "credentials").touch()
    assert found(WEB, tmp_path).url == f"{WEB}?{key}&compression=zstd"
    assert os.environ["NIX_CONFIG"] == f"netrc-file = {tmp_path}/credentials\n"


def test_another_machine_is_known_by_its_host_key(tmp_path: pathlib.Path) -> None:
    (tmp_path / "credentials").write_text("a key")
    host_key = encoded("ssh-ed25519 AAAA")
    one = found(f"ssh-ng://me@host:23?{HOST_KEY}={host_key}", tmp_path)
    assert one.url == f"ssh-ng://me@host:23?ssh-key={tmp_path}/credentials"
    assert not one.signs
    assert (tmp_path / "known_hosts").read_text() == "[host]:23 ssh-ed25519 AAAA\n"
    assert one.variables == {"NIX_SSHOPTS": f"-F {tmp_path}/ssh_config"}
    assert "refuses the key" in one.why("me@host: Permission denied (publickey).")
    assert one.why("error: no space\n") == "no space"


def test_a_caller_s_ca_bundle_counts_for_what_is_pushed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NIX_SSL_CERT_FILE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, "another")
    sent, bundle = tmp_path / "key", tmp_path / "ca"
    sent.write_text(SECRET)
    bundle.write_text("certificates")
    monkeypatch.setattr("orchestrator.decide.sent_keys.received_file", lambda _who, _path: sent)
    monkeypatch.setattr("orchestrator.decide.sent_keys.received", lambda _who, _path: bundle)
    who = dataclasses.replace(CALLER, ca_bundle="/ca")
    take_keys(demo(push=Push(WEB, "/key")), who, tmp_path / "kept")
    found(WEB, tmp_path / "kept")
    assert os.environ["NIX_SSL_CERT_FILE"] == f"{tmp_path}/kept/ca-bundle.crt"
    assert pathlib.Path(os.environ["REQUESTS_CA_BUNDLE"]).read_text() == "certificates"


AWS = "[default]\naws_access_key_id = AK\naws_secret_access_key = SK\n"


@pytest.mark.parametrize(
    ("url", "text", "message"),
    [
        ("s3://cache", "machine x login y", "no AWS credentials file"),
        ("s3://cache", "[default]\naws_access_key_id = AK\n", "no aws_secret_access_key"),
        ("s3://cache", AWS.replace("SK", ""), "no aws_secret_access_key"),
        ("s3://cache", AWS.replace("AK", ""), "no aws_access_key_id"),
        ("s3://cache?profile=work", AWS, "it has no work"),
    ],
)
def test_credentials_of_another_kind_are_refused_before_anything_is_built(
    url: str, text: str, message: str, tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "credentials"
    file.write_text(text)
    with pytest.raises(UsageError, match=message) as error:
        check_credentials(Push(url, "/k", "/c"), file)
    assert str(error.value).startswith("--push-credentials /c: ")
    file.write_text(AWS)
    check_credentials(Push("s3://cache", "/k", "/c"), file)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("s3://cache", "https://cache.s3.us-east-1.amazonaws.com"),
        ("s3://cache/a/b/?region=eu-west-1", "https://cache.s3.eu-west-1.amazonaws.com/a/b"),
        ("s3://cache?endpoint=s3.example.org:9000", "https://s3.example.org:9000/cache"),
        ("s3://cache/a?scheme=http&endpoint=s3.lan", "http://s3.lan/cache/a"),
    ],
)
def test_a_bucket_has_an_address(url: str, address: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "credentials").write_text(AWS)
    assert s3.find(url, tmp_path / "credentials", tmp_path).address == address


def test_what_a_bucket_answers_becomes_nix_status_and_a_reason(tmp_path: pathlib.Path) -> None:
    (tmp_path / "credentials").write_text(AWS)
    bucket = s3.find("s3://cache", tmp_path / "credentials", tmp_path)
    answer = s3.Answer(
        403, b"<Error><Code>AccessDenied</Code><Message>No \x1b[2J</Message></Error>"
    )
    assert bucket.code("HEAD", answer) == 404, "a bucket that may not be listed"
    assert bucket.refusal == ""
    assert bucket.code("PUT", answer) == 403
    assert bucket.refusal == "S3 answers 403"  # a control character is no XML
    text = "<Error><Code>AccessDenied</Code><Message>No\n::error::all is well</Message></Error>"
    assert bucket.code("PUT", s3.Answer(403, text.encode())) == 403
    assert bucket.refusal == "S3 answers 403: AccessDenied: No ::error::all is well", "one line"
    assert bucket.code("PUT", s3.Answer(301, b"")) == 301
    assert "another region" in bucket.refusal


class Endless(http.server.BaseHTTPRequestHandler):
    """Answers without an end; /packed: small, unpacks to a large answer; /away: a redirect."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.endswith("/away"):
            self.send_response(307)
            self.send_header("Location", "/plain")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        if self.path.endswith("/packed"):
            body = gzip.compress(bytes(4 * s3.LARGEST), 1)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.end_headers()
        self.close_connection = True
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(bytes(1 << 16))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endless(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[s3.Bucket]:
    monkeypatch.setattr(s3, "LARGEST", MIB)  # 16 MiB would take seconds
    (tmp_path / "credentials").write_text(AWS)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"s3://cache?endpoint=127.0.0.1:{server.server_port}&scheme=http"
        yield s3.find(url, tmp_path / "credentials", tmp_path)
        server.shutdown()


@pytest.mark.parametrize("name", ["/plain", "/packed"])
def test_an_answer_of_a_bucket_takes_little_memory(name: str, endless: s3.Bucket) -> None:
    with pytest.raises(s3.LongAnswerError):
        endless.send("GET", name, {}, None)
    with s3.served(endless) as address:
        assert requests.get(f"{address}{name}", timeout=60).status_code == 502
    assert endless.refusal == "S3 cannot be used: its answer is longer than 1 MiB"


def test_no_redirect_of_a_bucket_is_followed(endless: s3.Bucket) -> None:
    answer = endless.send("GET", "/away", {}, None)
    assert (endless.code("GET", answer), answer.content) == (307, b"")
    assert "another region" in endless.refusal


def test_the_own_cache_loses_what_the_store_has_lost(tmp_path: pathlib.Path) -> None:
    cache, kept = tmp_path / "cache", tmp_path / "kept"
    (cache / "nar").mkdir(parents=True)
    kept.touch()
    (cache / "nix-cache-info").write_text("StoreDir: /nix/store\n")
    for name, path in (("a", kept), ("b", tmp_path / "gone")):
        (cache / f"{name}.narinfo").write_text(f"StorePath: {path}\nURL: nar/{name}.nar.zst\n")
        (cache / f"nar/{name}.nar.zst").write_bytes(b"x" * 1000)
    (cache / "c.narinfo").write_bytes(b"\xff nothing that Nix has written")
    (cache / "d.narinfo").symlink_to("/nonexistent")
    assert own_cache.content(cache).paths == 4
    assert own_cache.prune(cache) > 1000
    left = sorted(one.name for one in cache.rglob("*") if one.is_file())
    assert left == ["a.nar.zst", "a.narinfo", "nix-cache-info"]
    assert own_cache.content(cache).paths == 1
    assert own_cache.prune(tmp_path / "none") == 0


def test_the_cache_listens_where_it_is_told() -> None:
    default = ask(["cache", "serve"])
    assert isinstance(default, Cache)
    assert (default.action, default.listen, default.port) == ("serve", "127.0.0.1", 5000)
    told = ask("cache serve --listen [::] --port 80".split())
    assert isinstance(told, Cache)
    assert (told.listen, told.port) == ("::", 80)
    assert (_place("::", 80), _place("10.0.0.1", 80)) == ("[::]:80", "10.0.0.1:80")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--port 80", "for cache serve"),
        ("stop --listen ::", "for cache serve"),
        ("serve --json", "for cache info"),
        ("serve --port 0", "not a port"),
        ("serve --port 65536", "not a port"),
        ("serve --listen here", "not an IP address"),
    ],
)
def test_options_of_another_action_are_refused(words: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ask(["cache", *words.split()])


def test_another_machine_is_told_what_it_needs() -> None:
    facts = {"paths": 3, "size": 5 << 20, "public_key": "k:AAAA", "url": "http://10.0.0.1:5000"}
    text = describe(facts)
    assert "3 store paths, 5 MiB" in text
    assert "--substituter http://10.0.0.1:5000 --trusted-public-key k:AAAA" in text
    assert "--substituter" not in describe({**facts, "url": ""})


def test_keys_come_only_when_the_builders_container_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a build has left there could read them."""
    asked: list[str] = []
    ends: list[int | None] = [None, 0]

    def wait_exit(service: str, _seconds: float) -> int | None:
        asked.append(service)
        return ends.pop(0)

    supervisor = types.SimpleNamespace(
        wait_exit=wait_exit,
        event=lambda _service, _name: {"results": ["/nix/store/spec"]},
    )
    run = object.__new__(appliance.Appliance)
    monkeypatch.setattr(run, "_supervisor", supervisor, raising=False)
    monkeypatch.setattr(run, "_run", None, raising=False)
    pushed: list[object] = []
    monkeypatch.setattr("orchestrator.run.push.push", lambda *words: pushed.append(words))
    with pytest.raises(PushError, match="builder does not end"):
        run._push(OWN)
    assert not pushed
    run._push(OWN)
    assert pushed == [(None, OWN, ("/nix/store/spec",))]
    assert asked == ["builder", "builder"]
