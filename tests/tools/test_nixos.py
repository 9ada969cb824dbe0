"""Tests NixOS builds with Nix' own configuration and store."""

import json
import pathlib

import pytest

from orchestrator.agents.builder import forecast
from orchestrator.shared.architectures import this_system
from tests.tools.nix_store import run

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.own_store
def test_what_the_store_has_of_an_image_is_known_before(tmp_path: pathlib.Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(5000))
    text = f'''derivation {{
      name = "made"; system = "{this_system()}"; builder = "/bin/sh"; source = {source};
      args = [ "-c" "echo made > $out" ];
    }}'''
    drv = run("nix-instantiate", "--expr", text)
    before = forecast.present_bytes([drv])
    assert 5000 < before < 6000, "a NAR's frame beside the file"
    # The test's container may not create namespaces.
    run("nix-store", "--realise", drv, NIX_CONFIG="sandbox = false\nbuild-users-group =")
    assert forecast.present_bytes([drv]) > before, "its output, once it is built"


@pytest.mark.needs("nix-instantiate")
@pytest.mark.parametrize(
    ("type", "foreign"),
    [
        (
            "ext4",
            ["compress=zstd", "discard=async", "subvol=@", "logbsize=256k", "zfsutil", "umask=0"],
        ),
        ("btrfs", ["data=ordered", "umask=0", "inode64", "compress_algorithm=lz4"]),
        ("xfs", ["commit=60", "compress", "nobarrier", "errors=remount-ro"]),
        ("vfat", ["data=ordered", "acl", "mode=755", "nodots"]),
        ("unknown", []),
    ],
)
def test_a_mount_option_of_another_type_is_told_from_those_of_all(
    type: str, foreign: list[str]
) -> None:
    every = ["noatime", "ro", "x-systemd.growfs", "context=a=b", "nofail"]
    text = (
        f"builtins.filter ((import {ROOT}/nix/mount-options.nix).isForeign {json.dumps(type)})"
        f" (builtins.fromJSON {json.dumps(json.dumps([*every, *foreign]))})"
    )
    found = run("nix-instantiate", "--eval", "--strict", "--json", "--expr", text)
    assert json.loads(found) == foreign
