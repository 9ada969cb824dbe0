"""Target architectures: reads architectures.toml, which explains the fields.

ELF fields are from the ELF specification (gABI 4.1, chapter 4: e_ident, e_type, e_machine); magic
and mask follow the kernel's `Documentation/admin-guide/binfmt-misc.rst` and QEMU's
`scripts/qemu-binfmt-conf.sh`.
"""

import dataclasses
import pathlib
import platform
import tomllib

from orchestrator.shared.json_reader import Natural, from_json

TABLE = pathlib.Path(__file__).with_suffix(".toml")

ELF_MAGIC = b"\x7fELF"
ELFCLASS = {32: 1, 64: 2}
ELFDATA2LSB = 1
EV_CURRENT = 1
ET_EXEC = 2


@dataclasses.dataclass(frozen=True)
class Elf:
    """ELF header fields of a program; `exit_42` is machine code of exit(42), hex digits."""

    bits: Natural
    machine: Natural
    exit_42: str
    flags: Natural = 0


@dataclasses.dataclass(frozen=True)
class Machine:
    """Machine of `boot --print-command`: QEMU program and type, options per kind of `firmware`."""

    program: str
    type: str
    libvirt: str
    smbios: bool
    firmware: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Guest:
    """Machine of the boot check: Debian `packages` of its container, `cpu` without KVM."""

    packages: tuple[str, ...]
    type: str
    cpu: str
    firmware: dict[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Demo:
    """What the demo needs to know: Debian's names of architecture and kernel, console, modules."""

    debian: str
    kernel: str
    console: str
    module_needs: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One architecture: a row of architectures.toml, which explains the fields."""

    name: str
    gnu: str
    elf: Elf
    emulator: str
    loaders: tuple[str, ...]
    efi: str
    machine: Machine
    hosts: tuple[str, ...] = ()
    runs_too: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    guest: Guest | None = None
    demo: Demo | None = None

    @property
    def magic(self) -> bytes:
        """First 20 bytes of an ELF program: e_ident, e_type ET_EXEC, e_machine; little-endian."""
        ident = ELF_MAGIC + bytes([ELFCLASS[self.elf.bits], ELFDATA2LSB, EV_CURRENT]) + bytes(9)
        return ident + ET_EXEC.to_bytes(2, "little") + self.elf.machine.to_bytes(2, "little")

    @property
    def mask(self) -> bytes:
        """Mask for binfmt_misc: the bits of `magic` that must match.

        All bits but the OS ABI (byte 7) and the bit that distinguishes ET_EXEC (2) from ET_DYN (3).
        """
        return b"\xff" * 7 + b"\x00" + b"\xff" * 8 + b"\xfe\xff\xff\xff"

    @property
    def efi_name(self) -> str:
        """File name of the EFI boot loader on removable media."""
        return f"BOOT{self.efi.upper()}.EFI"

    @property
    def efi_entry(self) -> bytes:
        """`efi_name` as a FAT folder entry stores it (8.3; a longer name is cut to 6 and `~1`)."""
        stem = self.efi_name.removesuffix(".EFI")
        short = stem if len(stem) <= 8 else f"{stem[:6]}~1"
        return f"{short:8}EFI".encode()


def _read() -> dict[str, Architecture]:
    rows = tomllib.loads(TABLE.read_text())["architecture"]
    return {row.name: row for row in from_json(tuple[Architecture, ...], rows, TABLE.name)}


#: All architectures by Nix system name.
SYSTEMS = _read()

#: Nix system of a host by its name in `uname -m` and in Docker.
MACHINES = {host: row.name for row in SYSTEMS.values() for host in row.hosts}

#: Debian's architecture name by Nix system, for systems of the demo.
DEBIAN_ARCHITECTURES = {row.name: row.demo.debian for row in SYSTEMS.values() if row.demo}

#: Systems whose programs a kernel runs without emulation, by the kernel's system (x86_64 runs
#: i686).
RUNS_TOO = {row.name: frozenset(row.runs_too) for row in SYSTEMS.values() if row.runs_too}

#: Systems of PCs, whose BIOS can start GRUB.
PCS = frozenset(row.name for row in SYSTEMS.values() if "grub" in row.loaders)


def this_system() -> str:
    """Nix system of the machine that this process runs on."""
    return MACHINES.get(platform.machine(), f"{platform.machine()}-linux")


def foreign_system(native: str) -> str:
    """Default system of the demo: aarch64-linux, or x86_64-linux on an aarch64 host."""
    return "x86_64-linux" if native == "aarch64-linux" else "aarch64-linux"
