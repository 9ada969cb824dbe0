"""The systems that images can be made for, and how the kernel tells their programs apart.

ELF fields are from the ELF specification (gABI 4.1, chapter 4: e_ident, e_type, e_machine); the way
of masking them from the kernel's `Documentation/admin-guide/binfmt-misc.rst` and QEMU's
`scripts/qemu-binfmt-conf.sh`.
"""

import dataclasses
import platform

ELF_MAGIC = b"\x7fELF"
ELFCLASS32, ELFCLASS64 = 1, 2
ELFDATA2LSB = 1
EV_CURRENT = 1
ET_EXEC = 2


@dataclasses.dataclass(frozen=True)
class System:
    """A Nix system: `elf_class` and `machine` are e_ident[EI_CLASS] and e_machine.

    `emulator` qemu-user's program.
    """

    name: str
    elf_class: int
    machine: int
    emulator: str

    @property
    def magic(self) -> bytes:
        """The first 20 bytes of a program: e_ident, e_type ET_EXEC, e_machine; little-endian."""
        ident = ELF_MAGIC + bytes([self.elf_class, ELFDATA2LSB, EV_CURRENT]) + bytes(9)
        return ident + ET_EXEC.to_bytes(2, "little") + self.machine.to_bytes(2, "little")

    @property
    def mask(self) -> bytes:
        """Which bits of `magic` count.

        All but the OS ABI (byte 7) and the one that tells ET_EXEC (2) from ET_DYN (3).
        """
        return b"\xff" * 7 + b"\x00" + b"\xff" * 8 + b"\xfe\xff\xff\xff"


SYSTEMS = {
    system.name: system
    for system in (
        System("x86_64-linux", ELFCLASS64, 0x3E, "qemu-x86_64"),
        System("aarch64-linux", ELFCLASS64, 0xB7, "qemu-aarch64"),
        System("armv7l-linux", ELFCLASS32, 0x28, "qemu-arm"),
        System("riscv64-linux", ELFCLASS64, 0xF3, "qemu-riscv64"),
        System("i686-linux", ELFCLASS32, 0x03, "qemu-i386"),
    )
}

#: What `uname -m` and the Docker engine call the systems that builders run on.
MACHINES = {
    "x86_64": "x86_64-linux",
    "amd64": "x86_64-linux",
    "aarch64": "aarch64-linux",
    "arm64": "aarch64-linux",
}

#: Debian's names of the architectures that the demo's parts are taken for.
DEBIAN_ARCHITECTURES = {
    "x86_64-linux": "amd64",
    "aarch64-linux": "arm64",
    "riscv64-linux": "riscv64",
}

#: Systems whose programs the kernel of another runs by itself (a 64-bit x86 kernel runs i686
#: programs).
RUNS_TOO = {"x86_64-linux": frozenset({"i686-linux"})}


def this_system() -> str:
    """Nix system of the running kernel's machine."""
    return MACHINES.get(platform.machine(), f"{platform.machine()}-linux")


def foreign_system(native: str) -> str:
    """The system that the demo is built for where none is named: the other one of the two."""
    return "x86_64-linux" if native == "aarch64-linux" else "aarch64-linux"
