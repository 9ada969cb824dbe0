"""Tests that a run's secrets are not visible in containers, processes, logs or volumes."""

import base64
import pathlib
import re
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest

from orchestrator.shared.architectures import foreign_system, this_system
from orchestrator.shared.run import TOKEN_FILE
from tests.integration.conftest import Forget, Run, docker, own_address

pytestmark = [pytest.mark.docker, pytest.mark.e2e, pytest.mark.timeout(900)]

PASSWORD = "xyzzy-plugh-plover-8431"

#: Interval in seconds between two looks at the processes during a run.
LOOK_SECONDS = 0.02


def said(*arguments: str) -> str:
    """Return docker's output, whether it succeeds or not."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


class Watcher:
    """Records everything visible of all containers and processes, and the lease's token.

    A run without a build takes only seconds, so a thread inspects each container as soon as Docker
    reports its start.
    """

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}
        self.tokens: set[str] = set()
        command = ["docker", "events", "--filter", "event=start", "--format"]
        self._events = subprocess.Popen(
            [*command, "{{.Actor.Attributes.name}}"], stdout=subprocess.PIPE, text=True
        )
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []
        self._start(self._follow)
        self._start(self._look_at_processes)

    def stop(self) -> None:
        self._end.set()
        self._events.kill()
        for thread in self._threads:
            thread.join()
        assert self._events.stdout is not None
        self._events.stdout.close()
        self._events.wait()

    def _start(self, work: Callable[..., None], *arguments: str) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _follow(self) -> None:
        assert self._events.stdout is not None
        for line in self._events.stdout:
            name = line.strip()
            if name.endswith("-cleanup-1"):
                self._start(self._read_token, name)
            for verb in (["inspect"], ["top"], ["logs", "--follow"]):
                self._start(self._look, name, *verb)

    def _look(self, container: str, *verb: str) -> None:
        self.seen[f"docker {verb[0]} {container}"] = said(*verb, container)

    def _read_token(self, container: str) -> None:
        command = ["docker", "exec", container, "cat", str(TOKEN_FILE)]
        while not self._end.is_set() and not self.tokens:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                self.tokens.add(done.stdout.strip())

    def _look_at_processes(self) -> None:
        while not self._end.wait(LOOK_SECONDS):
            for process in pathlib.Path("/proc").glob("[0-9]*"):
                self._read(process / "cmdline")
                self._read(process / "environ")

    def _read(self, file: pathlib.Path) -> None:
        try:
            text = file.read_bytes().decode(errors="replace")
        except OSError:
            return  # the process has ended
        if text not in (known := self.seen.get(str(file), "")):
            self.seen[str(file)] = known + text


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    watcher = Watcher()
    yield watcher
    watcher.stop()


@pytest.fixture
def key(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tester", "-f"]
    subprocess.run([*command, path], check=True)
    return path


def test_secrets_are_nowhere_to_be_seen(
    orchestrate: Run, watcher: Watcher, key: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    lines = key.read_text().splitlines()[2:-1]  # the first lines are the same in all keys
    options = [
        "--wifi-ssid",
        "net",
        "--wifi-password-file",
        "/home/me/wifi",
        "--sign",
        "/home/me/k",
    ]
    outcome = orchestrate(
        "demo",
        *("--no-boot", "--emulation", "shared"),
        *options,
        files={"/home/me/wifi": f"{PASSWORD}\n".encode(), "/home/me/k": key.read_bytes()},
    )
    watcher.stop()
    assert outcome.code == 0, outcome.err
    files = outcome.files()
    image = next(name for name in files if name.endswith(".img"))

    # The build has used the secrets: password, token, signing key.
    assert PASSWORD.encode() in files[image]
    assert len(watcher.tokens) == 1
    signers, signature = tmp_path / "signers", tmp_path / "signature"
    signers.write_text(f"me {(tmp_path / 'key.pub').read_text()}")
    signature.write_bytes(files[f"{image}.sha256.sig"])
    listed = files[f"{image}.sha256"]
    command = ["ssh-keygen", "-Y", "verify", "-n", "nixos-image", "-I", "me"]
    subprocess.run([*command, "-f", signers, "-s", signature], input=listed, check=True)

    # The recorder has seen all containers.
    seen = watcher.seen
    for service in ("cleanup", "registrar", "builder"):
        assert any(
            name.startswith("docker inspect") and name.endswith(f"-{service}-1") and len(text) > 100
            for name, text in seen.items()
        ), service
    assert any(
        "--wifi-password-file" in text for name, text in seen.items() if name.endswith("cmdline")
    )

    seen["stderr"] = outcome.err
    for name, data in files.items():
        if name != image:
            seen[name] = data.decode(errors="replace")
    for tag in docker("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines():
        seen[f"docker history {tag}"] = said("history", "--no-trunc", tag)
        seen[f"docker inspect {tag}"] = said("image", "inspect", tag)
    for secret in (PASSWORD, *lines, *watcher.tokens):
        assert [name for name, text in seen.items() if secret in text] == []

    # The secrets are not left in volumes. The run's own volume is gone (`nothing_left`).
    for secret in (PASSWORD, lines[0]):
        store = ["--rm", "--network", "none", "--volume", "nixos-image-store:/nix:ro"]
        grep = ["--entrypoint", "grep", "nixos-image-builder", "-rlF", secret, "/nix"]
        assert said("run", *store, *grep) == ""


@pytest.mark.slow
def test_the_keys_of_builders_are_nowhere_to_be_seen(
    orchestrate: Run, forget: Forget, watcher: Watcher, key: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """The builder does not answer: the build goes on with an emulator."""
    forget()  # a builder is asked only if there is something to build
    public = base64.b64encode((tmp_path / "key.pub").read_bytes()).decode()
    system = foreign_system(this_system())
    place = f"{own_address()}:9"  # nothing listens there
    line = f"ssh-ng://builder@{place} {system} /home/me/b 1 1 - - {public}"
    outcome = orchestrate(
        "demo",
        *("--no-boot", "--system", system, "--builders", line),
        files={"/home/me/b": key.read_bytes()},
        NIXOS_IMAGE_BUILDERS=f"@/home/me\n{line}",
    )
    watcher.stop()
    assert outcome.code == 0, outcome.err
    told = f"{re.escape(place)} is left out: it cannot be reached"  # its key was asked for
    assert re.search(told, outcome.err), outcome.err[:3000]
    seen = watcher.seen | {"stderr": outcome.err}
    seen |= {name: data.decode(errors="replace") for name, data in outcome.files().items()}
    assert any(name.startswith("docker inspect") and "-builder-1" in name for name in seen)
    for secret in key.read_text().splitlines()[2:-1]:
        assert [name for name, text in seen.items() if secret in text] == []


@pytest.mark.slow
def test_the_keys_of_push_are_nowhere_to_be_seen(orchestrate: Run, watcher: Watcher) -> None:
    """No cache listens: the image is delivered nevertheless, and the exit code tells of it."""
    key = base64.b64encode(bytes(range(60, 124))).decode()
    outcome = orchestrate(
        "demo",
        *("--no-boot", "--push", "http://127.0.0.1:9"),
        *("--sign-key", "/home/me/key", "--push-credentials", "/home/me/netrc"),
        files={
            "/home/me/key": f"me-1:{key}\n".encode(),
            "/home/me/netrc": f"machine 127.0.0.1 login me password {PASSWORD}\n".encode(),
        },
    )
    watcher.stop()
    assert outcome.code == 18, outcome.err
    assert "http://127.0.0.1:9" in outcome.err
    files = outcome.files()
    assert any(name.endswith(".img") for name in files)
    assert any(name.startswith("docker inspect") and "-push-1" in name for name in watcher.seen)
    seen = watcher.seen | {"stderr": outcome.err}
    seen |= {name: data.decode(errors="replace") for name, data in files.items()}
    for secret in (PASSWORD, key[:40]):
        assert [name for name, text in seen.items() if secret in text] == []
