"""The one door to Docker: python-on-whales, with failures turned into errors of ours."""

import concurrent.futures
import contextlib
import dataclasses
import json
import pathlib
import signal
import subprocess
import threading
import time
import typing
from collections.abc import Callable, Iterable, Iterator

from python_on_whales import Container, DockerClient
from python_on_whales.exceptions import DockerException

from orchestrator.shared.errors import ApplianceError, DockerError
from orchestrator.shared.paths import ROOT

PROJECT = "nixos-image"
LABEL = "org.nixos-image"
RUN_LABEL = f"{LABEL}.run"
SOURCE_LABEL = f"{LABEL}.source"

#: What outlives runs, and what earlier versions had besides: one volume for all runs' folders.
STORE_VOLUME = f"{PROJECT}-store"
OLD_WORK_VOLUME = f"{PROJECT}-work"

#: Longest time (seconds) that a container takes which only looks at something.
LOOK_SECONDS = 60

#: How Podman (5.4, 5.8) refuses a seccomp profile that a client sends: it takes it for a name.
PROFILE_REFUSED = "opening seccomp profile failed"

#: The option that takes its place (`compose.yaml`) changes nothing. Podman's own profile lets users
#: make namespaces and mount there, but not what Nix' sandbox needs besides (sethostname).
INSTEAD_OF_PROFILE = "NIXOS_IMAGE_SECCOMP=no-new-privileges\n"


@dataclasses.dataclass(frozen=True)
class EngineInfo:
    """What the Docker server says of itself; `memory` is in bytes.

    `remaps` says whether each container gets a user namespace of its own (userns-remap).
    """

    architecture: str
    kernel: str
    version: str
    memory: int
    remaps: bool


