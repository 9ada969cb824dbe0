"""Flakes with a real nixpkgs: where their inputs come from, and which configuration is built.

    NIXPKGS=FOLDER pytest tests/nixos/flakes.py

It needs Nix, and a tree of nixpkgs, which Nix copies into its store: a test takes half a minute.
Nothing is built, and no network is needed.
"""

import dataclasses
import json
import os
import pathlib
import re
import urllib.parse

import pytest

from orchestrator.agents.builder import nix_settings, nixos
from orchestrator.agents.builder.flakes import lock_flake
from orchestrator.agents.builder.nix import Nix
from orchestrator.agents.builder.nix_settings import Settings
from orchestrator.agents.failure import AgentError
from orchestrator.shared.nix_options import NixOptions
from orchestrator.shared.task import Commit, NixosTask
from tests.unit.test_nixos import task

HERE = pathlib.Path(__file__).parent
NIXPKGS = os.environ.get("NIXPKGS", "")

#: The longest that a test may take, in seconds.
SECONDS = 600

pytestmark = [
    pytest.mark.skipif(not NIXPKGS, reason="NIXPKGS names no tree to evaluate"),
    pytest.mark.needs("nix"),
    pytest.mark.timeout(SECONDS),
]

#: A flake whose inputs are {inputs}; the host name of `pi` is {name}, its modules have {arguments}.
FLAKE = """{{
  {inputs}
  outputs = {{ self, nixpkgs, ... }}@inputs: {{
    nixosConfigurations.pi = nixpkgs.lib.nixosSystem {{
      modules = [ ./configuration.nix ({{ {arguments} ... }}: {{
        nixpkgs.hostPlatform = "aarch64-linux";
        networking.hostName = {name};
      }}) ];
    }};
    packages.aarch64-linux = {{
      hello = nixpkgs.legacyPackages.aarch64-linux.hello;
      nixosConfigurations.other = self.nixosConfigurations.pi;
    }};
  }};
}}
"""


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Make a folder for a flake; Nix has the settings of a run, and no network."""
    monkeypatch.setattr(nix_settings, "preloaded", lambda _library: "")
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    text = (HERE / "configuration.nix").read_text()
    (tmp_path / "configuration.nix").write_text(text)
    return tmp_path


def flake(folder: pathlib.Path, name: str, inputs: str = "", arguments: str = "") -> str:
    (folder / "flake.nix").write_text(FLAKE.format(inputs=inputs, name=name, arguments=arguments))
    return f"path:{urllib.parse.quote(os.fspath(folder))}"


def local(**changes: object) -> NixosTask:
    """Return a task of the flake with the local nixpkgs."""
    overrides = {"overrides": (("nixpkgs", f"path:{NIXPKGS}"),)}
    return task(
        **{"configuration": "", "formats": ("raw-efi",), "disk": {}, **overrides, **changes}
    )


def image(asked: NixosTask, folder: pathlib.Path) -> str:
    """Evaluate the task's image as a run does; returns the beginning of its name."""
    settings = Settings(restricted=True)
    options = ("--option", "download-attempts", "1", *nixos.build_options(asked))
    nix = Nix(settings, folder / "log", sources=os.fspath(folder), options=options)
    inputs = folder / "inputs.json"
    # What was sent is a folder that has the flake and nixpkgs.
    sent = os.path.commonpath([os.path.realpath(NIXPKGS), folder.resolve()])
    asked = dataclasses.replace(asked, sources=sent)
    readable = nixos.readable(asked, inputs)
    found = lock_flake(asked, nix, readable)
    inputs.write_text(json.dumps(nixos.inputs_of(asked, nixos.Nixpkgs(None), found)))
    words = ["eval", "--raw", "--file", os.fspath(nixos.EXPRESSION), "--arg", "inputs"]
    words += [os.fspath(inputs), *readable, *found.readable]
    name = nix.run([*words, "aarch64-linux.raw-efi.name"])
    assert re.search(r"-raw-efi-aarch64-linux-\d", name)
    return name.partition("-raw-efi-")[0]


def test_a_local_nixpkgs_takes_the_place_of_the_flakes(folder: pathlib.Path) -> None:
    """Neither GitHub nor the flake registry is asked; without a name the only one is built."""
    reference = flake(folder, '""', 'inputs.nixpkgs.url = "github:nobody/nothing/main";')
    assert image(local(flake=reference, computer="moon"), folder) == "pi"


def test_special_arguments_reach_a_configuration_that_itself_needs_them(
    folder: pathlib.Path,
) -> None:
    reference = flake(folder, '"${planet}-${self.shortRev}"', arguments="planet,")
    options = NixOptions(arguments=(("planet", "venus"),))
    commit = Commit("c" * 40, 61, 5, clean=True)
    asked = local(flake=reference, attribute="other", nix_options=options, commit=commit)
    assert image(asked, folder) == "venus-ccccccc"


def test_a_derivation_is_refused_in_a_sentence(folder: pathlib.Path) -> None:
    told = r"packages\.aarch64-linux\.hello is a derivation; .*, which are: pi$"
    with pytest.raises(AgentError, match=told):
        image(local(flake=flake(folder, '""'), attribute="hello"), folder)
