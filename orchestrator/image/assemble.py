"""Assembles a raw image from a spec and the Nix store, in place: no VM, no mount, no root."""

import dataclasses
import glob
import os
import pathlib
import tempfile
from collections.abc import Callable

from orchestrator.image import partition, staging
from orchestrator.image.bootspec import Bootspec, read_bootspec
from orchestrator.image.closure import Record, closure_of, differing, records, registration
from orchestrator.image.copies import Copies
from orchestrator.image.filesystems import rootfs
from orchestrator.image.filesystems.fat import fat_size, fat_tree, write_fat
from orchestrator.image.filesystems.filesystem import Order
from orchestrator.image.layout import Layout, Sizes, plan_layout
from orchestrator.image.loaders import (
    bootloader,
    clover,
    extlinux,
    grub,
    grub_menu,
    limine,
    signing,
    systemd_boot,
)
from orchestrator.image.loaders.bootloader import BootEntry, Files
from orchestrator.image.loaders.grub_menu import MENU
from orchestrator.image.loaders.signing import Signer
from orchestrator.image.pack import ChangedError
from orchestrator.image.sources import store_paths
from orchestrator.image.tree import Entry, Tree, TreeError
from orchestrator.shared.constants import MIB
from orchestrator.shared.spec import Content, ImageSpec

#: File that NixOS' first boot loads into the Nix database (`nix-store --load-db`) and deletes.
REGISTRATION = "nix-path-registration"

#: Default size of a FAT partition, as a multiple of its first files' size: later generations need
#: space.
BOOT_SPARE = 3


@dataclasses.dataclass(frozen=True)
class _BootFiles:
    """Boot files: per FAT partition (by layout name), and those below /boot of the root."""

    partitions: dict[str, Files]
    root: Files


def assemble(
    spec: ImageSpec,
    target: pathlib.Path,
    scratch: pathlib.Path,
    late: tuple[Entry, ...] = (),
    *,
    mapped: bool = False,
    signer: Signer | None = None,
) -> Layout:
    """Write the raw image of `spec` to `target`, a new sparse file, and return its layout.

    `scratch` is a folder for temporary files. `late` are entries of the root file system that are
    not in the Nix store. `mapped` says that the image gets a block map. `signer` signs EFI
    programs.

    Raises `ChangedError` if a store path does not have the hash in the Nix database.
    """
    named = [spec.toplevel, *spec.additionalPaths, *store_paths(spec.sources)]
    folder = pathlib.Path(tempfile.mkdtemp(dir=scratch))
    with staging.removed_afterwards(folder):
        copies = Copies(records(closure_of(named)), folder)
        return _assemble(spec, target, scratch, late, copies, mapped=mapped, signer=signer)


