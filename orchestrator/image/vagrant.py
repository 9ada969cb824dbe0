"""Packs a disk as a Vagrant box for VirtualBox, by its documented format.

A box is a tar.gz of `metadata.json`, `Vagrantfile`, `box.ovf` and the disk, as Vagrant's "Box File
Format" and its page on VirtualBox boxes say. box.ovf is an OVF 1.0 description (DMTF DSP0243) of
the machine that nixpkgs' module `virtualbox-image.nix` makes.
"""

import gzip
import io
import pathlib
import tarfile

from orchestrator.image.filesystems.filesystem import FilesystemError

METADATA = '{"provider":"virtualbox"}\n'

#: VirtualBox needs the network card's address of each box; this one is nixpkgs'.
VAGRANTFILE = """\
Vagrant.configure("2") do |config|
  config.vm.base_mac = "0800275F0936"
end
"""

DISK = "box-disk1.vmdk"
DESCRIPTION = "box.ovf"

#: A machine's memory in MiB: the default of nixpkgs' option virtualbox.memorySize.
MEMORY = 1536

OVF = """\
<?xml version="1.0" encoding="UTF-8"?>
<Envelope ovf:version="1.0" xml:lang="en-US"
  xmlns="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
  xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
  <References>
    <File ovf:id="file1" ovf:href="{disk}" ovf:size="{size}"/>
  </References>
  <DiskSection>
    <Info>Disks of the machine</Info>
    <Disk ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:capacity="{capacity}" ovf:format="{format}"/>
  </DiskSection>
  <NetworkSection>
    <Info>Networks of the machine</Info>
    <Network ovf:name="NAT"/>
  </NetworkSection>
  <VirtualSystem ovf:id="nixos">
    <Info>A virtual machine</Info>
    <OperatingSystemSection ovf:id="101">
      <Info>Linux, 64 bits</Info>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>Virtual hardware</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>nixos</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>virtualbox-2.2</vssd:VirtualSystemType>
      </System>
{items}    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
"""

STREAM = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"

#: Devices by instance: fields of rasd in the order of its schema, which is the alphabet's.
#: ResourceType is CIM's number: 3 processor, 4 memory, 10 network card, 17 disk, 20 other storage.
DEVICES: tuple[dict[str, str | int], ...] = (
    {"ElementName": "processor", "InstanceID": 1, "ResourceType": 3, "VirtualQuantity": 1},
    {
        "AllocationUnits": "MegaBytes",
        "ElementName": "memory",
        "InstanceID": 2,
        "ResourceType": 4,
        "VirtualQuantity": MEMORY,
    },
    {
        "Address": 0,
        "ElementName": "SATA",
        "InstanceID": 3,
        "ResourceSubType": "AHCI",
        "ResourceType": 20,
    },
    {
        "AddressOnParent": 0,
        "ElementName": "disk",
        "HostResource": "/disk/vmdisk1",
        "InstanceID": 4,
        "Parent": 3,
        "ResourceType": 17,
    },
    {
        "AutomaticAllocation": "true",
        "Connection": "NAT",
        "ElementName": "network",
        "InstanceID": 5,
        "ResourceSubType": "virtio",
        "ResourceType": 10,
    },
)


def description(size: int, capacity: int) -> str:
    """Return box.ovf of a machine whose disk has `capacity` bytes, in a file of `size` bytes."""
    items = "".join(
        "      <Item>\n"
        + "".join(f"        <rasd:{name}>{value}</rasd:{name}>\n" for name, value in one.items())
        + "      </Item>\n"
        for one in DEVICES
    )
    return OVF.format(disk=DISK, size=size, capacity=capacity, format=STREAM, items=items)


def pack(disk: pathlib.Path, capacity: int, target: pathlib.Path) -> None:
    """Make the box `target` of the streamOptimized VMDK `disk`, whose disk has `capacity` bytes."""
    size = disk.stat().st_size
    texts = {
        "metadata.json": METADATA,
        "Vagrantfile": VAGRANTFILE,
        DESCRIPTION: description(size, capacity),
    }
    # The disk is compressed already: the fastest level packs the texts. No time and no name, so
    # that equal disks give equal boxes.
    with (
        target.open("xb") as file,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as box,
    ):
        for name, text in texts.items():
            data = text.encode()
            box.addfile(_member(name, len(data)), io.BytesIO(data))
        with disk.open("rb") as content:
            box.addfile(_member(DISK, size), content)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o644
    return member


def check(box: pathlib.Path) -> None:
    """Raise `FilesystemError` unless `box` has what Vagrant needs, to its last byte."""
    wanted = ["metadata.json", "Vagrantfile", DESCRIPTION, DISK]
    try:
        with gzip.open(box) as packed, tarfile.open(fileobj=packed) as found:
            names = found.getnames()
            while packed.read(1 << 20):  # at its end is gzip's checksum
                pass
    except (OSError, EOFError, tarfile.TarError) as error:
        raise FilesystemError(f"{box.name} cannot be read: {error}") from error
    if names != wanted:
        raise FilesystemError(f"{box.name} has {names}, expected {wanted}")
