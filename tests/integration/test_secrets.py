"""Secrets of a run are where they belong, and nowhere that anybody looks at from outside."""

import pathlib
import subprocess
import threading
from collections.abc import Iterator

import pytest

from orchestrator.agents.run import TOKEN_FILE, WORK
from tests.integration.conftest import Run, docker

pytestmark = [pytest.mark.docker, pytest.mark.e2e, pytest.mark.timeout(900)]

PASSWORD = "xyzzy-plugh-plover-8431"

#: How often (seconds) all containers are looked at while the run goes on.
LOOK_SECONDS = 0.1


def said(*arguments: str) -> str:
    """What docker says, whether the container is still there or not."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


class Watcher(threading.Thread):
    """Keeps what can be seen of every container and every process here, and the lease's token."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: dict[str, str] = {}
        self.tokens: set[str] = set()
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(LOOK_SECONDS):
            for line in said("ps", "-a", "--format", "{{.ID}} {{.Names}}").splitlines():
                self._look(*line.split()[:2])
            for process in pathlib.Path("/proc").glob("[0-9]*"):
                self._read(process / "cmdline")
                self._read(process / "environ")

    def stop(self) -> None:
        self._end.set()
        self.join()

    def _look(self, container: str, name: str) -> None:
        for verb in (["inspect"], ["logs"], ["top"]):
            self.seen[f"docker {verb[0]} {name}"] = said(*verb, container)
        if name.endswith("-cleanup-1"):
            token = subprocess.run(
                ["docker", "exec", container, "cat", str(TOKEN_FILE)],
                capture_output=True,
                text=True,
                check=False,
            )
            if token.returncode == 0:
                self.tokens.add(token.stdout.strip())

    def _read(self, file: pathlib.Path) -> None:
        try:
            text = file.read_bytes().decode(errors="replace")
        except OSError:
            return  # it has ended
        self.seen[str(file)] = self.seen.get(str(file), "") + text


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    watcher = Watcher()
    watcher.start()
    yield watcher
    watcher.stop()


@pytest.fixture
def key(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tester", "-f", path]
    subprocess.run(command, check=True)
    return path


def test_secrets_are_nowhere_to_be_seen(
    orchestrate: Run, watcher: Watcher, key: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    lines = key.read_text().splitlines()[2:-1]  # the first says what kind of key it is
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
        "--no-boot",
        *options,
        files={"/home/me/wifi": f"{PASSWORD}\n".encode(), "/home/me/k": key.read_bytes()},
    )
    watcher.stop()
    assert outcome.code == 0, outcome.err
    files = outcome.files()
    image = next(name for name in files if name.endswith(".img"))

    # They were used.
    assert PASSWORD.encode() in files[image]
    assert len(watcher.tokens) == 1
    signers, signature = tmp_path / "signers", tmp_path / "signature"
    signers.write_text(f"me {(tmp_path / 'key.pub').read_text()}")
    signature.write_bytes(files[f"{image}.sha256.sig"])
    command = ["ssh-keygen", "-Y", "verify", "-n", "nixos-image", "-I", "me", "-f", signers]
    subprocess.run([*command, "-s", signature], input=files[f"{image}.sha256"], check=True)

    # What there was to be looked at was looked at.
    seen = watcher.seen
    for service in ("cleanup", "registrar", "builder"):
        assert any(
            name.startswith("docker inspect") and name.endswith(f"-{service}-1") and len(text) > 100
            for name, text in seen.items()
        ), service
    assert any("ssh-keygen" in text for name, text in seen.items() if name.endswith("cmdline"))

    seen["stderr"] = outcome.err
    for name, data in files.items():
        if name != image:
            seen[name] = data.decode(errors="replace")
    for tag in docker("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines():
        seen[f"docker history {tag}"] = said("history", "--no-trunc", tag)
        seen[f"docker inspect {tag}"] = said("image", "inspect", tag)
    for secret in (PASSWORD, *lines, *watcher.tokens):
        assert [name for name, text in seen.items() if secret in text] == []

    # Nor is anything left of them.
    for secret in (PASSWORD, lines[0]):
        for place in (WORK, pathlib.Path("/dev/shm")):
            found = subprocess.run(
                ["grep", "-rlF", secret, place], capture_output=True, text=True, check=False
            )
            left = [path for path in found.stdout.splitlines() if ".key" not in path]
            assert left == []
        store = ["--rm", "--network", "none", "--volume", "nixos-image-store:/nix:ro"]
        grep = ["--entrypoint", "grep", "nixos-image-builder", "-rlF", secret, "/nix"]
        assert said("run", *store, *grep) == ""
