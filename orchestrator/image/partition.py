"""Partition tables, written by an sfdisk script into an image file."""

import pathlib
import subprocess

from orchestrator.image.filesystem import SECTOR, FilesystemError
from orchestrator.image.layout import Layout
from orchestrator.image.spec import ImageSpec


def write_gpt(image: pathlib.Path, layout: Layout, spec: ImageSpec) -> None:
    """Write the GPT of `layout`.

    Disk and partition identifiers come from the spec, names from the layout.
    """
    lines = [
        "label: gpt",
        f"label-id: {spec.identifier('disk')}",
        "unit: sectors",
        f"sector-size: {SECTOR}",
    ]
    lines += [
        f"start={part.start // SECTOR}, size={part.size // SECTOR}, type={part.type}, "
        f'uuid={spec.identifier(f"partition {part.name}")}, name="{part.name}"'
        for part in layout.partitions
    ]
    command = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", str(image)]
    done = subprocess.run(
        command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise FilesystemError(f"sfdisk: {done.stderr.strip()}")
