"""Stands for a worker with an aarch64 CPU: our worker, with an emulator below it.

Tests run this as the program of a container of the worker's image, with the emulators at /opt/qemu.
The emulator is registered in a binfmt_misc that only this container's processes see, and Nix builds
in its sandbox as it does on any worker. Who is given the worker's line sees an aarch64 machine.
"""

import dataclasses
import os
import pathlib
from unittest import mock

from orchestrator.agents.builder import worker
from orchestrator.agents.builder.nix_settings import Settings
from orchestrator.agents.emulation import binfmt, private
from orchestrator.shared.architectures import SYSTEMS

SYSTEM = SYSTEMS["aarch64-linux"]

real = worker.sandboxed


def sandboxed() -> Settings:
    """Return the worker's settings, with builds for the emulated system."""
    return dataclasses.replace(real(), platforms=(SYSTEM.name,))


if __name__ == "__main__":
    user, group = os.getuid(), os.getgid()
    interpreter = pathlib.Path("/opt/qemu", SYSTEM.emulator)
    private.enter()
    name = binfmt.entry_name("worker", SYSTEM)
    binfmt.register(binfmt.registration(name, SYSTEM, interpreter, binfmt.kernel_version()))
    private.leave(user, group)
    with mock.patch.multiple(worker, sandboxed=sandboxed, this_system=lambda: SYSTEM.name):
        worker.main()