def _assemble(
    spec: ImageSpec,
    target: pathlib.Path,
    scratch: pathlib.Path,
    late: tuple[Entry, ...],
    sources: Copies,
    *,
    mapped: bool,
    signer: Signer | None,
) -> Layout:
    content = [spec.toplevel, *spec.additionalPaths]
    known = records(closure_of(content))
    tree = Tree(known, alone=spec.onlyNixStore)
    toplevel = pathlib.Path(spec.toplevel)
    boot_files = _real(_boot_files(spec, read_bootspec(toplevel, sources.real)), sources)
    if signer:
        signing.check(spec)
        parts = {name: signer.signed(files) for name, files in boot_files.partitions.items()}
        boot_files = dataclasses.replace(boot_files, partitions=parts)
    if not spec.onlyNixStore:
        _fill(tree, spec, known, boot_files, sources)
        for entry in late:
            tree.add(entry)
    elif late:
        raise TreeError(f"/{late[0].path}: only the Nix store is in it (nixosImage.onlyNixStore)")
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        trees = {
            name: fat_tree(files, pathlib.Path(folder, name))
            for name, files in boot_files.partitions.items()
        }
        layout = plan_layout(spec.partitionTable, _sizes(spec, tree, trees))
        try:
            with target.open("xb") as image:
                os.truncate(image.fileno(), layout.size)
            own = pathlib.Path(folder)
            rootfs.write_root(Order(target, layout.root, spec, tree, own, mapped))
            if wrong := differing(known, tree.hashes):
                raise ChangedError(wrong)
            for name, files in trees.items():
                slot = layout.find(name)
                assert slot is not None  # plan_layout has a slot for each partition of _boot_files
                label, serial = _fat_identity(spec, name, layout)
                write_fat(target, slot, label=label, serial=serial, tree=files)
            # The partition table is written last: mkfs tools refuse or warn about a disk that has
            # one.
            partition.write_table(target, layout, spec)
            if spec.bootLoader.clover and not spec.onlyNixStore:
                clover.embed(target, layout, sources.folder(spec.bootLoader.clover))
            if "limineBios" in spec.loaders:
                assert spec.bootLoader.limine is not None  # spec.loaders has looked
                limine.embed(target, layout, sources.folder(spec.bootLoader.limine.bios))
            if "grub" in spec.loaders and not spec.onlyNixStore:
                place = _grub_place(spec, layout)
                grub.embed(target, layout, sources.folder(spec.bootLoader.grub), place, own)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
    return layout


def _fill(
    tree: Tree,
    spec: ImageSpec,
    known: dict[str, Record],
    boot: _BootFiles,
    sources: Copies,
) -> None:
    """Add all files of the root file system that are neither store paths nor late values."""
    if spec.registration:
        tree.add_file(REGISTRATION, registration(known))
    for name, content in boot.root.items():
        if isinstance(content, str):
            # GRUB's menu may have passwords.
            tree.add_file(f"boot/{name}", content.encode(), 0o600 if name == MENU else 0o644)
        else:
            tree.add_from(content, f"boot/{name}", real=sources.real, mode=0o644)
    for one in spec.contents:
        mode = int(one.mode, 8) if one.mode else None
        for source, target in matches(one, sources.real):
            tree.add_from(
                source, target, real=sources.real, mode=mode, user=one.user, group=one.group
            )


def matches(
    one: Content, real: Callable[[pathlib.Path], pathlib.Path]
) -> list[tuple[pathlib.Path, str]]:
    """Return each source of `contents` with its place in the root file system.

    `real` returns the folder that a path leads to, in which a pattern is looked for.
    As for nixpkgs' make-disk-image.nix, a source with `*` is a pattern, and the target the folder
    of what matches. Raises `TreeError` if nothing does.
    """
    target = one.target.strip("/")
    if "*" not in one.source:
        return [(pathlib.Path(one.source), target)]
    parts = pathlib.Path(one.source).parts
    fixed = next(at for at, part in enumerate(parts) if "*" in part)
    above, pattern = pathlib.Path(*parts[:fixed]), pathlib.Path(*parts[fixed:])
    # As in a shell, hidden files are left out, which Path.glob would take.
    found = sorted(glob.glob(os.fspath(pattern), root_dir=real(above)))  # noqa: PTH207
    if not found:
        raise TreeError(f"contents: nothing matches {one.source}")
    return [(above / path, f"{target}/{pathlib.Path(path).name}") for path in found]


def _real(boot: _BootFiles, sources: Copies) -> _BootFiles:
    """Return `boot` with the files that its paths lead to; raises `TreeError` if one leads out."""

    def files(given: Files) -> Files:
        return {
            name: content if isinstance(content, str) else sources.real(content)
            for name, content in given.items()
        }

    return _BootFiles(
        {name: files(part) for name, part in boot.partitions.items()}, files(boot.root)
    )


