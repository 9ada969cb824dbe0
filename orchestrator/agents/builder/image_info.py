"""Describes an image for Amazon in the words of nixpkgs' own, which its `upload-ami` reads."""

import json
import pathlib
import re

from orchestrator.shared.spec import ImageSpec, PartitionTable

#: Names of the formats whose image nixpkgs describes.
DESCRIBED = ("amazon",)

#: Amazon's boot mode of an image, by its partition table.
BOOT_MODES: dict[PartitionTable, str] = {
    "efi": "uefi",
    "efixbootldr": "uefi",
    "hybrid": "uefi-preferred",
}


def image_info(spec: ImageSpec, size: int) -> str:
    """Return the description of the image with `spec`, whose disk has `size` bytes.

    `file` is the image's name: nixpkgs has a path of its store there.
    """
    release = pathlib.Path(spec.toplevel, "etc/os-release").read_text()
    version = re.search(r'^BUILD_ID="?([^"\n]*)', release, re.MULTILINE)
    disk = {"logical_bytes": str(size), "file": spec.file_name}
    described = {
        "label": version[1] if version else "",
        "system": spec.system,
        "boot_mode": BOOT_MODES.get(spec.partitionTable, "legacy-bios"),
        **disk,
        "disks": {"root": disk},
    }
    return json.dumps(described, indent=2) + "\n"
