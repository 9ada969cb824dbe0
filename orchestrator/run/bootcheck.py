"""The boot check's container: starting it and following it to its verdict."""

import os
import pathlib
import time
import typing

from orchestrator.docker.api import SilentEngineError
from orchestrator.docker.engine import Engine
from orchestrator.run.supervisor import Exit, Supervisor
from orchestrator.shared.errors import BootError, DockerError
from orchestrator.shared.progress import Progress

#: How much longer (seconds) than asked for the container may take: it copies the image, too.
SPARE_SECONDS = 600


def start_boot(
    engine: Engine, name: str, image: pathlib.Path, arguments: list[str], *, kvm: bool
) -> None:
    """Start the boot container for `image`, with the host's KVM if `kvm` and the host has one."""
    if kvm:
        try:
            engine.create_one("boot-kvm", name, [os.fspath(image), *arguments])
        except SilentEngineError:
            raise
        except DockerError:
            # The engine knows no /dev/kvm: the half-made container is in the way.
            engine.remove(name)
        else:
            return
    engine.create_one("boot", name, [os.fspath(image), *arguments])


def finish_boot(
    supervisor: Supervisor, progress: Progress, seconds: float
) -> dict[str, typing.Any]:
    """Follow the boot container to its verdict, which it should have found after `seconds`."""
    until = time.monotonic() + seconds + SPARE_SECONDS
    while True:
        item = supervisor.next(until - time.monotonic())
        if item is None:
            raise BootError(f"the boot check has stood still for {seconds:.0f} s and more")
        if isinstance(item, Exit):
            if item.service == "boot":
                raise BootError("the boot check ended without a verdict")
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
