"""Tests of builders on other machines: real SSH servers, and Nix in the builder's image."""

import dataclasses
import ipaddress
import json
import pathlib
import secrets
import subprocess
import time
import typing
from collections.abc import Iterator

import pytest

from orchestrator.docker.seccomp import PROFILE
from orchestrator.shared.builders import Builder, Keyed, fingerprint, read_line, write_keyed
from orchestrator.shared.constants import BUILDER
from tests.integration.conftest import docker

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

#: Rights of a worker and of the container that stands for a run's builder.
RIGHTS = (
    "--read-only --user builder --cap-drop ALL --security-opt no-new-privileges"
    f" --security-opt seccomp={PROFILE} --security-opt apparmor=unconfined"
    " --security-opt systempaths=unconfined --tmpfs /tmp:exec --env HOME=/tmp/home"
    " --env NIXOS_IMAGE_LOG=json"
).split()

NIX = f"--tmpfs /nix:exec,uid={BUILDER} --tmpfs /var/nixos-image:uid={BUILDER}".split()

#: What a run's builder does with its builders, and a look for their key everywhere afterwards.
PROGRAM = r"""
import dataclasses, json, os, pathlib, sys
from orchestrator.agents import events
from orchestrator.agents.builder import crew
from orchestrator.agents.builder.nix import Nix
from orchestrator.agents.builder.nix_settings import Settings
from orchestrator.agents.failure import run_agent
from orchestrator.shared.run import WORK, Run

asked = json.load(sys.stdin)
run = Run("t", (), 1, 1, 1)
for folder in (run.folder, pathlib.Path("/nix/var/nix"), pathlib.Path("/tmp/builds")):
    folder.mkdir(parents=True, exist_ok=True)
(run.folder / "builders.json").write_text(asked["builders"])

def look():
    tops = ("/tmp", "/nix", str(WORK), "/dev/shm")
    files = [one for top in tops for one in pathlib.Path(top).rglob("*")]
    for one in pathlib.Path("/proc").glob("[0-9]*"):
        files += [one / "cmdline", one / "environ"]
    for one in files:
        try:
            if one.is_file() and asked["secret"] in one.read_text(errors="replace"):
                yield str(one)
        except OSError:
            pass

def work():
    nix = Nix(Settings(sandbox=True, build_dir="/tmp/builds"), run.folder / "nix.log")
    nix = dataclasses.replace(nix, crew=crew.hire(run))
    del asked["builders"]
    try:
        expression = asked["expression"]
        made = nix.build(["--impure", "--expr", expression], asked["count"])
        events.emit("made", texts=[one.read_text() for one in made])
    finally:
        hands = nix.recorder.result().hands
        events.emit("hands", hands=[dataclasses.asdict(one) for one in hands])
        events.emit("seen", places=sorted(look()))

run_agent("test", work)
"""


def expression(count: int, script: str, system: str = "x86_64-linux") -> str:
    """Return a Nix expression of `count` derivations that run the shell's `script`."""
    return (
        f'builtins.genList (i: derivation {{ name = "t-${{toString i}}"; system = "{system}";'
        f' salt = "{secrets.token_hex(4)}"; builder = "/bin/sh";'
        f" args = [ \"-c\" ''{script}'' ]; }}) {count}"
    )


@dataclasses.dataclass(frozen=True)
class Pair:
    """A pair of SSH keys."""

    secret: str
    public: str


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return new_pair(tmp_path_factory.mktemp("keys"))


def new_pair(folder: pathlib.Path) -> Pair:
    key = folder / "key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)]
    subprocess.run(command, check=True)
    return Pair(key.read_text(), " ".join(key.with_suffix(".pub").read_text().split()[:2]))


def gateway() -> str:
    """Return the address at which containers reach the engine's host; not every engine tells it."""
    words = ["--network", "bridge", "--entrypoint", "cat", "nixos-image-builder", "/proc/net/route"]
    routes = [line.split() for line in docker("run", "--rm", *words).splitlines()]
    (found,) = [route[2] for route in routes if route[1] == "00000000"]
    return str(ipaddress.IPv4Address(bytes.fromhex(found)[::-1]))


#: The worker's own program.
PLAIN = ("-m", "orchestrator.agents.builder.worker")


