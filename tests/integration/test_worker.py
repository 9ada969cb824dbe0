"""Tests of the worker: the verb, plain Compose, and one that has another CPU."""

import dataclasses
import os
import pathlib
import secrets
import subprocess
import time
from collections.abc import Iterator

import pytest

from orchestrator.shared.builders import fingerprint, read_line
from orchestrator.shared.paths import ROOT
from tests.integration.conftest import HOME, Forget, Run, docker
from tests.integration.test_builders import NIX, Pair, Worker, new_pair

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

#: Limits of a container, in bytes and in processes; 0 is none.
LIMITS = "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}"

#: Program of a worker that has another CPU.
EMULATED = ("-c", (ROOT / "tests/emulated_worker.py").read_text())


@pytest.fixture
def pair(tmp_path: pathlib.Path) -> Pair:
    return new_pair(tmp_path)


def test_the_verb_starts_one_tells_its_line_and_ends_it(orchestrate: Run, pair: Pair) -> None:
    keys = {"/k.pub": f"{pair.public}\n".encode()}
    words = ["worker", "--port", "22022", "--authorized-key", "/k.pub", "--jobs", "3"]
    try:
        started = orchestrate(*words, files=keys)
        assert started.code == 0, started.err
        line = started.tar.decode()
        assert line.startswith("ssh-ng://builder@127.0.0.1:22022 ")
        # A builder's line with this address is refused, and one that still has KEY.
        told = read_line(line.replace("127.0.0.1", "192.0.2.1").replace(" KEY ", " key "))
        assert told.jobs == 3
        found = docker("port", "nixos-image-worker-1", "2222")
        assert found == "127.0.0.1:22022"
        # Clients may send any program: it must not take the host's memory or processes.
        limits = docker("inspect", "nixos-image-worker-1", "-f", LIMITS).split()
        assert all(int(one) > 0 for one in limits), limits
        assert orchestrate("clean").code == 0
        status = orchestrate("worker", "status")
        assert "running" in status.tar.decode()
        assert fingerprint(told.host_key) in status.tar.decode()
    finally:
        assert orchestrate("worker", "stop").code == 0
        docker("volume", "rm", "nixos-image-worker-store")
    assert "there is no worker" in orchestrate("worker", "status").tar.decode()


@pytest.mark.slow
def test_plain_compose_starts_the_same_worker_and_nothing_else(
    nothing_left: None, orchestrate: Run, pair: Pair
) -> None:
    file = ["docker", "compose", "--file", str(HOME / "compose.yaml")]
    variables = {"NIXOS_IMAGE_WORKER_KEYS": pair.public, "NIXOS_IMAGE_WORKER_PORT": "22023"}
    up = [*file, "--profile", "worker", "up", "--detach"]
    subprocess.run(up, env={**os.environ, **variables}, check=True, capture_output=True)
    try:
        project = "label=com.docker.compose.project=nixos-image"
        names = docker("ps", "--all", "--filter", project, "--format", "{{.Names}}")
        assert names == "nixos-image-worker-1"
        until = time.monotonic() + 60
        while "ssh-ng://" not in (said := orchestrate("worker", "status").tar.decode()):
            assert time.monotonic() < until, said
        assert "ssh-ng://builder@127.0.0.1:22023 " in said
    finally:
        assert orchestrate("worker", "stop").code == 0
        docker("volume", "rm", "nixos-image-worker-store")
    plain = subprocess.run([*file, "config", "--services"], capture_output=True, text=True)
    assert set(plain.stdout.split()) == {"cleanup", "registrar", "builder"}, plain.stderr


@pytest.fixture
def emulators() -> Iterator[str]:
    """A volume with the emulators, for a worker that stands for one with another CPU."""
    name = f"test-emulators-{secrets.token_hex(3)}"
    options = ["--entrypoint", "true", "--volume", f"{name}:/opt/qemu"]
    docker("run", "--rm", *options, "nixos-image-qemu-setup")
    yield name
    docker("volume", "rm", name)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_is_emulated_here_where_a_builder_has_the_cpu(
    emulators: str, nothing_left: None, orchestrate: Run, forget: Forget, pair: Pair
) -> None:
    """The worker emulates; the run knows nothing of it: it registers nothing, nowhere."""
    options = [*NIX, "--tmpfs", "/run:exec", "--volume", f"{emulators}:/opt/qemu:ro"]
    worker = Worker(pair.public, *options, program=EMULATED)
    try:
        here = dataclasses.replace(worker.builder("aarch64-linux"), uri=worker.outside)
        line = here.line("/home/me/b")
        forget()  # a builder is asked only if there is something to build
        words = ["demo", "--system", "aarch64-linux", "--no-boot"]
        done = orchestrate(
            *(*words, "--builders", line, "--emulation", "native"),
            files={"/home/me/b": pair.secret.encode()},
            NIXOS_IMAGE_BUILDERS=f"@/home/me\n{line}",
        )
        assert done.code == 0, done.err
        result = done.result()
        assert (result["emulation"], result["emulators"]) == ("builder", [])
        assert [one["service"] for one in result["privileges"]] == ["builder"]
        (hands,) = result["builders"]
        assert hands["uri"] == worker.outside
        assert hands["builds"] >= 1
    finally:
        worker.remove()
