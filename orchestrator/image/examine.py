"""What was made, opened with others' tools before it is handed over."""

import json
import os
import pathlib

from orchestrator.image.filesystems import rootfs
from orchestrator.image.filesystems.filesystem import FilesystemError, run
from orchestrator.image.layout import SECTOR, Layout
from orchestrator.shared import command as programs
from orchestrator.shared.disk_formats import DISK_FORMATS

#: What tells whether a file is whole, by its suffix.
TESTERS = {".zst": ["zstd", "-tq"], ".xz": ["xz", "-tq"], ".gz": ["pigz", "-tq"]}

#: An ISO 9660 file system has its name in its second descriptor (ECMA-119, 8.4), whatever table is
#: in front of it.
ISO_OFFSET, ISO_NAME = 0x8001, b"CD001"


def raw_image(image: pathlib.Path, layout: Layout, root_type: str) -> None:
    """Read the table back, and go through the root file system where that is possible in place.

    Raises `FilesystemError` for what is not as it was laid out, or not sound.
    """
    if layout.label:
        command = ["sfdisk", "--json", os.fspath(image)]
        said = programs.run(command, check=False, fails=FilesystemError)
        table = json.loads(said.stdout)["partitiontable"] if said.code == 0 else {}
        found = sorted(one["start"] * SECTOR for one in table.get("partitions", []))
        wanted = sorted(part.start for part in layout.partitions)
        if found != wanted:
            raise FilesystemError(f"sfdisk finds partitions at {found}, they were put at {wanted}")
    rootfs.module_of(root_type).examine(image, layout.root)


def disk_file(image: pathlib.Path, disk_format: str) -> None:
    """Try the file `image` as the disk format's row says; of a raw one there is nothing to see."""
    row = DISK_FORMATS[disk_format]
    match row.examined:
        case "check":
            run(["qemu-img", "check", "-q", "-f", row.driver, os.fspath(image)], {})
        case "info":
            run(["qemu-img", "info", "-f", row.driver, os.fspath(image)], {})
        case "iso":
            iso(image)


def packed(file: pathlib.Path) -> None:
    """Go through all of a compressed `file`; whatever else it is, it is not empty."""
    if file.stat().st_size == 0:
        raise FilesystemError(f"{file.name} is empty")
    if tester := TESTERS.get(file.suffix):
        run([*tester, os.fspath(file)], {})


def iso(file: pathlib.Path) -> None:
    """Look for the file system that an ISO image is."""
    with file.open("rb") as image:
        image.seek(ISO_OFFSET)
        if image.read(len(ISO_NAME)) != ISO_NAME:
            raise FilesystemError(f"{file.name} has no ISO 9660 file system")
