"""Starts the boot check's container and waits for its result."""

import os
import pathlib
import time
import typing

from orchestrator.docker.answers import LostEngineError
from orchestrator.docker.engine import Engine
from orchestrator.run.supervisor import Exit, Supervisor
from orchestrator.shared.errors import BootError, DockerError
from orchestrator.shared.progress import Progress

#: Extra seconds for the boot container beyond --boot-timeout, because it also copies the image.
SPARE_SECONDS = 600


def start_boot(
    engine: Engine, name: str, image: pathlib.Path, arguments: list[str], *, kvm: bool
) -> None:
    """Start the boot container for `image`, with the host's KVM if `kvm` and the host has one."""
    if kvm:
        try:
            engine.create_one("boot-kvm", name, [os.fspath(image), *arguments])
        except LostEngineError:
            raise
        except DockerError:
            # The engine's host has no /dev/kvm: remove the partly created container.
            engine.remove(name)
        else:
            return
    engine.create_one("boot", name, [os.fspath(image), *arguments])


def finish_boot(
    supervisor: Supervisor, progress: Progress, seconds: float
) -> dict[str, typing.Any]:
    """Wait for the boot container's result, at most `seconds` and SPARE_SECONDS."""
    until = time.monotonic() + seconds + SPARE_SECONDS
    while True:
        item = supervisor.next(until - time.monotonic())
        if item is None:
            raise BootError(f"the boot check had no result after {seconds + SPARE_SECONDS:.0f} s")
        if isinstance(item, Exit):
            if item.service == "boot":
                raise BootError("the boot check ended without a result")
            continue
        service, event = item
        if service != "boot":
            continue
        if event["event"] == "booted":
            progress.say(f"boot: {event.get('message', '')}", fields=event)
            if event.get("said"):
                progress.say(str(event["said"]))
            keys = ("accelerator", "machine", "seconds")
            return {key: event.get(key) for key in keys}
        progress.to("boot", str(event.get("message", "")))
