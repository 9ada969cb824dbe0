"""Images of providers have a configuration that `nixos-rebuild` on the device makes a system of.

    NIXPKGS=FOLDER pytest tests/nixos/on_device.py

It needs Nix, and a tree of nixpkgs; a format takes some twenty seconds. Nothing is built.
"""

import json
import os
import pathlib
import shutil
import subprocess
import typing

import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
FORMATS = json.loads((ROOT / "nix/formats.json").read_text())
NIXPKGS = os.environ.get("NIXPKGS", "")

#: The longest that a test may take, in seconds.
SECONDS = 300

pytestmark = [
    pytest.mark.skipif(not NIXPKGS, reason="NIXPKGS names no tree to evaluate"),
    pytest.mark.needs("nix"),
    pytest.mark.timeout(SECONDS),
]

#: What a system says of its disk, as Nix attributes of `config`.
DISK = """{
  root = { inherit (config.fileSystems."/") device fsType autoResize; };
  boot = config.fileSystems."/boot".device or null;
  systemdBoot = config.boot.loader.systemd-boot.enable;
  grub = config.boot.loader.grub.enable;
  hook = config.boot.loader.systemd-boot.extraInstallCommands;
  external = if config.boot.loader.external.enable
    then config.boot.loader.external.installHook else null;
  ssh = config.services.openssh.enable;
  version = config.system.stateVersion;
}"""


def evaluated(expression: str) -> object:
    words = ["nix", "--extra-experimental-features", "nix-command", "eval", "--impure", "--json"]
    done = subprocess.run(
        [*words, "--expr", expression], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Image(typing.NamedTuple):
    """What an image has in /etc/nixos, below `folder`, and what its own system says of the disk."""

    configuration: pathlib.Path
    disk: object


def image(name: str, folder: pathlib.Path, module: str) -> Image:
    """Evaluate an image, and copy its files of /etc/nixos to `folder`."""
    # The system's own words on its disk travel in a file of the image.
    telling = f"""{{ config, ... }}: {{
      nixosImage.contents = [{{
        target = "/told";
        source = builtins.toFile "told"
          (builtins.unsafeDiscardStringContext (builtins.toJSON {DISK}));
      }}];
    }}"""
    contents = evaluated(f"""
      let library = import {ROOT}/nix {{ nixpkgs = {NIXPKGS}; buildSystem = "x86_64-linux"; }}; in
      (library.images {{
        system = "x86_64-linux";
        formats = [ "{name}" ];
        modules = [ {HERE}/configuration.nix ({module}) ({telling}) ];
      }})."{name}".spec.contents""")
    listed = typing.cast("list[dict[str, str]]", contents)
    files = {one["target"]: pathlib.Path(one["source"]) for one in listed}
    disk = json.loads(files.pop("/told").read_text())
    for name, source in files.items():
        target = folder / name.removeprefix("/etc/nixos/")
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
    return Image(folder / "configuration.nix", disk)


def rebuilt(configuration: pathlib.Path, more: str) -> dict[str, typing.Any]:
    """Evaluate the system that nixos-rebuild would build, and return what it says of the disk.

    `more` names attributes of the tests' configuration that are added.
    """
    found = evaluated(f"""
      let
        tested = import {HERE}/configuration.nix {{
          lib = import {NIXPKGS}/lib;
          options.system = {{ }};
        }};
        config = (import {NIXPKGS}/nixos {{
          configuration.imports = [ {configuration} {{ inherit (tested) {more}; }} ];
          system = "x86_64-linux";
        }}).config;
      in
      builtins.seq config.system.build.toplevel.drvPath {DISK}""")
    return typing.cast("dict[str, typing.Any]", found)


@pytest.mark.parametrize("name", [name for name, one in FORMATS.items() if one["onDevice"]])
def test_the_device_rebuilds_a_system_for_its_disk(name: str, tmp_path: pathlib.Path) -> None:
    module = "{ lib, ... }: {"
    module += ' system.stateVersion = lib.mkForce "25.11"; nixosImage.label = "mine"; }'
    made = image(name, tmp_path, module)
    # Where no provider lets its customer in, whoever rebuilds must say who may log in.
    found = rebuilt(made.configuration, "nixpkgs users" if FORMATS[name]["login"] else "nixpkgs")
    assert found == made.disk
    assert found["root"]["device"] == "/dev/disk/by-label/mine"
    assert (found["version"], found["ssh"]) == ("25.11", True)
    text = made.configuration.read_text()
    assert all(module.removeprefix("./") in text for module in FORMATS[name]["onDevice"])
