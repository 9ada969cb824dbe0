"""Checks a finished image with independent tools (sfdisk, fsck, qemu-img) before delivery."""

import json
import os
import pathlib

from orchestrator.image import vagrant
from orchestrator.image.filesystems import rootfs
from orchestrator.image.filesystems.filesystem import FilesystemError, run
from orchestrator.image.layout import SECTOR, Layout
from orchestrator.shared import command as programs
from orchestrator.shared.disk_formats import DISK_FORMATS

#: Command that tests a compressed file, by suffix.
TESTERS = {".zst": ["zstd", "-tq"], ".xz": ["xz", "-tq"], ".gz": ["pigz", "-tq"]}

#: An ISO 9660 file system has the identifier CD001 here (ECMA-119, 8.4), whatever partition table
#: precedes it.
ISO_OFFSET, ISO_NAME = 0x8001, b"CD001"


def raw_image(image: pathlib.Path, layout: Layout, root_type: str) -> None:
    """Check the partition table, and the root file system if its fsck works in place.

    Raises `FilesystemError` if partitions are not where `layout` has them, or if fsck fails.
    """
    if layout.label:
        command = ["sfdisk", "--json", os.fspath(image)]
        said = programs.run(command, check=False, fails=FilesystemError)
        table = json.loads(said.stdout)["partitiontable"] if said.code == 0 else {}
        found = sorted(one["start"] * SECTOR for one in table.get("partitions", []))
        wanted = sorted(part.start for part in layout.partitions)
        if found != wanted:
            raise FilesystemError(f"sfdisk finds partitions at {found}, expected {wanted}")
    rootfs.module_of(root_type).examine(image, layout.root)


def disk_file(image: pathlib.Path, disk_format: str) -> None:
    """Check `image` with the test that its row in the table of disk formats names, if any."""
    row = DISK_FORMATS[disk_format]
    match row.examined:
        case "check":
            run(["qemu-img", "check", "-q", "-f", row.driver, os.fspath(image)], {})
        case "info":
            run(["qemu-img", "info", "-f", row.driver, os.fspath(image)], {})
        case "iso":
            iso(image)
        case "box":
            vagrant.check(image)


def packed(file: pathlib.Path) -> None:
    """Test a compressed `file`; any other file must not be empty."""
    if file.stat().st_size == 0:
        raise FilesystemError(f"{file.name} is empty")
    if tester := TESTERS.get(file.suffix):
        run([*tester, os.fspath(file)], {})


def iso(file: pathlib.Path) -> None:
    """Check that `file` is an ISO 9660 image."""
    with file.open("rb") as image:
        image.seek(ISO_OFFSET)
        if image.read(len(ISO_NAME)) != ISO_NAME:
            raise FilesystemError(f"{file.name} has no ISO 9660 file system")
