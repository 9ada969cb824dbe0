"""What a person asks of an image beside its configuration: sizes, table, output, late values.

Only what was asked for is set; `apply` puts it over the spec that Nix has made.
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
    """A file for the root file system that Nix must not see: `source` here, `target` there."""

    source: str
    target: FreeText
    mode: Natural


@dataclasses.dataclass(frozen=True)
class ImageOptions:
    """Sizes are MiB; None is what the spec says. `stamp` is a CSV file: one image for each row."""

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


def apply(options: ImageOptions, spec: ImageSpec) -> ImageSpec:
    """The spec with what was asked for; raises `SpecError` where that does not go together."""
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
        raise SpecError(f"--bmap maps raw images, and {changed.diskFormat} is none")
    if options.bmap and not FILESYSTEMS[changed.root.fsType].block_map:
        raise SpecError(f"--bmap: what {changed.root.fsType} needs as zeros is not known here")
    return changed
