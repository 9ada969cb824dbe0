"""Fixtures of the integration tests: real engine, binfmt_misc and containers.

Runs inside the test image, or not at all.
"""

import dataclasses
import io
import json
import os
import pathlib
import platform
import secrets
import socket
import subprocess
import tarfile
import time
import typing
from collections.abc import Callable, Iterator

import pytest

from orchestrator.shared.run import WORK

TABLE = (
    "import json; from orchestrator.agents.emulation import binfmt;"
    "print(json.dumps({name: entry.text for name, entry in binfmt.entries().items()}))"
)

#: Name of the container that holds binfmt_misc mounted during the tests.
HOLDER = f"nixos-image-table-{os.getpid()}"

HOME = pathlib.Path("/opt/nixos-image")

PROXIES = {"http_proxy", "https_proxy", "no_proxy"}

#: Docker options that a container needs to mount binfmt_misc.
RIGHTS = "--cap-drop ALL --cap-add SYS_ADMIN --security-opt apparmor=unconfined".split()


def own_address() -> str:
    """Return the address at which other containers of Docker's bridge reach the tests' own."""
    return socket.gethostbyname(socket.gethostname())


def docker(*arguments: str, stdin: str | None = None) -> str:
    """Run the docker CLI; return its stdout."""
    done = subprocess.run(
        ["docker", *arguments], input=stdin, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"docker {arguments}: {done.stderr}"
    return done.stdout.strip()


def table() -> dict[str, str]:
    """Read the host's binfmt_misc."""
    found: dict[str, str] = json.loads(docker("exec", HOLDER, "python3", "-c", TABLE))
    return found


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Output and files of a run of the orchestrator."""

    code: int
    err: str
    tar: bytes

    def files(self) -> dict[str, bytes]:
        """The delivered files by name."""
        with tarfile.open(fileobj=io.BytesIO(self.tar)) as stream:
            return {entry.name: stream.extractfile(entry).read() for entry in stream.getmembers()}  # type: ignore[union-attr]

    def result(self) -> dict[str, typing.Any]:
        """`result.json`."""
        found: dict[str, typing.Any] = json.loads(self.files()["result.json"])
        return found


#: First digits of all test runs' IDs, which identify the engine.
ENGINE = "0e0e"

Run = Callable[..., Outcome]
Forget = Callable[[], None]
Alter = Callable[[str, str], None]


@pytest.fixture
def orchestrate() -> Run:
    """Run the orchestrator in a container, as run.sh does."""

    def call(
        *arguments: str,
        files: dict[str, bytes] | None = None,
        trees: tuple[str, ...] = (),
        **variables: str,
    ) -> Outcome:
        run = ENGINE + secrets.token_hex(4)
        work = f"nixos-image-work-{run}"
        labels = {
            "org.nixos-image": "true",
            "org.nixos-image.run": run,
            "com.docker.compose.project": f"nixos-image-{run}",
            "com.docker.compose.volume": "work",
        }
        volume = ",".join(f"volume-label={name}={value}" for name, value in labels.items())
        socket = os.environ["NIXOS_IMAGE_SOCKET"]
        own = docker("image", "inspect", "--format", "{{.Id}}", "nixos-image-orchestrator")
        given = {name: value for name, value in os.environ.items() if name.lower() in PROXIES}
        environment = {
            **given,
            "NIXOS_IMAGE_SOCKET": socket,
            "NIXOS_IMAGE_RUN": run,
            "NIXOS_IMAGE_CWD": "/somewhere",
            "NIXOS_IMAGE_ORCHESTRATOR": own,
            **variables,
        }
        if files:
            environment["NIXOS_IMAGE_INPUT"] = "1"
        command = ["docker", "run", "--rm", "-i", "--name", f"nixos-image-{run}"]
        for name in ("org.nixos-image", "org.nixos-image.run"):
            command += ["--label", f"{name}={labels[name]}"]
        # Share this container's PID namespace: test_secrets looks at processes.
        command += ["--network", "none", "--log-driver", "none"]
        command += ["--pid", f"container:{platform.node()}"]
        command += ["--mount", f"type=bind,source={socket},target=/var/run/docker.sock"]
        command += ["--mount", f"type=volume,source={work},target={WORK},{volume}"]
        # Pass values, not names: a DOCKER_HOST in this process' environment would also redirect the
        # client.
        for name, value in environment.items():
            command += ["--env", f"{name}={value}"]
        done = subprocess.run(
            [*command, own, "orchestrator", *arguments],
            input=sent(files or {}, trees),
            capture_output=True,
            check=False,
        )
        # If containers that use the work volume are left, `clean` removes it with them.
        subprocess.run(["docker", "volume", "rm", work], capture_output=True, check=False)
        return Outcome(done.returncode, done.stderr.decode(), done.stdout)

    return call


def sent(files: dict[str, bytes], trees: tuple[str, ...] = ()) -> bytes:
    """Make run.sh's tar stream of the caller's files, by absolute path.

    `trees` are folders of which all is sent.
    """
    files = files | {"/.trees": "".join(f"{tree}\0" for tree in trees).encode()}
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as stream:
        for path, content in files.items():
            info = tarfile.TarInfo(path.lstrip("/"))
            info.size, info.mode = len(content), 0o600
            stream.addfile(info, io.BytesIO(content))
    return target.getvalue()


@pytest.fixture
def forget() -> Forget:
    """Have the store forget the demo's systems, so that the next run has something to build."""

    def call() -> None:
        subprocess.run([HOME / "tests/forget-demo"], check=True)

    return call


def things() -> set[str]:
    """List containers, networks and volumes of runs, except those that outlive runs."""
    containers = docker("ps", "-aq", "--filter", "label=org.nixos-image.run").split()
    return {
        *containers,
        *docker("network", "ls", "-q", "--filter", "label=org.nixos-image").split(),
        *docker("volume", "ls", "-q", "--filter", "label=org.nixos-image").split(),
    } - {"nixos-image-host", "nixos-image-history"}


@pytest.fixture(scope="session", autouse=True)
def table_held() -> Iterator[None]:
    """Keep binfmt_misc mounted during the tests, like hosts that mount it.

    Otherwise, since Linux 6.7, leftovers would vanish with each run's last mount.
    """
    options = ["-d", "--rm", "--name", HOLDER, *RIGHTS, "--network", "none", "--tmpfs", "/run"]
    # Its processes end with this container's, also if the tests are killed.
    options += ["--pid", f"container:{platform.node()}"]
    options += ["--entrypoint", "python3"]
    imports = "import time; from orchestrator.agents.emulation import binfmt"
    command = ["-u", "-c", f"{imports}; binfmt.mount(); print('held'); time.sleep(7200)"]
    docker("run", *options, "nixos-image-qemu-setup", *command)
    while "held" not in docker("logs", HOLDER):
        time.sleep(0.1)
    yield
    docker("rm", "-f", HOLDER)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Check after each test that binfmt_misc is as before.

    No container, network or volume may be left, either.
    """
    before, there = table(), things()
    yield
    assert table() == before
    assert things() <= there


@pytest.fixture
def altered(request: pytest.FixtureRequest) -> Iterator[Alter]:
    """Replace an image for one test by one with an additional Dockerfile line.

    The new image has the old one's labels, so it counts as up to date.
    """
    kept: list[str] = []

    def alter(image: str, lines: str) -> None:
        docker("tag", image, f"{image}:kept")
        kept.append(image)
        docker(
            "build",
            "--quiet",
            "--force-rm",
            "--tag",
            image,
            "-",
            stdin=f"FROM {image}:kept\nUSER root\n{lines}\nUSER builder\n",
        )

    yield alter
    for image in kept:
        docker("tag", f"{image}:kept", image)
        docker("rmi", f"{image}:kept")
