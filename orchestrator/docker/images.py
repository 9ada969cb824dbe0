"""The appliance's images: built when missing or when the checkout has changed, side by side."""

import concurrent.futures
import math
import pathlib
import re
import time

from orchestrator.docker.engine import Engine
from orchestrator.shared import retry
from orchestrator.shared.errors import TimeLimitError
from orchestrator.shared.progress import Progress

#: Image of each service that has one of its own (`compose.yaml` says the same; a test holds them
#: together).
IMAGES = {
    "cleanup": "nixos-image-qemu-setup:{qemu}",
    "builder": "nixos-image-builder",
    "boot": "nixos-image-boot-{guest}",
    "pins": "nixos-image-pins",
    "test": "nixos-image-test",
}


#: In the log of a build: a pin that has a successor (`agents/debian.py`).
SUPERSEDED = re.compile(r"warning: (.* is no longer in the archive: .*)")


class Images:
    """Builds images in the background; `wait` for those that are needed next."""

    def __init__(
        self,
        engine: Engine,
        source: str,
        guest: str,
        logs: pathlib.Path,
        *,
        locked: bool = False,
        qemu: str = "",
    ) -> None:
        """`source` names the state of the checkout: an image that carries it is up to date.

        With `locked`, the image that holds the pinned emulator must have been built so, too. `qemu`
        is that emulator's rung, empty for the default.
        """
        self._engine = engine
        self._source = source
        self._names = {"guest": guest, "qemu": qemu or "latest"}
        self._locked = locked
        self._logs = logs
        self._pool = concurrent.futures.ThreadPoolExecutor(max_workers=2)
        self._jobs: dict[str, concurrent.futures.Future[None]] = {}

    def want(self, services: tuple[str, ...]) -> None:
        """Start to build what of `services` is missing or old."""
        for service in services:
            image = IMAGES[service].format(**self._names)
            good = {self._source}
            if service == "cleanup":
                good = {f"{self._source}-locked"} | (set() if self._locked else good)
            if self._engine.image_source(image) not in good:
                log = self._logs / f"{service}.build.log"
                self._jobs[service] = self._pool.submit(self._engine.build, service, log)

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
                log = (self._logs / f"{name}.build.log").read_text(errors="replace")
                for line in SUPERSEDED.findall(log):
                    progress.say(line, "warning")

    def close(self) -> None:
        """Start no further build; those that run end with this process."""
        self._pool.shutdown(wait=False, cancel_futures=True)
