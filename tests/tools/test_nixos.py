"""Tests NixOS builds with Nix' own configuration and store."""

import pathlib

import pytest

from orchestrator.agents.builder import forecast
from orchestrator.shared.architectures import this_system
from tests.tools.nix_store import run


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
