"""Makes an image of a Dockerfile of one shape in a single step of the engine.

The classic builder makes a step of each line, also of an ARG and of the labels. For each step
Docker's storage driver may walk the whole image: seconds for each, where it compares files.
"""

import pathlib
import re
import threading
from collections.abc import Iterable

from orchestrator.docker.api import HEAVY, LONG_SECONDS, Client
from orchestrator.docker.containers import Containers, signals_wait
from orchestrator.docker.labels import MAKER
from orchestrator.docker.stored import BUILD_LINES, BuildError, Recipe
from orchestrator.shared.errors import DockerError

#: The Dockerfile's ARGs with the ids of the images that an image is made of.
TOOLS, PARENT = "ORCHESTRATOR", "RUNTIME"

#: Folder of what the command makes.
FILES = "/files"

#: The shape, without comments: a command makes files in the orchestrator's image; the image is its
#: parent with these files.
SHAPE = re.compile(
    rf"(?:ARG \w+=\S+\n)*FROM \$\{{{TOOLS}\}} AS files\n(?:ARG .*\n)?"
    r"RUN (?P<command>(?:.*\\\n)*.*)\n"
    rf"\nFROM \$\{{{PARENT}\}}\nCOPY --from=files {FILES} /\n"
)


def command_of(dockerfile: str) -> str:
    """Return the shell command that makes the files, "" for a Dockerfile of another shape."""
    lines = dockerfile.splitlines(keepends=True)
    found = SHAPE.fullmatch("".join(line for line in lines if not line.startswith("#")))
    return found["command"].replace("\\\n", "") if found else ""


class OneStep:
    """Makes images of one attempt of a run; usable from several threads."""

    def __init__(self, containers: Containers, run: str) -> None:
        """`run` is the run's id: the containers' names have it."""
        self._containers = containers
        self._prefix = f"{MAKER}{run}-"
        self._lock = threading.Lock()
        self._there: set[str] = set()
        self._ended = False

    def make(
        self, service: str, image: str, command: str, recipe: Recipe, log: pathlib.Path
    ) -> None:
        """Make the image `image` (NAME:TAG or NAME) of `service`.

        The command's output goes to `log`. Raises `BuildError` with its last lines.
        """
        values = {one: text for one, text in recipe.arguments.items() if one not in (TOOLS, PARENT)}
        tools = self._create(f"{service}-files", recipe.arguments[TOOLS], command, values)
        parent = ""
        try:
            self._run(tools, log)
            parent = self._create(service, recipe.arguments[PARENT], "", {})
            self._copy(tools, parent)
            self._commit(parent, image, recipe.labels)
        finally:
            self._remove(filter(None, (tools, parent)))

    def end(self) -> None:
        """Remove the containers of images that are being made; no further ones are created."""
        with self._lock:
            self._ended = True
        self._remove({*self._there})

    def _create(self, name: str, image: str, command: str, values: dict[str, str]) -> str:
        """Create a container; returns its name. With `command` it is for running that.

        A container that becomes an image has no variables and labels of its own: the image would
        have them, too.
        """
        name = f"{self._prefix}{name}"

        def ask(client: Client) -> None:
            client.create_container(
                image,
                [command] if command else None,
                name=name,
                entrypoint=["/bin/sh", "-c"] if command else None,
                environment=values or None,
                host_config=client.create_host_config(
                    network_mode="default" if command else "none",
                    security_opt=["no-new-privileges"],
                ),
            )

        with self._lock, signals_wait():
            if self._ended:
                raise DockerError("the attempt has ended")
            self._containers.remove(name)
            self._there.add(name)  # also if the engine answers too late
            self._containers.api.call(f"creating {name}", ask, times=HEAVY)
        return name

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            self._containers.remove(name)
            self._there.discard(name)

    def _run(self, name: str, log: pathlib.Path) -> None:
        self._containers.start([name])
        with log.open("w", errors="replace") as file:
            for line in self._containers.logs(name):
                file.write(f"{line}\n")
        if (code := self._containers.code_after_log(name)) != 0:
            lines = log.read_text(errors="replace").splitlines()
            raise BuildError("\n".join(lines[-BUILD_LINES:]) or f"{name} ended with {code}")

    def _copy(self, tools: str, parent: str) -> None:
        def ask(client: Client) -> None:
            stream, _ = client.get_archive(tools, f"{FILES}/.")
            client.put_archive(parent, "/", stream)

        self._containers.api.call(f"filling {parent}", ask, times=HEAVY)

    def _commit(self, parent: str, image: str, labels: dict[str, str]) -> None:
        name, _, tag = image.partition(":")
        changes = [f'LABEL "{label}"="{value}"' for label, value in labels.items()]
        # It may take longer than an answer; the engine is pinged meanwhile.
        answers = self._containers.api.stream(
            f"docker commit {image}",
            lambda client: [client.commit(parent, name, tag or "latest", changes=changes)],
            LONG_SECONDS,
            whole=True,
        )
        for _ in answers:
            pass
