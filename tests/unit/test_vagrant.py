"""Tests the description of a Vagrant box's machine, and the check of a box."""

import pathlib
import xml.etree.ElementTree as ET

import pytest

from orchestrator.image import vagrant
from orchestrator.image.filesystems.filesystem import FilesystemError

OVF = "{http://schemas.dmtf.org/ovf/envelope/1}"
RASD = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData}"


def test_what_the_description_refers_to_is_in_it() -> None:
    """As DMTF's DSP0243 wants it: a disk of a controller, whose file is in the box."""
    top = ET.fromstring(vagrant.description(1234, 1 << 30))  # noqa: S314 - our own text
    (file,) = top.iter(f"{OVF}File")
    (disk,) = top.iter(f"{OVF}Disk")
    assert file.get(f"{OVF}href") == vagrant.DISK
    assert file.get(f"{OVF}size") == "1234"
    assert disk.get(f"{OVF}fileRef") == file.get(f"{OVF}id")
    assert disk.get(f"{OVF}capacity") == str(1 << 30)
    items = [
        {field.tag.removeprefix(RASD): field.text for field in item}
        for item in top.iter(f"{OVF}Item")
    ]
    by_number = {item["InstanceID"]: item for item in items}
    assert len(by_number) == len(items)
    (drive,) = (item for item in items if item["ResourceType"] == "17")
    assert drive["HostResource"] == f"/disk/{disk.get(f'{OVF}diskId')}"
    assert by_number[drive["Parent"]]["ResourceSubType"] == "AHCI"
    networks = {network.get(f"{OVF}name") for network in top.iter(f"{OVF}Network")}
    assert {item["Connection"] for item in items if "Connection" in item} == networks
    assert all(list(item) == sorted(item) for item in items), "the schema has an order"


def test_a_box_is_packed_and_checked(tmp_path: pathlib.Path) -> None:
    disk, box = tmp_path / "disk", tmp_path / "a.box"
    disk.write_bytes(b"x" * 5000)
    vagrant.pack(disk, 1 << 20, box)
    vagrant.check(box)
    data = box.read_bytes()
    box.write_bytes(data[:-1])
    with pytest.raises(FilesystemError, match="cannot be read"):
        vagrant.check(box)
