"""GRUB for BIOS in an image file: the first stage and its block list, without a loop device.

What `grub-install` does to a disk is three writes: the first stage's code into sector 0, where it
finds the second one, and where that finds its own rest (GRUB 2.12, `grub-core/boot/i386/pc/boot.S`
and `diskboot.S`). The core is static: it reads `grub/grub.cfg` from the boot partition, so a new
system needs no new core.
"""

import pathlib

from orchestrator.image.filesystems.filesystem import FilesystemError
from orchestrator.image.layout import CODE_BYTES, RESERVE, SECTOR, Layout
from orchestrator.shared import command as programs
from orchestrator.shared.filesystems import FILESYSTEMS
from orchestrator.shared.spec import SpecError

#: GRUB_BOOT_MACHINE_KERNEL_SECTOR and _DRIVE_CHECK (`include/grub/i386/pc/boot.h`).
KERNEL_SECTOR = 0x5C
DRIVE_CHECK = 0x66

#: Two `nop`: the drive number that the BIOS gives is believed, as grub-install has it for hard
#: disks.
NOPS = b"\x90\x90"

#: Where the first sector of the core keeps the first entry of its block list (GRUB_BOOT_MACHINE_
#: LIST_SIZE bytes before the end: start sector, length, segment).
BLOCK_LIST = SECTOR - 12

#: Modules of every core, and those for the table of the disk with grub.cfg.
MODULES = ("biosdisk", "normal", "linux", "echo", "test", "configfile", "serial", "terminal", "ls")
TABLE_MODULES = {"gpt": "part_gpt", "dos": "part_msdos"}


def embed(
    image: pathlib.Path,
    layout: Layout,
    modules: pathlib.Path,
    boot: tuple[int, str, str],
    scratch: pathlib.Path,
) -> None:
    """Make `image` start by BIOS.

    `boot` says where grub.cfg's folder lies: partition number, file system, path. The core goes
    into the BIOS boot partition, or without one behind the MBR.
    """
    number, kind, folder = boot
    if not (reader := FILESYSTEMS[kind].grub_module):
        raise SpecError(f"GRUB cannot read {kind}: /boot needs another file system")
    core = _core(
        modules,
        f"(,{'gpt' if layout.label == 'gpt' else 'msdos'}{number}){folder}",
        (*MODULES, TABLE_MODULES[layout.label], reader),
        scratch,
    )
    slot = layout.find("BIOS")
    start, room = (slot.start, slot.size) if slot else (SECTOR, RESERVE - SECTOR)
    if len(core) > room:
        raise FilesystemError(f"GRUB's core has {len(core)} bytes, there is room for {room}")
    first = (modules / "boot.img").read_bytes()[:CODE_BYTES]
    with image.open("r+b") as disk:
        disk.write(first)
        disk.seek(KERNEL_SECTOR)
        disk.write((start // SECTOR).to_bytes(8, "little"))
        disk.seek(DRIVE_CHECK)
        disk.write(NOPS)
        disk.seek(start)
        disk.write(core)
        disk.seek(start + BLOCK_LIST)
        disk.write((start // SECTOR + 1).to_bytes(8, "little"))


def _core(
    folder: pathlib.Path, prefix: str, modules: tuple[str, ...], scratch: pathlib.Path
) -> bytes:
    """The second stage with its modules, in whole sectors."""
    if not (folder / "boot.img").is_file():
        raise SpecError(f"spec.bootLoader.grub: {folder} holds no boot.img")
    target = scratch / "core.img"
    command = ["grub-mkimage", "-O", "i386-pc", "-p", prefix, "-d", str(folder), "-o", str(target)]
    command += modules
    programs.run(command, fails=FilesystemError)
    core = target.read_bytes()
    return core + bytes(-len(core) % SECTOR)
