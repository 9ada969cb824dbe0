"""QEMU command lines for whole machines: one list per guest, nothing is run here."""

import dataclasses
import pathlib

#: Inside the boot container: QEMU's user network forwards this port of the loopback to the guest's
#: sshd.
SSH_PORT = 2222

MEMORY_MIB = 1024
CPUS = 2


@dataclasses.dataclass(frozen=True)
class Guest:
    """A machine type: `cpu` is the model under TCG, `firmware` a UEFI image that -bios takes."""

    system: str
    program: str
    machine: str
    cpu: str
    firmware: str


GUESTS = {
    guest.system: guest
    for guest in (
        # A CPU without pointer authentication, which TCG computes slowly.
        Guest(
            "aarch64-linux",
            "qemu-system-aarch64",
            "virt,gic-version=3",
            "cortex-a72",
            "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd",
        ),
        Guest(
            "x86_64-linux",
            "qemu-system-x86_64",
            "q35",
            "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt",
            "/usr/share/ovmf/OVMF.fd",
        ),
    )
}


def command(guest: Guest, disk: pathlib.Path, accel: str, serial: str) -> list[str]:
    """The command that boots the raw image `disk`.

    `serial` is QEMU's name for where the console goes.
    """
    file = str(disk).replace(",", ",,")  # how QEMU quotes a comma
    cpu = "host" if accel == "kvm" else guest.cpu
    acceleration = accel if accel == "kvm" else "tcg,thread=multi"
    return [
        *(guest.program, "-machine", guest.machine, "-cpu", cpu, "-accel", acceleration),
        *(
            "-smp",
            str(CPUS),
            "-m",
            str(MEMORY_MIB),
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
        ),
        # Without its word the firmware waits five seconds for somebody to press Escape.
        *("-bios", guest.firmware, "-boot", "menu=on,splash-time=0", "-serial", serial),
        *(
            "-drive",
            f"if=none,id=disk,file={file},format=raw,cache=unsafe,discard=unmap",
        ),
        *("-device", "virtio-blk-pci,drive=disk,bootindex=0", "-device", "virtio-rng-pci"),
        *("-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{SSH_PORT}-:22"),
        *("-device", "virtio-net-pci,netdev=net,romfile="),
    ]
