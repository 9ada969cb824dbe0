"""QEMU command lines for whole machines: one list per guest, nothing is run here."""

import dataclasses
import pathlib

from orchestrator.shared.spec import Firmware

#: Inside the boot container: QEMU's user network forwards this port of the loopback to the guest's
#: sshd.
SSH_PORT = 2222

#: How a guest gets its disk, by QEMU's name of the device; and one for who has no driver for it.
DISK, STICK = "virtio-blk-pci", "nvme,serial=nixos"

MEMORY_MIB = 1024
CPUS = 2


#: OpenSBI, in machine mode, starts U-Boot in supervisor mode. U-Boot looks for extlinux.conf first,
#: then is a UEFI firmware itself.
RISCV_U_BOOT = (
    "-bios",
    "/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin",
    "-kernel",
    "/usr/lib/u-boot/qemu-riscv64_smode/u-boot.bin",
)


@dataclasses.dataclass(frozen=True)
class Guest:
    """A machine type: `cpu` is the model under TCG, `firmware` how QEMU is told of each kind."""

    system: str
    program: str
    machine: str
    cpu: str
    firmware: dict[Firmware, tuple[str, ...]]


GUESTS = {
    guest.system: guest
    for guest in (
        Guest(
            "aarch64-linux",
            "qemu-system-aarch64",
            "virt,gic-version=3",
            # Without pointer authentication, which TCG computes slowly.
            "cortex-a72",
            {
                "uefi": ("-bios", "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd"),
                # With tables for ACPI there would be no device tree for U-Boot to hand on.
                "u-boot": (
                    "-machine",
                    "acpi=off",
                    "-bios",
                    "/usr/lib/u-boot/qemu_arm64/u-boot.bin",
                ),
            },
        ),
        Guest(
            "riscv64-linux",
            "qemu-system-riscv64",
            "virt",
            "rv64",
            {"uefi": RISCV_U_BOOT, "u-boot": RISCV_U_BOOT},
        ),
        Guest(
            "x86_64-linux",
            "qemu-system-x86_64",
            "q35",
            "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt",
            {"uefi": ("-bios", "/usr/share/ovmf/OVMF.fd"), "bios": ()},
        ),
    )
}


@dataclasses.dataclass(frozen=True)
class Disk:
    """A disk image, its format and the device that it becomes, by QEMU's names."""

    path: pathlib.Path
    format: str = "raw"
    device: str = DISK


def command(
    guest: Guest,
    firmware: Firmware,
    disk: Disk,
    accel: str,
    serial: str,
    seed: pathlib.Path | None = None,
) -> list[str]:
    """The command that boots `disk`; `serial` is QEMU's name for where the console goes.

    `seed` is a raw disk beside it, which the guest cannot write to.
    """
    cpu = "host" if accel == "kvm" else guest.cpu
    acceleration = accel if accel == "kvm" else "tcg,thread=multi"
    return [
        *(guest.program, "-machine", guest.machine, "-cpu", cpu, "-accel", acceleration),
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
