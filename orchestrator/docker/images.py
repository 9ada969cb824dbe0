"""The appliance's images: built where they are missing or old, side by side."""

import concurrent.futures
import dataclasses
import hashlib
import math
import pathlib
import re
import time
from collections.abc import Iterator

from orchestrator.docker.engine import Engine
from orchestrator.shared import retry
from orchestrator.shared.architectures import SYSTEMS
from orchestrator.shared.errors import DockerError, TimeLimitError
from orchestrator.shared.paths import ROOT
from orchestrator.shared.progress import Progress


@dataclasses.dataclass(frozen=True)
class Image:
    """An image's name, with places for the guest and QEMU's version, and its Dockerfile.

    That takes files of the image of the service `after`, which is built before.
    """

    name: str
    dockerfile: str
    after: str = ""


#: The image of each service that has one of its own; compose.yaml says the same (a test).
IMAGES = {
    "cleanup": Image("nixos-image-qemu-setup:{qemu}", "Dockerfile.qemu-setup"),
    "builder": Image("nixos-image-builder", "Dockerfile.builder"),
    "boot": Image("nixos-image-boot-{guest}", "Dockerfile.boot"),
    "test": Image("nixos-image-test", "Dockerfile.test", after="builder"),
}

#: What all of them begin with.
RUNTIME = "nixos-image-runtime"

#: A word that may be a path in the checkout, not the end of another path.
WORD = re.compile(r"(?<![\w./-])[\w.-]+(?:/[\w.-]+)*")

#: Services whose images hold pinned packages, or successors of them.
PINNED = frozenset({"cleanup", "builder"})

#: In the log of a build: a pin that has a successor (`agents/debian.py`).
SUPERSEDED = re.compile(r"warning: (.* is no longer in the archive: .*)")


def inputs(dockerfile: str, home: pathlib.Path = ROOT) -> Iterator[pathlib.Path]:
    """The files in `home` that go into the image of `dockerfile`: itself, and all that it names."""
    text = (home / dockerfile).read_text()
    code = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for name in sorted({dockerfile, *WORD.findall(code)} - {"."}):
        path = home / name
        found = [path] if path.is_file() else sorted(path.rglob("*"))
        yield from (one for one in found if one.is_file() and "__pycache__" not in one.parts)


def state(dockerfile: str, runtime: str, home: pathlib.Path = ROOT) -> str:
    """The sum of all that the image of `dockerfile` is made of; `runtime` is its parent's id."""
    total = hashlib.sha256(runtime.encode())
    for path in inputs(dockerfile, home):
        total.update(f"\n{path.relative_to(home)}\n".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


class Images:
    """Builds images in the background; `wait` for those that are needed next."""

    def __init__(
        self,
        engine: Engine,
        guest: str,
        logs: pathlib.Path,
        *,
        locked: bool = False,
        qemu: str = "",
    ) -> None:
        """`guest` is the machine that images are booted on, `qemu` the emulators' version or empty.

        With `locked`, the images that hold pinned packages must have been built so, too.
        """
        self._engine = engine
        self._names = {"guest": guest, "qemu": qemu or "latest"}
        machine = SYSTEMS[f"{guest}-linux"].guest
        self._packages = " ".join(machine.packages) if machine else ""
        self._locked = locked
        self._logs = logs
        self._pool = concurrent.futures.ThreadPoolExecutor(max_workers=2)
        self._jobs: dict[str, concurrent.futures.Future[None]] = {}

    def want(self, services: tuple[str, ...]) -> None:
        """Start to build what of `services` is missing or old."""
        runtime = self._engine.image(RUNTIME)
        if runtime is None:
            raise DockerError(f"{RUNTIME} is gone", hint="the next ./run.sh makes it anew")
        for service in services:
            if service in self._jobs:
                continue
            image = IMAGES[service]
            now = state(image.dockerfile, runtime["Id"])
            good = {now}
            if service in PINNED:
                good = {f"{now}-locked"} | (set() if self._locked else good)
            if self._engine.image_source(image.name.format(**self._names)) not in good:
                if image.after:
                    self.want((image.after,))
                self._jobs[service] = self._pool.submit(
                    self._build, service, now, self._jobs.get(image.after)
                )

    def _build(
        self, service: str, now: str, before: concurrent.futures.Future[None] | None
    ) -> None:
        if before:
            before.result()
        variables = {"NIXOS_IMAGE_STATE": now, "NIXOS_IMAGE_PACKAGES": self._packages}
        self._engine.build(service, self._log(service), variables)

    def _log(self, service: str) -> pathlib.Path:
        return self._logs / f"{service}.build.log"

    def wait(
        self, services: tuple[str, ...], progress: Progress, deadline: float = math.inf
    ) -> None:
        """Wait for `services` until `deadline` (monotonic); raises what their builds raised."""

        def missing() -> list[str]:
            found = [name for name in services if name in self._jobs]
            return [name for name in found if not self._jobs[name].done()]

        def built() -> bool:
            if left := missing():
                progress.to("images", f"building {', '.join(left)}")
            return not left

        if not retry.until(built, deadline - time.monotonic(), pause=0.1):
            raise TimeLimitError(
                f"the images of {', '.join(missing())} took longer than the whole run may",
                hint="--timeout gives it longer; what is built stays",
            )
        for name in services:
            if job := self._jobs.pop(name, None):
                job.result()
                for line in SUPERSEDED.findall(self._log(name).read_text(errors="replace")):
                    progress.say(line, "warning")

    def close(self) -> None:
        """Start no further build; those that run end with this process."""
        self._pool.shutdown(wait=False, cancel_futures=True)
