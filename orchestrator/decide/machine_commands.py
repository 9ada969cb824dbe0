"""Prints QEMU and libvirt commands that boot an image outside of the appliance."""

import pathlib
import shlex

from orchestrator.agents.boot.qemu import DISK, device_of
from orchestrator.shared.architectures import SYSTEMS, Machine
from orchestrator.shared.disk_formats import DISK_FORMATS
from orchestrator.shared.errors import UsageError

#: Memory and CPUs of the machine in the printed commands.
MEMORY_MIB = 4096
CPUS = 2


NOTE = """\
# KVM is used if available. Firmware paths are Debian's; QEMU's own builds have the files as
# share/qemu/edk2-*-code.fd. ds=nocloud makes cloud-init, if installed, read only a seed disk
# (--seed FILE adds one to these commands)."""

TITLES = {"uefi": "UEFI", "bios": "BIOS", "u-boot": "U-Boot"}


def describe(
    system: str, firmware: tuple[str, ...], image: str, disk_format: str, seed: str = ""
) -> str:
    """Return a QEMU command for each of `firmware`, and one for libvirt.

    `image` and `seed` (a raw disk with cloud-init's seed) are paths on the caller's host.
    """
    if system not in SYSTEMS:
        raise UsageError(f"{system}: unknown system", hint=f"known systems: {', '.join(SYSTEMS)}")
    machine = SYSTEMS[system].machine
    parts = [NOTE]
    for kind in firmware:
        command = _qemu(machine, kind, image, disk_format, seed)
        parts.append(f"# {TITLES[kind]}\n{_lines(command)}")
    if "uefi" in firmware or "bios" in firmware:
        libvirt = _virt_install(machine, firmware, image, disk_format, seed)
        parts.append(f"# libvirt\n{_lines(libvirt)}")
    return "\n\n".join(parts) + "\n"


def _qemu(
    machine: Machine, firmware: str, image: str, disk_format: str, seed: str
) -> list[list[str]]:
    """Return the QEMU command, as one list per printed line."""
    driver = DISK_FORMATS[disk_format].driver
    head = [machine.program, "-machine", machine.type, "-accel", "kvm", "-accel", "tcg"]
    disk = f"file={_quoted(image)},format={driver},if=none,id=disk"
    lines = [
        [*head, "-cpu", "max", "-m", str(MEMORY_MIB), "-smp", str(CPUS)],
        ["-drive", f"{disk},cache=writeback,werror=report"],
        ["-device", f"{device_of(disk_format)},drive=disk"],
    ]
    if seed:
        second = f"file={_quoted(seed)},format=raw,if=none,id=seed,readonly=on"
        lines.append(["-drive", second, "-device", f"{DISK},drive=seed"])
    if options := machine.firmware.get(firmware):
        lines.append(list(options))
    lines += [["-nic", "user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:2222-:22"]]
    if machine.smbios:
        lines.append(["-smbios", "type=1,serial=ds=nocloud"])
    return [*lines, ["-nographic"]]


def _virt_install(
    machine: Machine, firmware: tuple[str, ...], image: str, disk_format: str, seed: str
) -> list[list[str]]:
    name = pathlib.PurePosixPath(image).name.partition(".")[0]
    row = DISK_FORMATS[disk_format]
    bus = "sata" if row.stick else "virtio"
    return [
        ["virt-install", "--name", name, "--memory", str(MEMORY_MIB), "--vcpus", str(CPUS)],
        ["--arch", machine.libvirt, "--osinfo", "nixos-unstable"],
        ["--disk", f"path={_escaped(image)},format={row.driver},bus={bus}", "--network", "user"],
        *([["--disk", f"path={_escaped(seed)},format=raw,bus=virtio,readonly=on"]] if seed else []),
        [*(["--boot", "uefi"] if "uefi" in firmware else []), "--graphics", "none", "--import"],
    ]


def _quoted(path: str) -> str:
    """Double the commas, as QEMU requires in an option's value."""
    return path.replace(",", ",,")


def _escaped(path: str) -> str:
    """Quote a path that virt-install would split: it reads a value as a shell reads words."""
    if not set(path) & set(",'\"\\"):
        return path
    inner = path.replace("'", "'\"'\"'")
    return f"'{inner}'"


def _lines(parts: list[list[str]]) -> str:
    return " \\\n  ".join(shlex.join(part) for part in parts)
