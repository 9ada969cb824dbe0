"""NixOS images: Nix' own configuration and store."""

import os
import pathlib
import subprocess

import pytest

from orchestrator.agents.builder import nixos
from orchestrator.agents.builder.nix import Settings
from orchestrator.shared.architectures import this_system
from tests.tools.nix_store import run
from tests.unit.test_nixos import task


@pytest.mark.own_store
def test_the_callers_own_configuration_of_nix_reaches_it_alone(
    cache: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(nixos, "CACHE", cache)
    (tmp_path / "nix.conf").write_text("access-tokens = example.org=secret\n")
    asked = task(nixpkgs="/in/n", nix_conf=str(tmp_path / "nix.conf"))
    settings = nixos.look_around(asked, Settings())
    shown = {**os.environ, "NIX_CONFIG": settings.text()}
    command = ["nix", "config", "show", "access-tokens"]
    said = subprocess.run(command, env=shown, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "example.org=secret"
    assert "secret" not in settings.text()
    assert "secret" not in " ".join(nixos.nix_arguments(asked, nixos.Nixpkgs("/n")))
    assert "secret" not in capsys.readouterr().out


@pytest.mark.own_store
def test_what_the_store_has_of_an_image_is_known_before(tmp_path: pathlib.Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(5000))
    text = f'''derivation {{
      name = "made"; system = "{this_system()}"; builder = "/bin/sh"; source = {source};
      args = [ "-c" "echo made > $out" ];
    }}'''
    drv = run("nix-instantiate", "--expr", text)
    before = nixos.present_bytes([drv])
    assert 5000 < before < 6000, "a NAR's frame beside the file"
    # The test's own container may make no namespaces.
    run("nix-store", "--realise", drv, NIX_CONFIG="sandbox = false\nbuild-users-group =")
    assert nixos.present_bytes([drv]) > before, "its output, once it is built"
