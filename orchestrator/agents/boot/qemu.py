"""Makes QEMU command lines for the boot check's machines; runs nothing."""

import dataclasses
import pathlib

from orchestrator.shared.architectures import SYSTEMS
from orchestrator.shared.disk_formats import DISK_FORMATS
from orchestrator.shared.spec import Firmware

#: Port on the boot container's loopback that QEMU's user network forwards to the guest's sshd.
SSH_PORT = 2222

#: QEMU device of a guest's disk, and the one for images without virtio drivers.
DISK, STICK = "virtio-blk-pci", "nvme,serial=nixos"

MEMORY_MIB = 1024
CPUS = 2


#: The boot check's machine for each system that has one.
GUESTS = {name: row.guest for name, row in SYSTEMS.items() if row.guest}


@dataclasses.dataclass(frozen=True)
class Disk:
    """A disk image with QEMU's names of its format and device."""

    path: pathlib.Path
    format: str = "raw"
    device: str = DISK


def device_of(disk_format: str) -> str:
    """Return the QEMU device for a disk of this format."""
    return STICK if DISK_FORMATS[disk_format].stick else DISK


def command(
    system: str,
    firmware: Firmware,
    disk: Disk,
    accel: str,
    serial: str,
    seed: pathlib.Path | None = None,
) -> list[str]:
    """Return the QEMU command that boots `disk` on the boot check's machine for `system`.

    `serial` is the target of QEMU's option -serial; `seed` is a second raw disk, read-only.
    """
    guest, program = GUESTS[system], SYSTEMS[system].machine.program
    cpu = "host" if accel == "kvm" else guest.cpu
    acceleration = accel if accel == "kvm" else "tcg,thread=multi"
    return [
        *(program, "-machine", guest.type, "-cpu", cpu, "-accel", acceleration),
        *("-smp", str(CPUS), "-m", str(MEMORY_MIB), "-nodefaults", "-display", "none"),
        "-no-reboot",
        *guest.firmware[firmware],
        # splash-time=0: otherwise the firmware waits five seconds for the Escape key.
        *("-boot", "menu=on,splash-time=0", "-serial", serial, "-drive"),
        f"if=none,id=disk,file={_quoted(disk.path)},format={disk.format},cache=unsafe,discard=unmap",
        *("-device", f"{disk.device},drive=disk,bootindex=0", "-device", "virtio-rng-pci"),
        *("-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{SSH_PORT}-:22"),
        *("-device", "virtio-net-pci,netdev=net,romfile="),
        *(_second_disk(seed) if seed else []),
    ]


def _second_disk(raw: pathlib.Path) -> list[str]:
    drive = f"if=none,id=seed,file={_quoted(raw)},format=raw,readonly=on"
    return ["-drive", drive, "-device", f"{DISK},drive=seed"]


def _quoted(path: pathlib.Path) -> str:
    """Double the commas, as QEMU requires in an option's value."""
    return str(path).replace(",", ",,")
