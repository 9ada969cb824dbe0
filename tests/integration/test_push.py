"""Tests `--push` to real servers: an SSH server, and a server of S3's that checks signatures."""

import base64
import contextlib
import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import requests

from orchestrator.shared.builders import encoded, fingerprint
from orchestrator.shared.errors import UsageError
from orchestrator.shared.paths import ROOT
from orchestrator.shared.push import CREDENTIALS, HOST_KEY, SIGN_KEY
from orchestrator.shared.text import public
from tests.integration.conftest import Run, docker, own_address
from tests.integration.test_builders import NIX, RIGHTS, Pair, Worker, new_pair

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

#: Builds a store path and pushes it twice, as the agent does in its container.
PROGRAM = r"""
import json, os, pathlib, sys
from orchestrator.agents import events
from orchestrator.agents.builder import push
from orchestrator.agents.failure import AgentError, run_agent
from orchestrator.shared import command
from orchestrator.shared.push import Order

asked = json.load(sys.stdin)
keys = pathlib.Path("/tmp/keys")
for folder in (keys, pathlib.Path("/nix/var/nix")):
    folder.mkdir(parents=True, exist_ok=True)
for name, text in asked["keys"].items():
    (keys / name).write_text(text)

def work():
    os.environ["NIX_CONFIG"] = "experimental-features = nix-command\nbuild-users-group =\n"
    made = command.run(["nix-build", "--no-out-link", "--option", "sandbox", "false", "--expr",
        'derivation { name = "t"; system = builtins.currentSystem; builder = "/bin/sh";'
        ' args = [ "-c" "echo pushed > $out" ]; }']).text.strip()
    for _ in range(2):
        push.copy(Order("copy", asked["url"], (made,)), keys)

run_agent("push", work)
"""

SECRET = "me-1:" + base64.b64encode(bytes(range(64))).decode()


@dataclasses.dataclass(frozen=True)
class Pushed:
    """The messages of both copies, or the error."""

    messages: list[str]
    failed: dict[str, str]


def push(url: str, credentials: str) -> Pushed:
    """Push a store path to `url` from a container like the agent's."""
    document = {"url": url, "keys": {SIGN_KEY: SECRET, CREDENTIALS: credentials}}
    command = ["docker", "run", "--rm", "-i", *RIGHTS, *NIX, "--entrypoint", "python3"]
    done = subprocess.run(
        [*command, "nixos-image-builder", "-c", PROGRAM],
        input=json.dumps(document),
        capture_output=True,
        text=True,
    )
    events = [json.loads(line) for line in done.stdout.splitlines() if line[:1] == "{"]
    assert events, done.stdout + done.stderr
    for secret in (SECRET, *(line for line in credentials.splitlines() if len(line) > 60)):
        assert secret not in done.stdout + done.stderr
    failed: dict[str, str] = next((one for one in events if one["event"] == "failed"), {})
    return Pushed([one["message"] for one in events if one["event"] == "pushed"], failed)


# --- another machine's store ----------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: pathlib.Path) -> Pair:
    return new_pair(tmp_path)


@pytest.fixture
def worker(nothing_left: None, pair: Pair) -> Iterator[Worker]:
    one = Worker(pair.public)
    yield one
    one.remove()


def test_a_store_on_another_machine_gets_what_was_built(
    worker: Worker, pair: Pair, tmp_path: pathlib.Path
) -> None:
    url = f"{worker.address}?{HOST_KEY}={encoded(worker.host_key)}"
    pushed = push(url, pair.secret)
    shown = public(url)
    assert pushed.messages == [f"one store path copied to {shown}", f"{shown} has everything"]
    (path,) = docker("exec", worker.name, "sh", "-c", "ls -d /nix/store/*-t").split()
    assert docker("exec", worker.name, "cat", path) == "pushed"

    (tmp_path / "other").mkdir()
    other = new_pair(tmp_path / "other")
    refused = push(url, other.secret)
    assert "refuses the key" in refused.failed["message"], refused
    wrong = push(f"{worker.address}?{HOST_KEY}={encoded(other.public)}", pair.secret)
    assert "another host key" in wrong.failed["message"], wrong