class Worker:
    """A worker in a container; `address` is where other containers of Docker's bridge reach it.

    `outside` is where containers of any network do.
    """

    def __init__(self, public: str, *options: str, program: tuple[str, ...] = PLAIN) -> None:
        self.name = f"nixos-image-test-worker-{secrets.token_hex(3)}"
        given = [*RIGHTS, *(options or NIX), "--env", f"NIXOS_IMAGE_WORKER_KEYS={public}"]
        docker(
            *("run", "--detach", "--name", self.name, "--publish", f"{gateway()}::2222", *given),
            *("--entrypoint", "python3", "nixos-image-worker", *program),
        )
        self.host_key = str(self._event()["host_key"])
        self.port = "2222"
        self.host = docker(
            "inspect", self.name, "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}"
        )
        self.address = f"ssh-ng://builder@{self.host}:{self.port}"
        self.outside = f"ssh-ng://builder@{docker('port', self.name, '2222').splitlines()[0]}"

    def _event(self) -> dict[str, object]:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            said = subprocess.run(["docker", "logs", self.name], capture_output=True, text=True)
            events = [json.loads(line) for line in said.stdout.splitlines() if line[:1] == "{"]
            found = [one for one in events if one["event"] == "worker"]
            if found and "Server listening" in said.stderr:
                return dict(found[0])
            time.sleep(0.2)
        raise AssertionError(said.stdout + said.stderr)

    def builder(self, system: str = "x86_64-linux") -> Builder:
        return Builder(self.address, (system,), "key", jobs=2, host_key=self.host_key)

    def remove(self) -> None:
        docker("rm", "--force", "--volumes", self.name)


@pytest.fixture
def worker(nothing_left: None, pair: Pair) -> Iterator[Worker]:
    one = Worker(pair.public)
    yield one
    one.remove()


@dataclasses.dataclass(frozen=True)
class Seen:
    """What the builder has said: events by name, the last of each."""

    events: dict[str, dict[str, typing.Any]]
    text: str

    @property
    def lost(self) -> str:
        return str(self.events.get("builder-lost", {}).get("message", ""))

    @property
    def texts(self) -> list[str]:
        return list(self.events["made"]["texts"])

    @property
    def hands(self) -> dict[str, int]:
        return {one["uri"]: one["count"] for one in self.events["hands"]["hands"]}


