"""QEMU command lines for whole machines: one list per guest, nothing is run here."""

import dataclasses
import pathlib

from orchestrator.shared.architectures import SYSTEMS
from orchestrator.shared.disk_formats import DISK_FORMATS
from orchestrator.shared.spec import Firmware

#: Inside the boot container: QEMU's user network forwards this port of the loopback to the guest's
#: sshd.
SSH_PORT = 2222

#: How a guest gets its disk, by QEMU's name of the device; and one for who has no driver for it.
DISK, STICK = "virtio-blk-pci", "nvme,serial=nixos"

MEMORY_MIB = 1024
CPUS = 2


#: The boot check's machine for each system that has one.
GUESTS = {name: row.guest for name, row in SYSTEMS.items() if row.guest}


@dataclasses.dataclass(frozen=True)
class Disk:
    """A disk image, its format and the device that it becomes, by QEMU's names."""

    path: pathlib.Path
    format: str = "raw"
    device: str = DISK


def device_of(disk_format: str) -> str:
    """The device that a disk of that format becomes."""
    return STICK if DISK_FORMATS[disk_format].stick else DISK


def command(
    system: str,
    firmware: Firmware,
    disk: Disk,
    accel: str,
    serial: str,
    seed: pathlib.Path | None = None,
) -> list[str]:
    """The command that boots `disk` on the boot check's machine for `system`.

    `serial` is QEMU's name for where the console goes, `seed` a raw disk beside it, which the guest
    cannot write to.
    """
    guest, program = GUESTS[system], SYSTEMS[system].machine.program
    cpu = "host" if accel == "kvm" else guest.cpu
    acceleration = accel if accel == "kvm" else "tcg,thread=multi"
    return [
        *(program, "-machine", guest.type, "-cpu", cpu, "-accel", acceleration),
        *("-smp", str(CPUS), "-m", str(MEMORY_MIB), "-nodefaults", "-display", "none"),
        "-no-reboot",
        *guest.firmware[firmware],
        # Without its word the firmware waits five seconds for somebody to press Escape.
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
    """As QEMU wants a comma in an option's value."""
    return str(path).replace(",", ",,")
