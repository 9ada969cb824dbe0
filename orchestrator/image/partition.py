"""Writes a partition table into an image file with sfdisk."""

import pathlib

from orchestrator.image.filesystems.filesystem import FilesystemError
from orchestrator.image.layout import SECTOR, Layout
from orchestrator.shared import command as programs
from orchestrator.shared.spec import ImageSpec


def write_table(image: pathlib.Path, layout: Layout, spec: ImageSpec) -> None:
    """Write the partition table of `layout`; do nothing if the layout has none.

    Disk and partition identifiers come from the spec, names from the layout.
    """
    if not layout.label:
        return
    gpt = layout.label == "gpt"
    if spec.partitionTable == "sd-card":
        identifier = f"0x{spec.firmware.identifier}"
    else:
        disk = spec.identifier("disk")
        identifier = str(disk) if gpt else f"0x{disk.hex[:8]}"
    lines = [
        f"label: {layout.label}",
        f"label-id: {identifier}",
        "unit: sectors",
        f"sector-size: {SECTOR}",
    ]
    for part in layout.partitions:
        fields = [f"start={part.start // SECTOR}, size={part.size // SECTOR}, type={part.type}"]
        if gpt:
            fields += [f"uuid={spec.identifier(f'partition {part.name}')}", f'name="{part.name}"']
        if part.active:
            fields.append("bootable")
        lines.append(f"{part.number} : {', '.join(fields)}")
    command = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", str(image)]
    programs.run(command, stdin=("\n".join(lines) + "\n").encode(), fails=FilesystemError)
