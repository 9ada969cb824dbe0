"""Tests the repository file for Raspberry Pi Imager."""

import dataclasses
import pathlib

import pytest

from orchestrator.deliver import imager
from tests.unit.artifacts import IMAGE

OUT = pathlib.PurePosixPath("/home/me/my images#1")
MADE = 1_800_000_000.0

CARD = dataclasses.replace(
    IMAGE,
    path="image/pi.img.xz",
    name="pi",
    format="sd-aarch64",
    firmware=("u-boot",),
    compression="xz",
    host="kitchen",
    size=7,
    virtual_size=512,
    unpacked_sha256="e" * 64,
)


def test_it_has_what_imagers_schema_demands() -> None:
    """Imager's os-list-schema.json demands these fields; a device needs the last three."""
    document = imager.repository(CARD, OUT, MADE)
    (entry,) = document["os_list"]
    (device,) = document["imager"]["devices"]
    demanded = "name description icon url extract_size extract_sha256 image_download_size"
    assert {*demanded.split(), "release_date", "devices"} <= entry.keys()
    assert {"name", "description", "tags"} <= device.keys()
    assert entry["init_format"] in {"", "systemd", "cloudinit", "cloudinit-rpi", "none"}


def test_sizes_and_checksums_are_of_the_file_and_of_what_is_in_it() -> None:
    (entry,) = imager.repository(CARD, OUT, MADE)["os_list"]
    assert (entry["image_download_size"], entry["image_download_sha256"]) == (7, CARD.sha256)
    assert (entry["extract_size"], entry["extract_sha256"]) == (512, "e" * 64)
    assert entry["url"] == "file:///home/me/my%20images%231/pi.img.xz"
    assert entry["name"] == "kitchen (sd-aarch64)"
    assert entry["release_date"] == "2027-01-15"


@pytest.mark.parametrize(
    ("system", "firmware", "boards", "cpu"),
    [
        ("aarch64-linux", ("u-boot",), ["pi3-64bit", "pi4-64bit"], "armv8"),
        ("aarch64-linux", ("uefi",), [], "armv8"),
        ("x86_64-linux", ("uefi", "bios"), [], None),
    ],
)
def test_imager_offers_it_for_its_device(
    system: str, firmware: tuple[str, ...], boards: list[str], cpu: str | None
) -> None:
    image = dataclasses.replace(CARD, system=system, firmware=firmware)
    document = imager.repository(image, OUT, MADE)
    (entry,) = document["os_list"]
    (device,) = document["imager"]["devices"]
    assert set(device["tags"]) <= set(entry["devices"])
    assert entry["devices"][1:] == boards
    assert entry.get("architecture") == cpu


def test_only_images_of_cards_get_one() -> None:
    assert imager.is_for_cards(CARD)
    assert not imager.is_for_cards(dataclasses.replace(CARD, disk_format="qcow2"))
    # A recipe of nixpkgs has made it: an ISO, or a tarball.
    assert not imager.is_for_cards(dataclasses.replace(CARD, toplevel=""))
