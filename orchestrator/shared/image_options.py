"""Image options of the command line: sizes, partition table, output format, late values.

Only given options are set; `apply` overrides the fields of the spec that Nix has made.
"""

import dataclasses
import shlex
import typing

from orchestrator.shared.disk_formats import DiskFormat
from orchestrator.shared.filesystems import FILESYSTEMS, FsType
from orchestrator.shared.json_reader import FreeText, MiB, Natural
from orchestrator.shared.spec import (
    LOADERS,
    WITH_BOOT,
    Compression,
    ImageSpec,
    PartitionTable,
    SpecError,
)
from orchestrator.shared.spec_reader import check, too_large, unreadable

#: Command line options whose names are not those of their fields in `ImageOptions`.
FLAGS = {"compression": "--compress", "injections": "--inject"}


@dataclasses.dataclass(frozen=True)
class Injection:
    """A file added to the root file system without Nix: a copy of `source` at `target`.

    `user` and `group` are numbers.
    """

    source: str
    target: FreeText
    mode: Natural
    user: Natural = 0
    group: Natural = 0


@dataclasses.dataclass(frozen=True)
class ImageOptions:
    """Options of a run's images: sizes in MiB; None keeps the spec's value.

    A `disk_size` or `boot_size` of 0 is `auto`: what the content needs.

    `stamp` is a CSV file, with one image per row. `identity_seed` is the file with the secret from
    which devices' identities are derived; in the builder, that with the identities.
    `secure_boot_key` and `secure_boot_cert` are PEM files.
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
    identity_seed: str = ""
    host_name: str = ""
    wifi_ssid: FreeText = ""
    wifi_password_file: str = ""
    injections: tuple[Injection, ...] = ()
    stamp: str = ""
    secure_boot_key: str = ""
    secure_boot_cert: str = ""

    @property
    def secret(self) -> bool:
        """Whether the images may have secrets, so that others must not read them."""
        return bool(self.injections or self.stamp or self.wifi_password_file or self.identity_seed)

    @property
    def given(self) -> tuple[str, ...]:
        """Command line options that are given."""
        return tuple(
            FLAGS.get(field.name, f"--{field.name.replace('_', '-')}")
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        )


def check_options(
    options: ImageOptions,
    *,
    table: PartitionTable | None,
    disk_format: DiskFormat | None,
    root_fs: FsType | None,
) -> None:
    """Raise `SpecError` for an option that would have no effect on such an image.

    None stands for what is not known before the configuration is evaluated.
    """
    if table and options.boot_size is not None and table not in WITH_BOOT:
        instead = "; its kernels are on the root" if table != "sd-card" else ": use --firmware-size"
        raise SpecError(f"--boot-size: partition table {table} has no boot partition{instead}")
    if table not in {"sd-card", None} and options.firmware_size is not None:
        raise SpecError(
            f"--firmware-size: only SD cards have a firmware partition, not partition table {table}"
        )
    if why := too_large(table, disk_format, options.disk_size or 0):
        raise SpecError(f"--disk-size: {why}")
    if table and options.secure_boot_key and "systemdBoot" not in LOADERS[table]:
        raise SpecError(
            f"--secure-boot-key: an image with partition table {table} has no systemd-boot to sign"
        )
    if options.bmap and disk_format not in {"raw", None}:
        raise SpecError(f"--bmap needs a raw image, not {disk_format}")
    if options.bmap and root_fs and not FILESYSTEMS[root_fs].block_map:
        raise SpecError(f"--bmap does not support {root_fs}")
    if table and root_fs and (why := unreadable(table, root_fs)):
        raise SpecError(f"--root-fs {root_fs}: {why}")


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
    if changed.secureBoot and not options.secure_boot_key:
        files = changed.secureBoot
        given = f"--secure-boot-key {shlex.quote(files.keyFile)}"
        given += f" --secure-boot-cert {shlex.quote(files.certFile)}"
        raise SpecError(
            "nixosImage.secureBoot: the configuration wants a signed image, and run.sh sends no key"
            f" unless the command line names it: {given}"
        )
    if changed.bootLoader.limine and options.secure_boot_key:
        raise SpecError(
            "--secure-boot-key: the image has Limine, which starts kernels without the firmware's"
            " check; take systemd-boot"
        )
    check_options(
        options,
        table=changed.partitionTable,
        disk_format=changed.diskFormat,
        root_fs=None if changed.onlyNixStore else changed.root.fsType,
    )
    return changed
