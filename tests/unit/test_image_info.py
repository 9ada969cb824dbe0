"""Tests the description of an image for Amazon."""

import dataclasses
import json
import pathlib

import pytest

from orchestrator.agents.builder.image_info import image_info
from orchestrator.shared.spec import PartitionTable
from orchestrator.shared.spec_reader import read_spec

ROOT = pathlib.Path(__file__).parents[2]
SPEC = read_spec((ROOT / "tests/nixos/specs/aarch64-linux/amazon.json").read_text())


@pytest.mark.parametrize(
    ("table", "mode"),
    [("efi", "uefi"), ("hybrid", "uefi-preferred"), ("legacy+gpt", "legacy-bios")],
)
def test_it_has_the_fields_of_nixpkgs(
    table: PartitionTable, mode: str, tmp_path: pathlib.Path
) -> None:
    """Those of nixos/maintainers/scripts/ec2/amazon-image.nix; numbers are strings there, too."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('NAME=NixOS\nBUILD_ID="26.05.1"\nVERSION_ID="26.05"\n')
    spec = dataclasses.replace(
        SPEC, toplevel=str(tmp_path), partitionTable=table, name="a", compression="none"
    )
    disk = {"logical_bytes": "4096", "file": "a.vhd"}
    assert json.loads(image_info(spec, 4096)) == {
        "label": "26.05.1",
        "boot_mode": mode,
        "system": "aarch64-linux",
        **disk,
        "disks": {"root": disk},
    }
