"""Reads an image spec and checks that its fields go together."""

import pathlib
import re
import uuid

from orchestrator.shared.architectures import PCS
from orchestrator.shared.disk_formats import DISK_FORMATS, DiskFormat
from orchestrator.shared.filesystems import FILESYSTEMS, FsType
from orchestrator.shared.json_reader import JsonError, from_json, read_json
from orchestrator.shared.spec import (
    BOOTS_FROM_ROOT,
    FAT_LABEL,
    FIRMWARE,
    LABEL,
    LARGEST_ID,
    LOADERS,
    MBR,
    MBR_END_MIB,
    SCHEMA,
    WIFI,
    ImageSpec,
    Limine,
    PartitionTable,
    SpecError,
    is_file_name,
)


def read_spec(text: str) -> ImageSpec:
    """Parse an image spec.

    Raises `SpecError` for unknown or missing fields, wrong types, invalid values and conflicting
    fields.
    """
    try:
        spec = from_json(ImageSpec, read_json(text, "image spec"), "spec")
    except JsonError as error:
        raise SpecError(str(error)) from error
    check(spec)
    return spec


def check(spec: ImageSpec) -> None:
    """Raise `SpecError` if fields conflict with each other."""
    if spec.schema != SCHEMA:
        raise SpecError(
            f"spec.schema: {spec.schema} is not supported, this assembler reads {SCHEMA}"
        )
    if not is_file_name(spec.file_name):
        raise SpecError(f"spec.name: {spec.name!r} cannot be a file name")
    _check_loaders(spec)
    _check_root(spec)
    _check_labels(spec)
    _check_contents(spec)
    if unknown := sorted(spec.late.wifi.keys() - set(WIFI)):
        raise SpecError(f"spec.late.wifi: {unknown[0]} is not one of {', '.join(WIFI)}")


def _check_loaders(spec: ImageSpec) -> None:
    """Check that the boot loaders of the partition table are available."""
    limine = spec.bootLoader.limine
    if limine:
        _check_limine(spec, limine)
    for loader in () if spec.onlyNixStore or limine else LOADERS[spec.partitionTable]:
        if not getattr(spec.bootLoader, loader):
            raise SpecError(
                f"spec.bootLoader.{loader} is missing: partition table {spec.partitionTable} is"
                f" booted by {FIRMWARE[loader]}, and no such loader is available for {spec.system}"
            )
    boot = spec.bootLoader
    own = limine.files if limine else {}
    for name in (*boot.extraEntries, *boot.extraFiles, *boot.grubMenu.files, *own):
        if name.startswith("/") or not name.isprintable() or {"..", ""} & set(name.split("/")):
            raise SpecError(f"spec.bootLoader: {name!r} is not a relative path without `..`")
    if boot.clover and (limine or spec.partitionTable != "efi" or spec.system not in PCS):
        raise SpecError("spec.bootLoader.clover: only for a PC (x86) with partition table efi")


def _check_limine(spec: ImageSpec, limine: Limine) -> None:
    """Check that Limine has a place on the disk, and a firmware that starts it."""
    table = "hybrid" if limine.bios else "efi"
    if spec.partitionTable != table or spec.onlyNixStore:
        raise SpecError(f"spec.bootLoader.limine: it takes partition table {table}")
    if not limine.program and not limine.bios:
        raise SpecError("spec.bootLoader.limine: it has no program for UEFI and none for a BIOS")


def _check_root(spec: ImageSpec) -> None:
    """Check that the root file system is supported, readable by the loader, with valid UUIDs."""
    row = FILESYSTEMS[spec.root.fsType]
    if row.refused:
        raise SpecError(f"spec.root.fsType: {row.name} is not supported: {row.refused}")
    if not spec.onlyNixStore and (why := unreadable(spec.partitionTable, spec.root.fsType)):
        raise SpecError(f"spec.root.fsType: {why}")
    if why := too_large(spec.partitionTable, spec.diskFormat, spec.diskSizeMiB):
        raise SpecError(f"spec.diskSizeMiB: {why}")
    for name in ("uuid", "partUuid"):
        try:
            if given := getattr(spec.root, name):
                uuid.UUID(given)
        except ValueError as error:
            raise SpecError(f"spec.root.{name}: {error}") from error


def unreadable(table: PartitionTable, root_fs: FsType) -> str:
    """Return why the table's boot loader cannot read its files from the root, "" if it can."""
    if table not in BOOTS_FROM_ROOT or LOADERS[table][0] in FILESYSTEMS[root_fs].read_by:
        return ""
    return (
        f"with partition table {table}, {LOADERS[table][0]} reads its files from the root file"
        f" system, and cannot read {root_fs}"
    )


def too_large(table: PartitionTable | None, disk_format: DiskFormat | None, disk_mib: int) -> str:
    """Return why a disk of this size cannot have the table or the format, "" if it can."""
    if table in MBR and disk_mib >= MBR_END_MIB:
        return f"partition table {table} (MBR) ends at 2 TiB; use legacy+gpt, or efi with UEFI"
    largest = DISK_FORMATS[disk_format].largest_mib if disk_format else 0
    if largest and disk_mib > largest:
        return f"a disk of format {disk_format} has at most {largest // 1024} GiB"
    return ""


def _check_labels(spec: ImageSpec) -> None:
    """Check volume labels, and the serial number of the SD card's FAT."""
    labels: dict[str, tuple[str, str]] = {"root.label": (spec.root.label, spec.root.fsType)}
    labels |= {f"{name}.label": (getattr(spec, name).label, "vfat") for name in ("boot", "esp")}
    labels["firmware.label"] = (spec.firmware.label, "vfat")
    for name, (label, holder) in labels.items():
        if len(label.encode()) > FILESYSTEMS[holder].label_bytes:
            raise SpecError(f"spec.{name}: {label!r} is longer than {holder} allows")
        if not (FAT_LABEL if holder == "vfat" else LABEL).fullmatch(label):
            raise SpecError(
                f"spec.{name}: {label!r} is empty, or has letters that the name below"
                f" /dev/disk/by-label or {holder} cannot have"
            )
    if not re.fullmatch("[0-9a-fA-F]{8}", spec.firmware.identifier):
        raise SpecError(
            f"spec.firmware.identifier: {spec.firmware.identifier!r} is not 8 hex digits"
        )


def _check_contents(spec: ImageSpec) -> None:
    """Check place, mode and owner of files that are added to the root file system."""
    if spec.onlyNixStore and spec.contents:
        raise SpecError("spec.contents: not possible with onlyNixStore")
    for one in spec.contents:
        parts = pathlib.PurePosixPath(one.target.strip("/")).parts
        if ".." in parts or not parts:
            raise SpecError(f"spec.contents: {one.target!r} is no path of a file or folder")
        if parts[:2] == ("nix", "store"):
            raise SpecError(f"spec.contents: {one.target}: only Nix may add files to the store")
        if one.mode and not re.fullmatch("[0-7]{3,4}", one.mode):
            raise SpecError(f"spec.contents: {one.target}: {one.mode!r} is not an octal mode")
        if max(one.user, one.group) > LARGEST_ID:
            raise SpecError(f"spec.contents: {one.target}: user or group number is too large")
