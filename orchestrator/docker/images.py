"""Builds the appliance's container images if they are missing or old, in parallel."""

import concurrent.futures
import dataclasses
import hashlib
import math
import pathlib
import re
import stat
import time
from collections.abc import Iterator

from orchestrator.docker.compose import IDS
from orchestrator.docker.engine import Engine
from orchestrator.docker.one_step import OneStep
from orchestrator.docker.stored import source
from orchestrator.shared import retry
from orchestrator.shared.architectures import SYSTEMS
from orchestrator.shared.errors import DockerError, TimeLimitError
from orchestrator.shared.paths import ROOT
from orchestrator.shared.progress import Progress


@dataclasses.dataclass(frozen=True)
class Image:
    """A container image: name (with {guest} and {qemu}) and Dockerfile.

    Its Dockerfile copies files from the image of the service `after`, which is built first.
    """

    name: str
    dockerfile: str
    after: str = ""


#: Image of each service that has its own; a test compares with compose.yaml.
IMAGES = {
    "cleanup": Image("nixos-image-qemu-setup:{qemu}", "Dockerfile.qemu-setup"),
    "builder": Image("nixos-image-builder", "Dockerfile.builder"),
    "boot": Image("nixos-image-boot-{guest}", "Dockerfile.boot"),
    "test": Image("nixos-image-test", "Dockerfile.test", after="builder"),
    "worker": Image("nixos-image-worker", "Dockerfile.worker", after="builder"),
}

#: A word that may be a path in the checkout, not part of another path.
WORD = re.compile(r"(?<![\w./-])[\w.-]+(?:/[\w.-]+)*")

#: Debian packages of all images, one name per line.
COMMON = ROOT / "orchestrator/shared/packages"

#: Services whose images have pinned packages or their successors.
PINNED = frozenset({"cleanup", "builder"})

#: Warning in a build log: a pinned package was replaced by its successor (`agents/debian.py`).
SUPERSEDED = re.compile(r"warning: (.* is no longer in the archive: .*)")


def inputs(dockerfile: str, home: pathlib.Path = ROOT) -> Iterator[pathlib.Path]:
    """Yield the input files of an image in `home`: the Dockerfile, and all files that it names."""
    text = (home / dockerfile).read_text()
    code = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for name in sorted({dockerfile, *WORD.findall(code)} - {"."}):
        path = home / name
        found = [path] if path.is_file() else sorted(path.rglob("*"))
        yield from (one for one in found if one.is_file() and "__pycache__" not in one.parts)


def state(dockerfile: str, runtime: str, home: pathlib.Path = ROOT) -> str:
    """Hash all inputs of the image of `dockerfile`; `runtime` is its parent image's id."""
    total = hashlib.sha256(runtime.encode())
    for path in inputs(dockerfile, home):
        total.update(f"\n{path.relative_to(home)}\n".encode())
        total.update(b"program\n" if path.stat().st_mode & stat.S_IXUSR else b"")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


class Images:
    """Builds images in the background: `want` starts builds, `wait` waits for them."""

    def __init__(
        self,
        engine: Engine,
        guest: str,
        logs: pathlib.Path,
        *,
        own: str,
        locked: bool = False,
        qemu: str = "",
    ) -> None:
        """`guest` is the CPU of the boot check's machine, `qemu` the emulators' version or empty.

        `own` is the id of the orchestrator's image: images are made of it and of its parent. A
        service whose image would have nothing but the appliance's modules gets it itself. With
        `locked`, images with pinned packages must have been built with --locked.
        """
        self._engine = engine
        self._one_step = OneStep(engine, engine.run)
        self._names = {"guest": guest, "qemu": qemu or "latest"}
        machine = SYSTEMS[f"{guest}-linux"].guest
        common = COMMON.read_text().splitlines()
        more = [one for one in machine.packages if one not in common] if machine else []
        self._packages = " ".join(more)
        self._ready = {} if more else {"boot": own}
        self._own = own
        self._locked = locked
        self._logs = logs
        self._pool = concurrent.futures.ThreadPoolExecutor(max_workers=2)
        self._jobs: dict[str, concurrent.futures.Future[None]] = {}
        self._good: dict[str, set[str]] = {}

    def want(self, services: tuple[str, ...]) -> None:
        """Start to build those images of `services` that are missing or old."""
        runtime = self._engine.parent(self._own)
        for service in services:
            if service in self._jobs or service in self._ready:
                continue
            image = IMAGES[service]
            now = state(image.dockerfile, runtime)
            good = {now}
            if service in PINNED:
                good = {f"{now}-locked"} | (set() if self._locked else good)
            self._good[service] = good
            if self._engine.image_source(image.name.format(**self._names)) not in good:
                if image.after:
                    self.want((image.after,))
                self._jobs[service] = self._pool.submit(
                    self._build, service, now, runtime, self._jobs.get(image.after)
                )

    def _build(
        self, service: str, now: str, runtime: str, before: concurrent.futures.Future[None] | None
    ) -> None:
        if before:
            before.result()
        variables = {"NIXOS_IMAGE_STATE": now, "NIXOS_IMAGE_PACKAGES": self._packages}
        variables[IDS["runtime"]] = runtime
        if after := IMAGES[service].after:
            variables[IDS[after]] = self._found(after)
        self._engine.build(service, self._log(service), variables, self._one_step)

    def _log(self, service: str) -> pathlib.Path:
        return self._logs / f"{service}.build.log"

    def wait(
        self, services: tuple[str, ...], progress: Progress, deadline: float = math.inf
    ) -> None:
        """Wait for the images of `services` until `deadline` (monotonic); raises build errors.

        Containers that start later use these images, by their ids.
        """

        def missing() -> list[str]:
            found = [name for name in services if name in self._jobs]
            return [name for name in found if not self._jobs[name].done()]

        def built() -> bool:
            if left := missing():
                progress.to("images", f"building {', '.join(left)}")
            return not left

        if not retry.until(built, deadline - time.monotonic(), pause=0.1):
            raise TimeLimitError(
                f"the images of {', '.join(missing())} exceeded the time limit of the run",
                hint="--timeout SECONDS sets a longer limit; built images are kept",
            )
        for name in services:
            if job := self._jobs.pop(name, None):
                job.result()
                for line in SUPERSEDED.findall(self._log(name).read_text(errors="replace")):
                    progress.say(line, "warning")
            self._use(name)

    def _use(self, service: str) -> None:
        """Fix the image of `service` by its id; raises `DockerError` if it is not up to date."""
        self._engine.use(service, self._ready.get(service) or self._found(service))

    def _found(self, service: str) -> str:
        """Return the id of the image of `service`; raises `DockerError` if it is not up to date."""
        name = IMAGES[service].name.format(**self._names)
        found = self._engine.image(name)
        if not found or source(found) not in self._good[service]:
            raise DockerError(
                f"the image {name} was replaced or removed meanwhile",
                hint="run ./run.sh again; another checkout may be using the same engine",
            )
        return str(found["Id"])

    def name(self, service: str) -> str:
        """Return the name of the image of `service`, "" if that is the orchestrator's own."""
        return "" if service in self._ready else IMAGES[service].name.format(**self._names)

    def close(self) -> None:
        """Cancel builds that have not started, and end running ones.

        What the engine itself builds ends with this process.
        """
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._one_step.end()
