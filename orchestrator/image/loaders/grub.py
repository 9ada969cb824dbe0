"""Installs GRUB for BIOS into an image file without a loop device.

`grub-install` writes boot code into sector 0, the sector of the core image into that code, and a
block list into the core image's first sector (GRUB 2.12, `grub-core/boot/i386/pc/boot.S` and
`diskboot.S`). The core image reads `grub/grub.cfg` from the boot partition, so a new generation
needs no new core image.
"""

import pathlib

from orchestrator.image.filesystems.filesystem import FilesystemError
from orchestrator.image.layout import CODE_BYTES, RESERVE, SECTOR, Layout
from orchestrator.shared import command as programs
from orchestrator.shared.filesystems import FILESYSTEMS
from orchestrator.shared.spec import SpecError

#: Offsets in GRUB's boot code: of the core image's sector number, and of the drive check
#: (`include/grub/i386/pc/boot.h`: GRUB_BOOT_MACHINE_KERNEL_SECTOR and _DRIVE_CHECK).
KERNEL_SECTOR = 0x5C
DRIVE_CHECK = 0x66

#: Two `nop` instructions in place of boot.S' drive check, as grub-install writes for hard disks:
#: the BIOS' drive number is trusted.
NOPS = b"\x90\x90"

#: Offset of the block list's first entry in the core image's first sector (start sector, length,
#: segment: GRUB_BOOT_MACHINE_LIST_SIZE bytes).
BLOCK_LIST = SECTOR - 12

#: GRUB modules of every core image, and the module for each kind of partition table. There is no
#: folder of further modules that a menu could load, so these are what a menu may need: passwords,
#: graphics, and entries that start other systems. The core image has 250 KiB.
MODULES = (
    *("biosdisk", "normal", "linux", "echo", "test", "configfile", "serial", "terminal", "ls"),
    *("password", "password_pbkdf2"),
    *("all_video", "vbe", "font", "gfxterm", "gfxterm_background", "gfxmenu", "png", "jpeg", "tga"),
    *("chain", "ntldr", "linux16", "multiboot", "multiboot2", "drivemap", "loopback"),
    *("search", "search_fs_file", "search_fs_uuid", "search_label"),
    *("part_gpt", "part_msdos", "fat", "ext2", "iso9660"),
    *("boot", "reboot", "halt", "sleep", "read", "true", "cat", "regexp", "probe", "keystatus"),
)
TABLE_MODULES = {"gpt": "part_gpt", "dos": "part_msdos"}


def embed(
    image: pathlib.Path,
    layout: Layout,
    modules: pathlib.Path,
    boot: tuple[int, str, str],
    scratch: pathlib.Path,
) -> None:
    """Make `image` bootable by a BIOS.

    `boot` is the place of grub.cfg's folder: partition number, file system, path. The core image
    goes into the BIOS boot partition, or without one into the gap after the MBR.
    """
    number, kind, folder = boot
    if not (reader := FILESYSTEMS[kind].grub_module):
        raise SpecError(f"GRUB cannot read {kind}: /boot needs another file system")
    core = _core(
        modules,
        f"(,{'gpt' if layout.label == 'gpt' else 'msdos'}{number}){folder}",
        tuple(dict.fromkeys((*MODULES, TABLE_MODULES[layout.label], reader))),
        scratch,
    )
    slot = layout.find("BIOS")
    start, room = (slot.start, slot.size) if slot else (SECTOR, RESERVE - SECTOR)
    if len(core) > room:
        raise FilesystemError(f"GRUB's core image has {len(core)} bytes, at most {room} fit")
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
    """Return GRUB's core image with `modules`, padded to whole sectors."""
    if not (folder / "boot.img").is_file():
        raise SpecError(f"spec.bootLoader.grub: {folder} holds no boot.img")
    target = scratch / "core.img"
    command = ["grub-mkimage", "-O", "i386-pc", "-p", prefix, "-d", str(folder), "-o", str(target)]
    command += modules
    programs.run(command, fails=FilesystemError)
    core = target.read_bytes()
    return core + bytes(-len(core) % SECTOR)
