"""Makes a repository file for Raspberry Pi Imager: `rpi-imager --repo FILE` shows the image.

The format is that of Imager's list of systems, version 4 (doc/json-schema/os-list-schema.json in
raspberrypi/rpi-imager).
"""

import pathlib
import time
import typing

from orchestrator.shared.artifact import Artifact

#: Tag of the one device in the file, so that Imager offers the image for it.
ANY = "nixos-image"

#: Imager's tags of the boards on which U-Boot of nixpkgs' SD card image starts, by system.
BOARDS = {"aarch64-linux": ["pi3-64bit", "pi4-64bit"]}

#: Imager's names of CPUs.
CPUS = {"aarch64-linux": "armv8", "armv7l-linux": "armhf"}

#: An icon that comes with Imager.
ICON = "icons/use_custom.png"


def is_for_cards(image: Artifact) -> bool:
    """Whether `image` can be written to a card or disk: a raw image that we have assembled."""
    return image.disk_format == "raw" and bool(image.toplevel)


def repository(image: Artifact, out: pathlib.PurePosixPath, made: float) -> dict[str, typing.Any]:
    """Return the repository file of `image` in the caller's folder `out`; `made` is a Unix time.

    Imager must not change the image (`init_format`): NixOS does not read what it would write.
    """
    name = image.host or image.name
    entry = {
        "name": f"{name} ({image.format})",
        "description": f"NixOS for {image.system}: {image.file_name}",
        "icon": ICON,
        "url": (out / image.file_name).as_uri(),
        "extract_size": image.virtual_size,
        "extract_sha256": image.unpacked_sha256,
        "image_download_size": image.size,
        "image_download_sha256": image.sha256,
        "release_date": time.strftime("%Y-%m-%d", time.gmtime(made)),
        "init_format": "none",
        "devices": [ANY, *(BOARDS.get(image.system, []) if "u-boot" in image.firmware else [])],
    }
    if image.system in CPUS:
        entry["architecture"] = CPUS[image.system]
    device = {
        "name": "The computer that this image is for",
        "description": f"{image.system}, starts by {' or '.join(image.firmware)}",
        "tags": [ANY],
        "matching_type": "exclusive",
        "default": True,
    }
    return {"imager": {"devices": [device]}, "os_list": [entry]}
