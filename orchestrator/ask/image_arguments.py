"""Image options of the command line: disk, output file, late values."""

import argparse
import os
import typing

from orchestrator.ask.injections import injections
from orchestrator.ask.parser import Parser, caller_path, mebibytes, mebibytes_or_auto
from orchestrator.ask.request import Caller
from orchestrator.image.late import HOST_NAME, check_host
from orchestrator.shared.disk_formats import ASSEMBLED
from orchestrator.shared.errors import UsageError
from orchestrator.shared.image_options import ImageOptions
from orchestrator.shared.spec import Compression, PartitionTable, SpecError


def add_image_options(parser: Parser) -> None:
    """Add the options of nixpkgs' make-disk-image, of the output file, and of late values."""
    disk = parser.add_argument_group("the disk (sizes in MiB, or with K, M, G, T)")
    disk.add_argument("--partition-table", choices=typing.get_args(PartitionTable))
    disk.add_argument(
        "--disk-size",
        type=mebibytes_or_auto,
        metavar="SIZE|auto",
        help="size of the disk (default: the configuration's, else auto: what its content needs,"
        " and --additional-space)",
    )
    disk.add_argument(
        "--boot-size",
        type=mebibytes_or_auto,
        metavar="SIZE|auto",
        help="size of the boot partition; auto: three times what its first files need",
    )
    disk.add_argument(
        "--firmware-size",
        type=mebibytes,
        metavar="SIZE",
        help="size of an SD card's firmware partition",
    )
    disk.add_argument(
        "--additional-space",
        type=mebibytes,
        metavar="SIZE",
        help="free space in the root file system",
    )
    output = parser.add_argument_group("the image file")
    output.add_argument("--disk-format", choices=ASSEMBLED)
    output.add_argument("--compress", choices=typing.get_args(Compression))
    output.add_argument("--bmap", action="store_true", help="write a block map for bmaptool")
    output.add_argument(
        "--check", action="store_true", help="assemble each image twice and compare"
    )
    late = parser.add_argument_group("late values (never in the Nix store)")
    late.add_argument(
        "--inject",
        action="append",
        default=[],
        metavar="SRC:DEST[:MODE[:UID[:GID]]]",
        help="add a file to the root file system (default: mode 600, of root)",
    )
    late.add_argument("--host-name", default="", metavar="NAME")
    late.add_argument("--wifi-ssid", default="", metavar="NAME")
    late.add_argument("--wifi-password-file", metavar="FILE")
    late.add_argument(
        "--stamp",
        metavar="FILE",
        help="CSV file of devices (host, ssh_key, ...): one image per row",
    )
    late.add_argument(
        "--identity-seed",
        metavar="FILE",
        help="derive SSH host key, machine-id and serial number of each device from this secret",
    )
    late.add_argument(
        "--secure-boot-key",
        metavar="FILE",
        help="sign systemd-boot and the kernels for Secure Boot (PEM, without a passphrase)",
    )
    late.add_argument(
        "--secure-boot-cert", metavar="FILE", help="certificate of the --secure-boot-key (PEM)"
    )


def image_options(found: argparse.Namespace, who: Caller) -> ImageOptions:
    """Convert parsed arguments; paths are those of the caller's host. Raises `UsageError`."""
    for name in ("host_name", "wifi_ssid", "wifi_password_file"):
        if getattr(found, name) and found.stamp:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} and --stamp exclude each other", hint=found.help_of)
    if found.wifi_password_file and not found.wifi_ssid:
        raise UsageError("--wifi-password-file needs --wifi-ssid", hint=found.help_of)
    if found.identity_seed and not (found.host_name or found.stamp):
        raise UsageError("--identity-seed needs --stamp or --host-name", hint=found.help_of)
    if bool(found.secure_boot_key) != bool(found.secure_boot_cert):
        raise UsageError(
            "--secure-boot-key and --secure-boot-cert need each other", hint=found.help_of
        )
    try:
        if found.host_name:
            check_host(found.host_name, "--host-name")
    except SpecError as error:
        raise UsageError(str(error), hint=found.help_of) from error
    files = injections(found.inject, who, found.help_of)
    if (found.host_name or found.stamp) and f"/{HOST_NAME}" in [one.target for one in files]:
        raise UsageError(
            f"--inject: /{HOST_NAME} is the place of the device's host name", hint=found.help_of
        )
    return ImageOptions(
        partition_table=found.partition_table,
        disk_size=found.disk_size,
        boot_size=found.boot_size,
        firmware_size=found.firmware_size,
        additional_space=found.additional_space,
        disk_format=found.disk_format,
        compression=found.compress,
        bmap=found.bmap,
        check=found.check,
        host_name=found.host_name,
        wifi_ssid=found.wifi_ssid,
        wifi_password_file=_sent(found.wifi_password_file, who),
        injections=files,
        stamp=_sent(found.stamp, who),
        identity_seed=_sent(found.identity_seed, who),
        secure_boot_key=_sent(found.secure_boot_key, who),
        secure_boot_cert=_sent(found.secure_boot_cert, who),
    )


def _sent(text: str | None, who: Caller) -> str:
    """Return the path of a file that run.sh must send, or "" if none is given."""
    return os.fspath(caller_path(text, who)) if text is not None else ""
