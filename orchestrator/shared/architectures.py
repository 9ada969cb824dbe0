"""The architectures that images can be made for: rows of architectures.toml, which explains them.

ELF fields are from the ELF specification (gABI 4.1, chapter 4: e_ident, e_type, e_machine); the way
of masking them from the kernel's `Documentation/admin-guide/binfmt-misc.rst` and QEMU's
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
    """Facts of a program's header, and `exit_42`, the machine code of exit(42) in hex digits."""

    bits: Natural
    machine: Natural
    exit_42: str
    flags: Natural = 0


@dataclasses.dataclass(frozen=True)
class Machine:
    """QEMU's program and machine type; `firmware` has QEMU's options for each kind."""

    program: str
    type: str
    libvirt: str
    smbios: bool
    firmware: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Guest:
    """The boot check's machine: `packages` of its container, `cpu` without KVM."""

    packages: tuple[str, ...]
    type: str
    cpu: str
    firmware: dict[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Demo:
    """What the demo is made of: Debian's name of the architecture, end of its kernel's."""

    debian: str
    kernel: str
    console: str
    module_needs: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One architecture; the table says what each field is."""

    name: str
    gnu: str
    elf: Elf
    emulator: str
    loaders: tuple[str, ...]
    efi: str
    machine: Machine
    hosts: tuple[str, ...] = ()
    runs_too: tuple[str, ...] = ()
    guest: Guest | None = None
    demo: Demo | None = None

    @property
    def magic(self) -> bytes:
        """The first 20 bytes of a program: e_ident, e_type ET_EXEC, e_machine; little-endian."""
        ident = ELF_MAGIC + bytes([ELFCLASS[self.elf.bits], ELFDATA2LSB, EV_CURRENT]) + bytes(9)
        return ident + ET_EXEC.to_bytes(2, "little") + self.elf.machine.to_bytes(2, "little")

    @property
    def mask(self) -> bytes:
        """Which bits of `magic` count.

        All but the OS ABI (byte 7) and the one that tells ET_EXEC (2) from ET_DYN (3).
        """
        return b"\xff" * 7 + b"\x00" + b"\xff" * 8 + b"\xfe\xff\xff\xff"

    @property
    def efi_name(self) -> str:
        """Name of the boot loader's file on removable media."""
        return f"BOOT{self.efi.upper()}.EFI"

    @property
    def efi_entry(self) -> bytes:
        """That name in a FAT folder: 8 letters and 3, a longer one cut to 6 and `~1`."""
        stem = self.efi_name.removesuffix(".EFI")
        short = stem if len(stem) <= 8 else f"{stem[:6]}~1"
        return f"{short:8}EFI".encode()


def _read() -> dict[str, Architecture]:
    rows = tomllib.loads(TABLE.read_text())["architecture"]
    return {row.name: row for row in from_json(tuple[Architecture, ...], rows, TABLE.name)}


#: All of them by Nix' names of their systems.
SYSTEMS = _read()

#: What `uname -m` and the Docker engine call the systems that builders run on.
MACHINES = {host: row.name for row in SYSTEMS.values() for host in row.hosts}

#: Debian's names of the architectures that the demo's parts are taken for.
DEBIAN_ARCHITECTURES = {row.name: row.demo.debian for row in SYSTEMS.values() if row.demo}

#: Systems whose programs the kernel of another runs by itself (a 64-bit x86 kernel runs i686
#: programs).
RUNS_TOO = {row.name: frozenset(row.runs_too) for row in SYSTEMS.values() if row.runs_too}

#: Systems that have a PC's BIOS, which GRUB is for.
PCS = frozenset(row.name for row in SYSTEMS.values() if "grub" in row.loaders)


def this_system() -> str:
    """Nix system of the running kernel's machine."""
    return MACHINES.get(platform.machine(), f"{platform.machine()}-linux")


def foreign_system(native: str) -> str:
    """The system that the demo is built for where none is named: the other one of the two."""
    return "x86_64-linux" if native == "aarch64-linux" else "aarch64-linux"
