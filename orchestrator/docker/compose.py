"""Runs Docker Compose's command line for one project, with time limits."""

import json
import math
import os
import pathlib
import time
import typing
from collections.abc import Callable, Sequence

from orchestrator.docker.answers import LostEngineError
from orchestrator.docker.api import HEAVY, Api, silent
from orchestrator.docker.containers import Containers, signals_wait
from orchestrator.shared import command
from orchestrator.shared.errors import DockerError
from orchestrator.shared.paths import ROOT

#: Time limit in seconds for creating containers, which includes filling volumes. Each thing that is
#: made has the limit of any call to the engine besides (`Progress`).
CREATE_SECONDS = 600

#: Time limit in seconds of `docker compose config`.
CONFIG_SECONDS = 60

#: Error of Podman (5.4, 5.8), which takes the JSON of a seccomp profile for a file name.
PROFILE_REFUSED = "opening seccomp profile failed"

#: Variable that replaces the profile by an option without effect (compose.yaml). Podman's default
#: profile allows namespaces and mounts, but not sethostname, which Nix' sandbox needs.
INSTEAD_OF_PROFILE = "NIXOS_IMAGE_SECCOMP=no-new-privileges\n"

#: Profile of a plain `docker compose up` (.env), whose services depend on each other.
DEMO = "demo"

#: File beside the variables with what a run adds to compose.yaml: mounts of sent folders.
MORE = "more.json"

#: Variables of compose.yaml with the id of each service's image, and of the parent of all images.
IDS = {
    "boot": "NIXOS_IMAGE_ID_BOOT",
    "builder": "NIXOS_IMAGE_ID_BUILDER",
    "cleanup": "NIXOS_IMAGE_ID_CLEANUP",
    "orchestrator": "NIXOS_IMAGE_ID_ORCHESTRATOR",
    "runtime": "NIXOS_IMAGE_ID_RUNTIME",
    "test": "NIXOS_IMAGE_ID_TEST",
    "worker": "NIXOS_IMAGE_ID_WORKER",
}


class Progress:
    """Watches Compose: it must make, start or end something in time, or have a container run.

    Compose waits for ever for a call that the engine leaves open and answers all others.
    """

    def __init__(self, compose: "Compose", what: str, *, runs: bool) -> None:
        """With `runs`, a running container of the project is Compose's work."""
        self._compose = compose
        self._what = what
        self._runs = runs
        self._seen: set[tuple[str, str]] | None = None
        self._until = 0.0

    def look(self) -> None:
        """Ask the engine; raise `SilentEngineError` if nothing has changed for too long."""
        label = f"com.docker.compose.project={self._compose.project}"
        there = typing.cast("Containers", self._compose).containers(label)
        now = {(one.name, one.state) for one in there}
        patience = HEAVY * self._compose.api.patience
        if now != self._seen or (self._runs and any(one.running for one in there)):
            self._seen, self._until = now, time.monotonic() + patience
        elif time.monotonic() > self._until:
            raise silent(self._what, patience)


