"""The flake as a library: what another flake gets of its outputs, with a real nixpkgs.

    NIXPKGS=FOLDER pytest tests/nixos/library.py

It needs Nix. Nothing is built, and no network is needed. A test takes ten seconds.
"""

import json
import os
import pathlib
import subprocess
import typing

import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
NIXPKGS = os.environ.get("NIXPKGS", "")

#: The longest that a test may take, in seconds.
SECONDS = 600

pytestmark = [
    pytest.mark.skipif(not NIXPKGS, reason="NIXPKGS names no tree to evaluate"),
    pytest.mark.needs("nix"),
    pytest.mark.timeout(SECONDS),
]

#: The outputs of a flake that has both flakes as inputs.
OUTPUTS = """{{ nixpkgs, nixos-image }}:
let
  inherit (nixpkgs) lib;
  base = {here}/configuration.nix;
  pc = {{ nixpkgs.hostPlatform = "x86_64-linux"; }};
  pi = {{ nixpkgs.hostPlatform = "aarch64-linux"; }};
  system = modules: lib.nixosSystem {{ modules = [ base ] ++ modules; }};
in
{text}
"""

#: Calls them without a copy in the store, which takes half a minute.
CALL = f"""
let
  flakeAt = folder: inputs:
    let
      outputs = (import (folder + "/flake.nix")).outputs (inputs // {{ inherit self; }});
      self = outputs // {{ outPath = folder; inherit inputs; }};
    in
    self;
  nixpkgs = flakeAt "{NIXPKGS}" {{ }};
  nixos-image = flakeAt "{ROOT}" {{ inherit nixpkgs; }};
in
import ./outputs.nix {{ inherit nixpkgs nixos-image; }}
"""


@pytest.fixture
def told(tmp_path: pathlib.Path) -> typing.Callable[[str], str]:
    """Return what Nix tells of an expression: a value as JSON, or the error."""

    def tell(text: str) -> str:
        (tmp_path / "outputs.nix").write_text(OUTPUTS.format(here=HERE, text=text))
        (tmp_path / "call.nix").write_text(CALL)
        words = ["nix", "--extra-experimental-features", "nix-command", "eval", "--impure"]
        # With room for all values Nix collects no garbage, which is a fifth of its time.
        heap = {**os.environ, "GC_INITIAL_HEAP_SIZE": "2G"}
        done = subprocess.run(
            [*words, "--json", "--file", tmp_path / "call.nix"],
            capture_output=True,
            text=True,
            check=False,
            env=heap,
        )
        return done.stdout or done.stderr

    return tell


@pytest.fixture
def value(told: typing.Callable[[str], str]) -> typing.Callable[[str], typing.Any]:
    """Return an expression's value."""
    return lambda text: json.loads(told(text))


def test_a_module_in_the_call_of_nixos_system_is_the_configurations(
    told: typing.Callable[[str], str], tmp_path: pathlib.Path
) -> None:
    """Such a module has the file of nixpkgs that calls it for its own."""
    error = told("""
    let evaluated = system [ pc { swapDevices = [ { device = "/dev/sda2"; } ]; }
      { fileSystems."/srv" = { device = "/dev/sdb1"; fsType = "ext4"; }; } ];
    in (nixos-image.lib.imagesOf { inherit evaluated; formats = [ "raw-efi" ]; }).raw-efi.drvPath
    """)
    assert "swapDevices (in a module without a file): /dev/sda2 is not in the image" in error
    assert f'fileSystems."/srv" ({tmp_path}/outputs.nix:11): /dev/sdb1' in error