def work_volume(run: str) -> str:
    """The volume that `run` shares with its agents; run.sh and compose.yaml know the name, too."""
    return f"{PROJECT}-work-{run or 'compose'}"


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Turn a failed docker command into a `DockerError`: `what` failed, and Docker's last words."""
    try:
        yield
    except DockerException as error:
        lines = [
            line.strip()
            for line in (error.stderr or error.stdout or "").splitlines()
            if line.strip()
        ]
        raise DockerError(
            f"{what}: {lines[-1] if lines else f'exit code {error.return_code}'}"
        ) from error


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """Let signals wait while Docker makes something.

    Interrupted halfway, its client would go on behind our back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python hands signals to the main thread only
        return
    pending: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {
        number: signal.signal(number, lambda got, _: pending.append(got)) for number in numbers
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for got in pending:  # counts more than what may have failed
            signal.raise_signal(got)


def still_there[Thing, Known](
    things: Iterable[Thing], known: Callable[[Thing], Known]
) -> Iterator[Known]:
    """What is `known` of each of `things` that has not gone since they were listed.

    Other runs on this host remove their own.
    """
    for thing in things:
        try:
            yield known(thing)
        except DockerException as error:
            if "no such" not in (error.stderr or "").lower():
                raise


class Engine:
    """Docker and Compose for one run.

    Its `project` holds its containers and networks, `env_file` Compose's variables.
    """

    def __init__(self, run: str, env_file: pathlib.Path) -> None:
        """Nothing is started or asked yet.

        An empty `run` means the project of `docker compose up`. `client` is python-on-whales'.
        """
        self.run = run
        self.project = f"{PROJECT}-{run}" if run else PROJECT
        self._env_file = env_file
        self.client = DockerClient(
            compose_files=[ROOT / "compose.yaml"],
            compose_project_name=self.project,
            compose_project_directory=ROOT,
            compose_env_files=[env_file] if env_file.exists() else [],
        )

    def info(self) -> EngineInfo:
        """Ask the server."""
        with told("docker info"):
            info = self.client.system.info()
        return EngineInfo(
            info.architecture or "",
            info.kernel_version or "",
            info.server_version or "",
            info.mem_total or 0,
            "name=userns" in (info.security_options or []),
        )

    def compose_command(self) -> list[str]:
        """The command line of `docker compose` with this project's files.

        For verbs that are passed through.
        """
        return [str(part) for part in self.client.client_config.docker_compose_cmd]

    def config(self) -> dict[str, typing.Any]:
        """What Compose makes of compose.yaml: every service, whatever its profile."""
        command = [*self.compose_command(), "--profile", "*", "config", "--format", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise DockerError(f"docker compose config: {done.stderr.strip()}")
        return typing.cast("dict[str, typing.Any]", json.loads(done.stdout))

    def inspect(self, names: list[str]) -> list[Container]:
        """What Docker knows of containers, in the order of `names`."""
        with told("docker inspect"):
            return self.client.container.inspect(names)

    def image_source(self, image: str) -> str:
        """The state of the sources that `image` was built from, or nothing if it is not there."""
        with told("docker image inspect"):
            if not self.client.image.exists(image):
                return ""
            return (self.client.image.inspect(image).config.labels or {}).get(SOURCE_LABEL, "")

    def pull_digest(self, image: str) -> str:
        """Pull `image`, and return the digest by which the registry has it.

        The name is forgotten again, if it is new: the appliance's own is another.
        """
        known = self.client.image.exists(image)
        with told(f"pulling {image}"):
            self.client.image.pull(image, quiet=True)
            found = self.client.image.inspect(image).repo_digests
            if not known:
                self.client.image.remove(image)
        name = image.partition(":")[0]
        return next(one.partition("@")[2] for one in found if name in one)

    def packages(self) -> list[tuple[str, ...]]:
        """The Debian packages of this project's images: image, package, version, architecture."""
        rows = []
        with told("dpkg-query"):
            tags = {
                tag
                for image in self.client.image.list(filters={"label": f"{LABEL}=true"})
                for tag in image.repo_tags
            }
            for tag in sorted(tags):
                said = self.client.container.run(
                    tag,
                    ["-W", "-f", "${Package}\t${Version}\t${Architecture}\n"],
                    entrypoint="dpkg-query",
                    networks=["none"],
                    labels={LABEL: "true", RUN_LABEL: self.run},
                    remove=True,
                )
                name = tag.removesuffix(":latest")
                lines = str(said).splitlines()
                rows += [(name, *line.split("\t")) for line in lines]
        return rows

    def run_service(
        self,
        service: str,
        arguments: list[str],
        *,
        program: str = "",
        variables: dict[str, str] | None = None,
    ) -> str:
        """Run a one-off container of `service`, or `program` in it; returns its stdout.

        Raises `DockerError` with the last line that it has said beside.
        """
        command = [*self.compose_command(), "run", "--rm", "--no-deps", "--no-TTY"]
        command += ["--entrypoint", program] if program else []
        for name, value in (variables or {}).items():
            command += ["--env", f"{name}={value}"]
        done = subprocess.run(
            [*command, service, *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            raise DockerError(lines[-1].removeprefix("error: ") if lines else f"{service} failed")
        return done.stdout

    def build(self, service: str, log: pathlib.Path) -> None:
        """Build the image of `service`; its output goes to `log`, its end into the error."""
        with log.open("wb") as file:
            try:
                for _source, line in self.client.compose.build([service], stream_logs=True):
                    file.write(line)
            except DockerException as error:
                file.flush()
                lines = log.read_text(errors="replace").splitlines()
                hint = "the lines above are the builder's; the usual cause is an unreachable mirror"
                raise DockerError(
                    f"the image of {service} cannot be built",
                    hint=hint,
                    detail="\n".join(lines[-25:]),
                ) from error

    def create(self, services: tuple[str, ...]) -> dict[str, str]:
        """Create the containers of `services` and no others; returns their names by service."""
        try:
            self._create(services)
        except DockerError as error:
            if PROFILE_REFUSED not in str(error):
                raise
            with self._env_file.open("a") as file:
                file.write(INSTEAD_OF_PROFILE)
            self._create(services)
        return {service: f"{self.project}-{service}-1" for service in services}

    def _create(self, services: tuple[str, ...]) -> None:
        # `create` has no --no-deps: it asks for the images of services that will not run.
        command = ["up", "--no-start", "--no-deps", "--no-build", *services]
        with told(f"creating {', '.join(services)}"), signals_wait():
            for _ in self._stream(command):
                pass

    def run_to_end(self, service: str) -> tuple[int, list[str]]:
        """Run the container of `service`, which ends by itself; its exit code and what it says."""
        (name,) = self.create((service,)).values()
        try:
            self.start([name])
            code = self.exit_code(name, LOOK_SECONDS)
            self.kill(name)
            return code, list(self.logs(name))
        finally:
            self.remove(name)

    def create_one(self, service: str, name: str, arguments: list[str]) -> None:
        """Start a one-off container of `service` in the background."""
        with told(f"starting {service}"), signals_wait():
            self.client.compose.run(
                service, arguments, detach=True, tty=False, dependencies=False, name=name
            )

    def run_on_terminal(self, service: str, name: str, arguments: list[str]) -> int:
        """Run a one-off container of `service` on this process' own terminal.

        Returns its exit code.
        """
        command = [
            *self.compose_command(),
            "run",
            "--rm",
            "--no-deps",
            "--name",
            name,
            service,
            *arguments,
        ]
        return subprocess.run(command, check=False).returncode

    def start(self, names: list[str]) -> None:
        """Start containers side by side: they wait for each other by themselves."""
        with (
            told(f"starting {', '.join(names)}"),
            signals_wait(),
            concurrent.futures.ThreadPoolExecutor() as pool,
        ):
            list(pool.map(self.client.container.start, names))

    def logs(self, name: str) -> Iterator[str]:
        """Lines that the container says, until it ends."""
        with told("docker logs"):
            stream = typing.cast(
                "Iterable[tuple[str, bytes]]",
                self.client.container.logs(name, follow=True, stream=True),
            )
            for _source, line in stream:
                yield line.decode(errors="replace").rstrip("\n")

    def exit_code(self, name: str, patience: float | None = None) -> int:
        """Wait for the end of a container, at most `patience` seconds; -1 if there was none."""
        command = [*map(str, self.client.client_config.docker_cmd), "wait", name]
        with contextlib.suppress(subprocess.TimeoutExpired, ValueError):
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=patience, check=False
            )
            return int(done.stdout)
        return -1

    def starved(self, name: str) -> bool:
        """Whether the kernel has killed the container for want of memory."""
        with contextlib.suppress(DockerException):
            return bool(self.client.container.inspect(name).state.oom_killed)
        return False

    def execute(self, name: str, command: list[str]) -> None:
        """Run `command` in a running container."""
        with told(f"{command[0]} in {name}"):
            self.client.container.execute(name, command)

    def stop(self, name: str, seconds: int) -> None:
        """SIGTERM, then SIGKILL after `seconds`; nothing if it is gone or has ended."""
        with contextlib.suppress(DockerException):
            self.client.container.stop(name, time=seconds)

    def kill(self, name: str) -> None:
        """SIGKILL; nothing if it is gone or has ended.

        To remove what runs is not enough: Podman then waits for `stop_grace_period`.
        """
        with contextlib.suppress(DockerException):
            self.client.container.kill(name)

    def remove(self, name: str) -> None:
        """Remove a container, running or not; nothing if it is not there."""
        with contextlib.suppress(DockerException):
            self.client.container.remove(name, force=True, volumes=True)

    def down(self) -> None:
        """Remove the run's containers, networks and volumes, but for the work volume.

        The orchestrator has that itself. Of a dead run, another may do the same at the same time.
        """
        label = f"com.docker.compose.project={self.project}"
        with told("removing the run's containers"):
            found = self.client.container.list(all=True, filters=[("label", label)])
            for name, running in still_there(found, lambda one: (one.name, one.state.running)):
                if running:
                    self.kill(name)
                self.remove(name)
        deadline = time.monotonic() + 10
        while True:
            try:
                for network in self.client.network.list(filters={"label": label}):
                    self.client.network.remove(network)
                for volume in self.client.volume.list(filters={"label": label}):
                    if volume.name not in {STORE_VOLUME, work_volume(self.run)}:
                        self.client.volume.remove(volume)
            except DockerException as error:
                # The daemon needs a moment after a container's end until its network has no
                # endpoints.
                if time.monotonic() > deadline:
                    raise DockerError(
                        f"{self.project} cannot be removed: {(error.stderr or '').strip()}"
                    ) from error
                time.sleep(0.2)
            else:
                return

    def remove_volume(self, name: str) -> bool:
        """Remove a volume; false if it is not there, or a container, running or not, has it."""
        with contextlib.suppress(DockerException):
            self.client.volume.remove(name)
            return True
        return False

    def volumes(self) -> list[str]:
        """Names of this project's volumes, the store's and all runs'."""
        command = [*map(str, self.client.client_config.docker_cmd), "volume", "ls", "--quiet"]
        done = subprocess.run(
            [*command, "--filter", f"name={PROJECT}-"], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise DockerError(f"docker volume ls: {done.stderr.strip()}")
        return done.stdout.split()

    def _stream(self, arguments: list[str]) -> Iterator[bytes]:
        from python_on_whales.utils import stream_stdout_and_stderr

        for _source, line in stream_stdout_and_stderr(
            [*self.client.client_config.docker_compose_cmd, *arguments]
        ):
            yield line


def failure(kind: type[ApplianceError], event: dict[str, object]) -> ApplianceError:
    """An error of `kind` from an agent's `failed` event."""
    return kind(
        str(event.get("message", "")),
        hint=str(event.get("hint", "")),
        detail=str(event.get("detail", "")),
    )