class Compose:
    """The services of compose.yaml as `project`, with the variables of `env_file`."""

    def __init__(self, api: Api, project: str, env_file: pathlib.Path) -> None:
        """Start nothing; `api` pings the engine while Compose runs."""
        self.api = api
        self.project = project
        self._env_file = env_file

    def compose_command(self) -> list[str]:
        """Return the `docker compose` command with this project's files, without a verb."""
        env = ["--env-file", os.fspath(self._env_file)] if self._env_file.exists() else []
        more = self._env_file.with_name(MORE)
        return [
            # Compose warns of the store's volume, which all projects share.
            *(command.resolve("docker"), "--log-level", "error", "compose"),
            *("--file", os.fspath(ROOT / "compose.yaml")),
            *(["--file", os.fspath(more)] if more.exists() else []),
            *env,
            *("--project-name", self.project, "--project-directory", os.fspath(ROOT)),
            *("--profile", DEMO),
        ]

    def config(self, variables: dict[str, str] | None = None) -> dict[str, typing.Any]:
        """Return compose.yaml as Compose resolves it, with services of all profiles.

        `variables` extend those of the env file.
        """
        arguments = ["--profile", "*", "config", "--format", "json"]
        said = self._compose(
            "docker compose config", arguments, CONFIG_SECONDS, variables=variables
        ).text
        return typing.cast("dict[str, typing.Any]", json.loads(said))

    def use(self, service: str, image: str) -> None:
        """Start containers of `service` from the image with the id `image` from now on.

        Another checkout's run may give the image's name to another image at any time.
        """
        with self._env_file.open("a") as file:
            file.write(f"{IDS[service]}='{image}'\n")

    def create(self, services: tuple[str, ...]) -> dict[str, str]:
        """Create only the containers of `services`; returns their names by service."""
        try:
            self._create(services)
        except DockerError as error:
            if PROFILE_REFUSED not in str(error):
                raise
            with self._env_file.open("a") as file:
                file.write(INSTEAD_OF_PROFILE)
            self._create(services)
        return {service: f"{self.project}-{service}-1" for service in services}

    def create_one(self, service: str, name: str, arguments: list[str]) -> None:
        """Start a one-off container of `service` in the background."""
        options = ["--detach", "--no-TTY", "--no-deps", "--name", name]
        with signals_wait():
            what = f"starting {service}"
            self._compose(
                what,
                ["run", *options, service, *arguments],
                CREATE_SECONDS,
                watch=Progress(self, what, runs=False).look,
            )

    def run_service(
        self,
        service: str,
        arguments: list[str],
        *,
        program: str = "",
        variables: dict[str, str] | None = None,
    ) -> str:
        """Run a one-off container of `service`, or `program` in it; returns its stdout.

        Raises `DockerError` with the last line of its stderr.
        """
        options = ["--rm", "--no-deps", "--no-TTY"]
        options += ["--entrypoint", program] if program else []
        for name, value in (variables or {}).items():
            options += ["--env", f"{name}={value}"]
        try:
            look = Progress(self, f"running {service}", runs=True).look
            return self._compose("", ["run", *options, service, *arguments], watch=look).text
        except LostEngineError:
            raise
        except DockerError as error:
            raise DockerError(str(error).removeprefix(": ").removeprefix("error: ")) from error

    def run_on_terminal(
        self,
        service: str,
        options: Sequence[str],
        arguments: Sequence[str],
        stdout: int | None = None,
    ) -> int:
        """Run a one-off container of `service` on this process' terminal.

        Returns its exit code. `stdout` is a file descriptor for its output, or None.
        """
        whole = [*self.compose_command(), "run", "--rm", "--no-deps", *options, service]
        return command.run_attached([*whole, *arguments], stdout=stdout)

    def _create(self, services: tuple[str, ...]) -> None:
        # `compose create` has no --no-deps: it would need images of other services.
        options = ["--no-start", "--no-deps", "--no-build"]
        with signals_wait():
            what = f"creating {', '.join(services)}"
            self._compose(
                what,
                ["up", *options, *services],
                CREATE_SECONDS,
                watch=Progress(self, what, runs=False).look,
            )

    def _compose(
        self,
        what: str,
        arguments: list[str],
        seconds: float = math.inf,
        *,
        variables: dict[str, str] | None = None,
        watch: Callable[[], None] | None = None,
    ) -> command.Done:
        """Run Compose with a time limit in `seconds`; `watch` fails if the engine does not work."""
        done = command.run(
            [*self.compose_command(), *arguments],
            variables=variables,
            timeout=seconds,
            watch=watch or self.api.ping,
            watch_seconds=self.api.beat,
            check=False,
            fails=lambda words: DockerError(f"{what}: {words}"),
        )
        if done.code != 0:
            raise DockerError(f"{what}: {done.last}")
        return done
