"""Image options of the command line: sizes, partition table, output format, late values.

Only given options are set; `apply` overrides the fields of the spec that Nix has made.
"""

import dataclasses
import typing

from orchestrator.shared.disk_formats import DiskFormat
from orchestrator.shared.filesystems import FILESYSTEMS
from orchestrator.shared.json_reader import FreeText, MiB, Natural
from orchestrator.shared.spec import (
    Compression,
    ImageSpec,
    PartitionTable,
    SpecError,
    check,
)


@dataclasses.dataclass(frozen=True)
class Injection:
    """A file added to the root file system without Nix: a copy of `source` at `target`."""

    source: str
    target: FreeText
    mode: Natural


@dataclasses.dataclass(frozen=True)
class ImageOptions:
    """Options of a run's images: sizes in MiB; None keeps the spec's value.

    `stamp` is a CSV file, with one image per row. `secure_boot_key` and `secure_boot_cert` are PEM
    files.
    """

    partition_table: PartitionTable | None = None
    disk_size: MiB | None = None
    boot_size: MiB | None = None
    firmware_size: MiB | None = None
    additional_space: MiB | None = None
    disk_format: DiskFormat | None = None
    compression: Compression | None = None
    bmap: bool = False
    check: bool = False
    host_name: str = ""
    wifi_ssid: FreeText = ""
    wifi_password_file: str = ""
    injections: tuple[Injection, ...] = ()
    stamp: str = ""
    secure_boot_key: str = ""
    secure_boot_cert: str = ""


def apply(options: ImageOptions, spec: ImageSpec) -> ImageSpec:
    """Return `spec` with `options` applied; raises `SpecError` if the result is invalid."""
    fields: dict[str, typing.Any] = {
        "partitionTable": options.partition_table,
        "diskSizeMiB": options.disk_size,
        "diskFormat": options.disk_format,
        "compression": options.compression,
    }
    changed = dataclasses.replace(
        spec, **{name: value for name, value in fields.items() if value is not None}
    )
    if options.boot_size is not None:
        boot = dataclasses.replace(changed.boot, sizeMiB=options.boot_size)
        changed = dataclasses.replace(changed, boot=boot)
    if options.firmware_size is not None:
        firmware = dataclasses.replace(changed.firmware, sizeMiB=options.firmware_size)
        changed = dataclasses.replace(changed, firmware=firmware)
    if options.additional_space is not None:
        root = dataclasses.replace(changed.root, additionalSpaceMiB=options.additional_space)
        changed = dataclasses.replace(changed, root=root)
    check(changed)
    if options.bmap and changed.diskFormat != "raw":
        raise SpecError(f"--bmap needs a raw image, not {changed.diskFormat}")
    if options.bmap and not FILESYSTEMS[changed.root.fsType].block_map:
        raise SpecError(f"--bmap does not support {changed.root.fsType}")
    return changed
