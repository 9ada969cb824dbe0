"""Tests the table of NixOS formats: complete, with valid values, and its printed form."""

import json
import pathlib
import re
import typing

import pytest

from orchestrator.shared.disk_formats import ASSEMBLED
from orchestrator.shared.errors import UsageError
from orchestrator.shared.nixos_formats import COLUMNS, chosen, describe, read_formats
from orchestrator.shared.spec import Compression, Firmware

ROOT = pathlib.Path(__file__).parents[2]
FORMATS = read_formats(ROOT / "nix/formats.json")
RAW = json.loads((ROOT / "nix/formats.json").read_text())

#: nixos-generators' formats, and nixpkgs' system.build.images (NIX.md of the project's notes).
GENERATORS = (
    "amazon azure cloudstack do docker gce hyperv install-iso install-iso-hyperv iso kexec"
    " kexec-bundle kubevirt linode lxc lxc-metadata openstack proxmox proxmox-lxc qcow qcow-efi raw"
    " raw-efi sd-aarch64 sd-aarch64-installer sd-x86_64 vagrant-virtualbox virtualbox vm"
    " vm-bootloader vm-nogui vmware"
).split()
UPSTREAM = (
    "amazon azure cloudstack digital-ocean google-compute hyperv iso iso-installer kexec kubevirt"
    " linode lxc lxc-metadata oci openstack openstack-zfs proxmox proxmox-lxc qemu qemu-efi raw"
    " raw-efi sd-card vagrant-virtualbox virtualbox vmware"
).split()


@pytest.mark.parametrize("name", [*GENERATORS, "sd-riscv64"])
def test_every_name_of_nixos_generators_is_there(name: str) -> None:
    assert len(chosen((name,), FORMATS)) == 1


def test_every_variant_of_nixpkgs_is_there() -> None:
    assert len(UPSTREAM) == 26
    assert {one.upstream for one in FORMATS} - {None} == set(UPSTREAM)
    for name in UPSTREAM:
        assert chosen((name,), FORMATS)[0].upstream == name


def test_no_name_means_two_formats() -> None:
    names = [name for one in FORMATS for name in (one.name, *one.aliases)]
    assert len(set(names)) == len(names)


def test_the_assembler_knows_what_it_is_to_make() -> None:
    native = [RAW[one.name] for one in FORMATS if one.assembler == "native"]
    assert len(native) > 15
    assert {one["diskFormat"] for one in native} <= set(ASSEMBLED)
    assert {one["compression"] for one in native} <= set(typing.get_args(Compression))
    assert {name for one in FORMATS for name in one.firmware} <= set(typing.get_args(Firmware))


def test_a_disk_for_a_bios_is_a_uefi_disk_where_there_is_no_bios() -> None:
    """As nixos-generators has it: its qcow and raw exist for aarch64."""
    others = {one.name: one.otherwise for one in FORMATS if one.otherwise}
    assert others == {"raw": "raw-efi", "qemu": "qemu-efi"}
    for name, other in others.items():
        assert "uefi" in RAW[other]["firmware"]
        assert RAW[name]["systems"] == RAW[other]["systems"]
        assert RAW[name]["diskFormat"] == RAW[other]["diskFormat"]


def named(*scripts: str) -> set[str]:
    """The formats that test scripts name: by -f, or in a list of their own."""
    text = "".join((ROOT / f"tests/nixos/test_{name}.sh").read_text() for name in scripts)
    words = re.findall(r" -f ([a-z][\w-]+)", text)
    for listed in re.findall(
        r"^(?:disks|containers|kexec|scripts|machine|installers|cards)='([^']*)'",
        text,
        re.MULTILINE,
    ):
        words += listed.split()
    return {one.name for one in chosen(tuple(words), FORMATS)}


def test_what_the_table_calls_tried_is_in_the_tests() -> None:
    of = {kind: {one.name for one in FORMATS if one.tried == kind} for kind in ("booted", "built")}
    tried = of["booted"] | of["built"]
    assert (
        named("boot", "disks", "recipes") <= tried <= named("boot", "disks", "recipes", "formats")
    )
    # All that test_boot.sh makes is booted, and of what test_recipes.sh makes the ISO image.
    assert of["booted"] == named("boot") | {"iso"}


def test_rows_are_in_columns() -> None:
    lines = describe(chosen(("qcow-efi", "vm"), FORMATS)).splitlines()
    assert len(lines) == 3
    for at, column in enumerate(COLUMNS):
        start = lines[0].index(column)
        assert all(line[start - 1] == " " or not at for line in lines)
    assert lines[1].startswith("qemu-efi, qcow-efi  qemu-efi ")
    assert " .qcow2 " in lines[1]
    assert " a program " in lines[2]


def test_without_a_name_all_are_told() -> None:
    rows = describe(chosen((), FORMATS)).partition("\n\n")[0].splitlines()
    assert len(rows) == len(FORMATS) + 1


def test_files_of_another_kind_than_nixpkgs_are_told() -> None:
    others = describe(FORMATS).partition("\n\n")[2].splitlines()
    named = [line.partition(":")[0] for line in others]
    assert named == ["google-compute", "proxmox", "virtualbox", "vmware"]
    assert "virtualbox: a disk (.vdi); nixpkgs makes a machine to import (OVA)" in others
    assert "\n\n" not in describe(chosen(("raw",), FORMATS))


@pytest.mark.parametrize(
    ("name", "hint"),
    [("qcow-uefi", "did you mean qcow-efi?"), ("zzz", "./run.sh formats lists the formats")],
)
def test_a_name_that_does_not_exist_gets_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: no such format") as caught:
        chosen((name,), FORMATS)
    assert caught.value.hint == hint