def test_a_machine_whose_host_key_is_unknown_ends_the_run_before_the_build(
    worker: Worker, pair: Pair, orchestrate: Run
) -> None:
    words = ["demo", "--no-boot", "--push", worker.outside, "--sign-key", "/s"]
    files = {"/s": SECRET.encode(), "/c": pair.secret.encode()}
    done = orchestrate(*words, "--push-credentials", "/c", files=files)
    assert done.code == UsageError.exit_code, done.err
    assert fingerprint(worker.host_key) in done.err
    assert f"--push '{worker.outside}?{HOST_KEY}={encoded(worker.host_key)}'" in done.err
    assert "push-unknown" in done.err
    assert "build: " not in done.err
    assert "Accepted publickey" not in docker("logs", worker.name)


# --- S3 -------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Store:
    """A server of S3's with the bucket `cache`, and the credentials that may write there."""

    endpoint: str
    credentials: str

    def url(self, bucket: str = "cache") -> str:
        return f"s3://{bucket}/nix?endpoint={self.endpoint}&scheme=http"


#: Makes a user with a key and a bucket, and prints the key.
MAKE = """
import boto3, json, sys
made = {"endpoint_url": sys.argv[1], "region_name": "us-east-1",
    "aws_access_key_id": "x", "aws_secret_access_key": "y"}
iam = boto3.client("iam", **made)
iam.create_user(UserName="u")
key = iam.create_access_key(UserName="u")["AccessKey"]
policy = {"Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
iam.put_user_policy(UserName="u", PolicyName="p", PolicyDocument=json.dumps(policy))
boto3.client("s3", **made).create_bucket(Bucket="cache")
print(key["AccessKeyId"], key["SecretAccessKey"])
"""

#: Number of requests of `MAKE`; afterwards the server checks signatures.
OPEN_REQUESTS = 4


@pytest.fixture
def store(tmp_path: pathlib.Path) -> Iterator[Store]:
    """Start moto, a server of AWS' interfaces, where other containers of the bridge reach it."""
    place = tmp_path / "moto"
    pip = [sys.executable, "/opt/pip.whl/pip", "install", "-q", "--no-deps", "--target", str(place)]
    pip += ["--root-user-action", "ignore"]
    lock = ["--require-hashes", "--no-cache-dir", "-r", str(ROOT / "locks/moto.txt")]
    bundle = pathlib.Path("/usr/local/share/nixos-image/ca-bundle.crt")
    cert = ["--cert", str(bundle)] if bundle.exists() and bundle.stat().st_size else []
    subprocess.run([*pip, *cert, *lock], check=True)
    variables = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "PYTHONPATH": os.fspath(place),
        "INITIAL_NO_AUTH_ACTION_COUNT": str(OPEN_REQUESTS),
    }
    address = f"{own_address()}:{_free_port()}"
    host, port = address.split(":")
    program = [sys.executable, "-m", "moto.server", "-H", host, "-p", port]
    with subprocess.Popen(program, env=variables, stderr=subprocess.DEVNULL) as server:
        try:
            _await(f"http://{address}/moto-api/")
            made = [sys.executable, "-c", MAKE, f"http://{address}"]
            said = subprocess.run(made, env=variables, check=True, capture_output=True, text=True)
            key, secret = said.stdout.split()
            text = f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
            yield Store(address, text)
        finally:
            server.terminate()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


def _await(url: str) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(requests.RequestException):
            requests.get(url, timeout=5)
            return
        time.sleep(0.2)
    raise AssertionError(url)


@pytest.mark.slow
@pytest.mark.test_image("other containers reach it by its host name's address")
def test_a_bucket_gets_what_was_built_by_signed_requests(store: Store) -> None:
    url = store.url()
    pushed = push(url, store.credentials)
    assert pushed.messages == [f"one store path copied to {url}", f"{url} has everything"], pushed
    forged = push(url, store.credentials.rstrip()[:-4] + "xxxx\n")
    assert "S3 answers 403: SignatureDoesNotMatch" in forged.failed["message"]
    absent = push(store.url("none"), store.credentials)
    assert "NoSuchBucket" in absent.failed["message"]
