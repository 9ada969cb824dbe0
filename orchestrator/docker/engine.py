"""One run's access to Docker's API and Compose."""

import dataclasses
import pathlib
import re

from orchestrator.docker.answers import Info, Version, odd
from orchestrator.docker.api import Api
from orchestrator.docker.compose import Compose
from orchestrator.docker.containers import LOOK_SECONDS, Containers
from orchestrator.docker.labels import PROJECT, STORE_VOLUME, work_volume
from orchestrator.docker.one_step import OneStep, command_of
from orchestrator.docker.server import Server
from orchestrator.docker.stored import BuildError, Recipe, Stored
from orchestrator.shared.debian_package import DPKG_FORMAT, NIX, NIX_LIST, Package, read_line
from orchestrator.shared.errors import DockerError
from orchestrator.shared.paths import ROOT

#: Podman's name in `docker version`.
PODMAN = "Podman Engine"

#: Lines by which an agent that fetches files for an image tells its error (`agents/failure.py`).
SAID = re.compile(r"(?m)^[\w-]+: (error|try): (.+)$")


@dataclasses.dataclass(frozen=True)
class EngineInfo:
    """Facts of the Docker server; `memory` is in bytes.

    `remaps`: each container gets its own user namespace (userns-remap). `identity` identifies the
    engine with its current configuration. `system` is the server's operating system, `driver` its
    storage driver, `security` its security options, such as name=rootless.
    """

    architecture: str
    kernel: str
    version: str
    memory: int
    remaps: bool
    identity: tuple[str, ...] = ()
    system: str = ""
    driver: str = ""
    security: tuple[str, ...] = ()


class Engine(Containers, Stored, Compose, Server):
    """Containers, networks and volumes of one run; `env_file` has Compose's variables."""

    def __init__(self, run: str, env_file: pathlib.Path, api: Api | None = None) -> None:
        """Start and request nothing.

        An empty `run` means the project of a plain `docker compose up`. `api` can be shared with
        another Engine.
        """
        self.run = run
        project = f"{PROJECT}-{run}" if run else PROJECT
        Compose.__init__(self, api or Api(), project, env_file)

    def build(
        self, service: str, log: pathlib.Path, variables: dict[str, str], one_step: OneStep
    ) -> None:
        """Build the image of `service` as compose.yaml describes it, with `one_step` if possible.

        `variables` extend those of the env file. The engine's output goes to `log`; an error has
        its last lines. The engine itself is asked: for the fewest steps (`one_step.py`), and
        because Compose would add a label of its own, which is a step, too. Podman walks no image
        for a step.
        """
        wanted = self.config(variables)["services"][service]
        build = wanted["build"]
        given = build.get("args") or {}
        arguments = {name: value for name, value in given.items() if value is not None}
        recipe = Recipe(build["dockerfile"], arguments, build["labels"])
        command = command_of((ROOT / recipe.dockerfile).read_text())
        try:
            if command and not self.is_podman():
                one_step.make(service, wanted["image"], command, recipe, log)
            else:
                self.build_image(wanted["image"], recipe, log)
        except BuildError as error:
            words = dict(SAID.findall(str(error)))
            reason = f": {words['error']}" if "error" in words else ""
            raise DockerError(
                f"the image of {service} cannot be built{reason}",
                hint=words.get("try")
                or "see the build's lines above; the usual cause is an unreachable mirror",
                detail=str(error),
            ) from error

    def info(self) -> EngineInfo:
        """Ask the server for its facts."""
        info = self.api.answer("docker info", Info, lambda client: client.info())
        security = info.get("SecurityOptions") or []
        return EngineInfo(
            info.get("Architecture") or "",
            info.get("KernelVersion") or "",
            info.get("ServerVersion") or "",
            info.get("MemTotal") or 0,
            "name=userns" in security,
            (
                *(info.get("ID") or "", info.get("ServerVersion") or "", info.get("Driver") or ""),
                *sorted(security),
            ),
            info.get("OperatingSystem") or "",
            info.get("Driver") or "",
            tuple(security),
        )

    def fills_volumes_late(self) -> bool:
        """Whether a new volume is filled at the container's start (Podman), not at its creation."""
        return self.is_podman()

    def is_podman(self) -> bool:
        """Whether the engine is Podman, which answers as Docker does."""
        found = self.api.answer("docker version", Version, lambda client: client.version())
        return any(one.get("Name") == PODMAN for one in found.get("Components") or [])

    def packages(self) -> list[tuple[str, Package]]:
        """List Debian packages of this project's images with the image's name, Nix' included."""
        ask = (
            f". /etc/os-release && dpkg-query -W -f '{DPKG_FORMAT}\\t'$VERSION_CODENAME'\\t\\n'"
            f" && if [ -e {NIX / NIX_LIST} ]; then cat {NIX / NIX_LIST}; fi"
        )
        rows = []
        for tag in self.image_tags():
            said = self.run_program(tag, self.run, "sh", ["-c", ask])
            name = tag.removesuffix(":latest")
            try:
                rows += [(name, read_line(line)) for line in said.splitlines()]
            except TypeError as error:  # another number of fields
                raise odd(f"dpkg in {name}", error) from error
        return rows

    def run_to_end(self, service: str) -> tuple[int, list[str]]:
        """Run the short container of `service`; returns its exit code and log lines."""
        (name,) = self.create((service,)).values()
        try:
            self.start([name])
            code = self.exit_code(name, LOOK_SECONDS)
            self.kill(name)
            return code, list(self.logs(name, LOOK_SECONDS))
        finally:
            self.remove(name)

    def down(self) -> None:
        """Remove the run's containers, networks and volumes, except the work volume.

        The orchestrator itself uses the work volume. Another process may remove the same dead run's
        objects at the same time.
        """
        label = f"com.docker.compose.project={self.project}"
        for one in self.containers(label):
            if one.running:
                self.kill(one.name)
            self.remove(one.name)
        self.remove_stored(label, {STORE_VOLUME, work_volume(self.run)})