def _boot_files(spec: ImageSpec, boot: Bootspec) -> _BootFiles:
    """Choose the boot files that the spec's partition table needs, by partition."""
    loader = spec.bootLoader
    if spec.onlyNixStore:
        return _BootFiles({}, {})
    entries = bootloader.boot_entries(boot, loader.distroName)
    match spec.partitionTable:
        case "efi" | "hybrid" if loader.limine:
            return _BootFiles({"ESP": limine.loader_files(boot.system, loader, entries)}, {})
        case "efi" | "hybrid" | "efixbootldr":
            entries = systemd_boot.named(entries, loader)
            return _BootFiles(_efi_files(spec, boot.system, entries), {})
        case "legacy+boot":
            files = grub_menu.alone(entries, loader, kernels=grub_menu.OWN_KERNELS)
            return _BootFiles({"BOOT": files}, {})
        case "sd-card":
            firmware: Files = {
                name: pathlib.Path(source) for name, source in spec.firmware.files.items()
            }
            assert loader.extlinux is not None  # read_spec has required extlinux
            files = extlinux.menu_files(entries, loader.extlinux, loader.timeout)
            return _BootFiles({"FIRMWARE": firmware}, files)
        case "legacy" | "legacy+gpt":
            return _BootFiles({}, grub_menu.alone(entries, loader, kernels=""))
        case "none":
            # The image has no boot loader: the hypervisor's loader reads one of these
            # configurations.
            files = {}
            if loader.grub:
                files |= grub_menu.alone(entries, loader, kernels="")
            if loader.extlinux:
                files |= extlinux.menu_files(entries, loader.extlinux, loader.timeout)
            return _BootFiles({}, files)


def _efi_files(spec: ImageSpec, system: str, entries: list[BootEntry]) -> dict[str, Files]:
    """Return the files of systemd-boot, and of the loaders that start it or share its entries."""
    loader = spec.bootLoader
    esp = systemd_boot.loader_files(system, loader, entries)
    files = systemd_boot.entry_files(entries, loader)
    if spec.partitionTable == "efixbootldr":
        systemd_boot.add_extra_files(loader, entries, files)
        return {"ESP": esp, "BOOT": files}
    esp |= files
    if loader.clover:
        program = f"EFI/systemd/{pathlib.Path(loader.systemdBoot).name}"
        esp |= clover.files(pathlib.Path(loader.clover), program)
    if spec.partitionTable == "hybrid":
        esp |= grub_menu.beside_systemd_boot(entries, loader.timeout, editor=loader.editor)
    systemd_boot.add_extra_files(loader, entries, esp)
    return {"ESP": esp}


def _grub_place(spec: ImageSpec, layout: Layout) -> tuple[int, str, str]:
    """Place of grub.cfg: partition number, file system, folder."""
    if slot := layout.find("ESP") or layout.find("BOOT"):
        return slot.number, "vfat", "/grub"
    return layout.root.number, spec.root.fsType, "/boot/grub"


def _fat_identity(spec: ImageSpec, name: str, layout: Layout) -> tuple[str, str]:
    """Label and serial number of the FAT partition `name`."""
    if name == "FIRMWARE":
        return spec.firmware.label, spec.firmware.identifier
    other = name == "ESP" and layout.find("BOOT")
    return (spec.esp if other else spec.boot).label, spec.identifier(name.lower()).hex[:8]


def _sizes(spec: ImageSpec, tree: Tree, trees: dict[str, pathlib.Path]) -> Sizes:
    def fat(name: str, given: int) -> int:
        if given or name not in trees:
            return given * MIB
        return BOOT_SPARE * fat_size(trees[name])

    two = spec.partitionTable == "efixbootldr"
    return Sizes(
        root=rootfs.root_size(spec.root, tree),
        boot=fat(
            "BOOT" if two or spec.partitionTable == "legacy+boot" else "ESP", spec.boot.sizeMiB
        ),
        esp=fat("ESP", spec.esp.sizeMiB),
        firmware=fat("FIRMWARE", spec.firmware.sizeMiB),
        firmware_offset=spec.firmware.offsetMiB * MIB,
        disk=spec.diskSizeMiB * MIB,
    )