def build(
    pair: Pair,
    builders: list[Builder],
    text: str,
    count: int = 1,
    during: typing.Callable[[], None] = lambda: None,
) -> Seen:
    """Build the expression `text` with `builders`, and call `during` as soon as one builds."""
    keyed = tuple(Keyed(one, pair.secret) for one in builders)
    document = {
        "builders": write_keyed(keyed),
        "secret": pair.secret.splitlines()[2],
        "expression": text,
        "count": count,
    }
    command = ["docker", "run", "--rm", "-i", *RIGHTS, *NIX, "--entrypoint", "python3"]
    with subprocess.Popen(
        [*command, "nixos-image-builder", "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(document))
        process.stdin.close()
        said = ""
        for line in process.stdout:
            said += line
            if '"event": "builders"' in line:
                during()
    events = [json.loads(line) for line in said.splitlines() if line[:1] == "{"]
    return Seen({one["event"]: one for one in events}, said)


QUICK = "echo here > $out"
#: Builds for some seconds: bash counts them.
SLOW = "while [ $SECONDS -lt 8 ]; do :; done; echo here > $out"


def test_the_key_is_nowhere_to_be_found(worker: Worker, pair: Pair) -> None:
    seen = build(pair, [worker.builder("aarch64-linux")], expression(2, QUICK, "aarch64-linux"), 2)
    # The worker is of this CPU: it cannot build, so nothing hides that it was asked.
    assert "seen" in seen.events, seen.text
    assert seen.events["seen"]["places"] == []
    assert pair.secret.splitlines()[2] not in seen.text


def test_builders_build_and_are_named(worker: Worker, pair: Pair) -> None:
    seen = build(pair, [worker.builder()], expression(4, QUICK), 4)
    assert seen.texts == ["here\n"] * 4, seen.text
    assert seen.hands.get(worker.address, 0) >= 1
    assert seen.lost == ""


@pytest.mark.slow
def test_a_derivation_that_fails_there_is_not_tried_elsewhere(worker: Worker, pair: Pair) -> None:
    seen = build(pair, [worker.builder()], expression(1, "echo boo; exit 3"))
    assert "derivation t-0 failed" in seen.events["failed"]["message"], seen.text
    assert "boo" in seen.events["failed"]["detail"]
    assert (seen.lost, seen.hands) == ("", {worker.address: 1})


@pytest.mark.slow
def test_an_unreachable_builder_is_told_and_the_build_goes_on(worker: Worker, pair: Pair) -> None:
    gone = dataclasses.replace(worker.builder(), uri=f"{worker.address[: -len(worker.port)]}9")
    seen = build(pair, [gone], expression(1, QUICK))
    assert "cannot be reached: ssh: connect to host" in seen.lost, seen.text
    assert (seen.texts, seen.hands) == (["here\n"], {})


@pytest.mark.slow
def test_a_refused_key_is_told_and_the_build_goes_on(
    worker: Worker, tmp_path: pathlib.Path
) -> None:
    seen = build(new_pair(tmp_path), [worker.builder()], expression(1, QUICK))
    assert "refuses the key" in seen.lost, seen.text
    assert (seen.texts, seen.hands) == (["here\n"], {})


@pytest.mark.slow
def test_another_host_key_is_told_and_nothing_is_sent(
    worker: Worker, pair: Pair, tmp_path: pathlib.Path
) -> None:
    other = dataclasses.replace(worker.builder(), host_key=new_pair(tmp_path).public)
    seen = build(pair, [other], expression(1, QUICK))
    assert f"another host key, {fingerprint(worker.host_key)}," in seen.lost, seen.text
    assert (seen.texts, seen.hands) == (["here\n"], {})
    assert "Accepted publickey" not in docker("logs", worker.name)


def test_an_unknown_host_key_is_refused_with_its_fingerprint(worker: Worker, pair: Pair) -> None:
    unknown = dataclasses.replace(worker.builder(), host_key="")
    seen = build(pair, [unknown], expression(1, QUICK))
    failed = seen.events["failed"]
    assert (failed["kind"], failed["code"]) == ("usage", "builder-unknown"), seen.text
    assert fingerprint(worker.host_key) in failed["message"]
    assert read_line(failed["hint"].rpartition("use the line: ")[2]) == worker.builder()
    assert "made" not in seen.events


@pytest.mark.slow
def test_a_builder_that_dies_while_it_builds_is_left_out(worker: Worker, pair: Pair) -> None:
    def kill() -> None:
        time.sleep(4)
        docker("kill", worker.name)

    seen = build(pair, [worker.builder()], expression(1, SLOW), during=kill)
    assert "lost while it built" in seen.lost, seen.text
    assert (seen.texts, seen.hands) == (["here\n"], {worker.address: 1})


@pytest.mark.slow
def test_a_builder_that_hangs_while_it_builds_is_left_out(worker: Worker, pair: Pair) -> None:
    def freeze() -> None:
        time.sleep(4)
        docker("exec", worker.name, "sh", "-c", "kill -STOP -1")

    seen = build(pair, [worker.builder()], expression(1, SLOW), during=freeze)
    assert "lost while it built" in seen.lost, seen.text
    assert seen.texts == ["here\n"]


@pytest.mark.slow
def test_a_builder_whose_disk_is_full_is_left_out(nothing_left: None, pair: Pair) -> None:
    small = [one.replace("exec", "exec,size=48m") for one in NIX]
    one = Worker(pair.public, *small)
    try:
        grow = "s=xxxxxxxxxx; for i in {1..17}; do s=$s$s; done"
        script = f"{grow}; for i in {{1..60}}; do echo $s; done > $out && echo here > $out"
        seen = build(pair, [one.builder()], expression(1, script))
        assert "its disk is full" in seen.lost, seen.text
        assert seen.texts == ["here\n"]
    finally:
        one.remove()


@pytest.mark.slow
def test_what_only_a_lost_builder_builds_for_ends_with_what_was_wrong(
    worker: Worker, pair: Pair
) -> None:
    gone = dataclasses.replace(
        worker.builder("aarch64-linux"), uri=f"{worker.address[: -len(worker.port)]}9"
    )
    seen = build(pair, [gone], expression(1, QUICK, "aarch64-linux"))
    failed = seen.events["failed"]
    assert failed["kind"] == "builder", seen.text
    assert "no builder for aarch64-linux is left" in failed["message"]
    assert "cannot be reached" in failed["message"]


def test_a_worker_does_nothing_but_build(
    worker: Worker, pair: Pair, tmp_path: pathlib.Path
) -> None:
    key = tmp_path / "key"
    key.write_text(pair.secret)
    key.chmod(0o600)
    options = "-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"

    def ssh(*words: str) -> subprocess.CompletedProcess[str]:
        command = ["ssh", *options.split(), "-i", str(key), "-p", worker.port]
        return subprocess.run(
            [*command, *words], input="", capture_output=True, text=True, timeout=30, check=False
        )

    place = f"builder@{worker.host}"
    assert "uid=" not in ssh(place, "id").stdout
    assert "PTY allocation request failed" in ssh("-tt", place).stderr
    forward = ssh("-o", "ExitOnForwardFailure=yes", "-R", "12345:127.0.0.1:1", "-N", place)
    assert "remote port forwarding failed" in forward.stderr
    through = ssh("-W", "127.0.0.1:2222", place)
    assert "open failed: administratively prohibited" in through.stderr
    password = ssh("-o", "PubkeyAuthentication=no", place)
    assert "Permission denied (publickey)" in password.stderr
    assert "Permission denied (publickey)" in ssh(f"root@{worker.host}").stderr
