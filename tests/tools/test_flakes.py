"""Tests flakes with the real Nix: what they see of themselves, and what a name means in one."""

import dataclasses
import json
import pathlib
import subprocess
import typing

import pytest

from orchestrator.agents.builder.flakes import lock_flake
from orchestrator.agents.builder.nix import Nix
from orchestrator.agents.builder.nix_settings import Settings
from orchestrator.agents.failure import AgentError
from orchestrator.shared.paths import ROOT
from orchestrator.shared.task import Commit
from tests.tools.nix_store import run
from tests.unit.test_nixos import task

#: Options for Nix: a server that does not answer is not asked again.
ONCE = ("--option", "download-attempts", "1")

own_store = pytest.mark.own_store

#: A flake with each kind of input of a folder, and what it tells of itself and of them.
FLAKE = """{
  inputs.far.url = "github:nobody/nothing";
  inputs.below.url = "path:./below";
  inputs.below.inputs.far.follows = "far";
  inputs.plain = { url = "path:./plain"; flake = false; };
  outputs = { self, far, below, plain, unheard }: {
    seen = {
      inherit (self) narHash lastModified lastModifiedDate;
      places = [ self.outPath self.sourceInfo.outPath below.outPath plain.outPath ];
      rev = self.rev or self.dirtyRev or null;
      far = far.text;
      below = below.text;
      plain = builtins.readFile "${plain}/file";
      unheard = { inherit (unheard) text; place = unheard.outPath; };
      file = builtins.readFile ./file;
    };
  };
}
"""


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Make the flake, and other trees for its inputs that cannot be fetched."""
    files = {
        "it/sub/flake.nix": FLAKE,
        "it/sub/file": "mine",
        "it/sub/below/flake.nix": '{ outputs = { self, far }: { text = "below ${far.text}"; }; }',
        "it/sub/plain/file": "plain",
        "far/flake.nix": '{ outputs = _: { text = "far"; }; }',
        "unheard of/x/flake.nix": '{ outputs = _: { text = "unheard"; }; }',
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def restricted(folder: pathlib.Path) -> Nix:
    return Nix(Settings(restricted=True), folder / "log", sources=f"{folder}", options=ONCE)


def overrides(folder: pathlib.Path) -> tuple[tuple[str, str], ...]:
    unheard = str(folder / "unheard of").replace(" ", "%20")
    return ("far", f"path:{folder}/far"), ("unheard", f"path:{unheard}?dir=x")


def seen(folder: pathlib.Path, commit: Commit | None = None) -> dict[str, typing.Any]:
    """Return what the flake's outputs tell, in an evaluation like that of a run."""
    asked = task(
        flake=f"path:{folder}/it?dir=sub",
        overrides=overrides(folder),
        commit=commit,
        sources=f"{folder}",
    )
    nix = restricted(folder)
    flake = lock_flake(asked, nix, [])
    document = folder / "flake.json"
    document.write_text(json.dumps(flake.document))
    words = ["eval", "--impure", "--json", "-I", f"nix={ROOT}/nix", "-I", f"document={document}"]
    call = f"import {ROOT}/nix/locked.nix (builtins.fromJSON (builtins.readFile {document}))"
    said = nix.run([*words, *flake.readable, "--expr", f"({call}).seen"])
    found: dict[str, typing.Any] = json.loads(said)
    return found


@own_store
def test_a_flake_without_lock_or_network_has_the_callers_inputs(folder: pathlib.Path) -> None:
    found = seen(folder)
    assert (found["far"], found["below"], found["plain"]) == ("far", "below far", "plain")
    assert (found["file"], found["unheard"]["text"]) == ("mine", "unheard")
    assert found["unheard"]["place"].endswith("-source/x")
    assert not (folder / "it/sub/flake.lock").exists()


@own_store
def test_a_flake_sees_of_itself_what_nix_shows(folder: pathlib.Path) -> None:
    words = ["eval", "--impure", "--json", "--no-write-lock-file"]
    for name, reference in overrides(folder):
        words += ["--override-input", name, reference]
    nix = Nix(Settings(), folder / "log")
    assert json.loads(nix.run([*words, f"path:{folder}/it?dir=sub#seen"])) == seen(folder)


@own_store
def test_a_flake_of_a_git_repository_knows_its_commit(folder: pathlib.Path) -> None:
    found = seen(folder, Commit("c" * 40, 61, 5, clean=True))
    assert (found["rev"], found["lastModified"]) == ("c" * 40, 61)
    assert seen(folder, Commit("c" * 40, 61, 5, clean=False))["rev"] == f"{'c' * 40}-dirty"


@own_store
def test_an_error_in_a_flake_names_the_callers_file_and_line(folder: pathlib.Path) -> None:
    (folder / "it/sub/flake.nix").write_text("{ outputs = _: { seen = import ./below/x.nix; }; }")
    (folder / "it/sub/below/x.nix").write_text("1 +\n foo\n")
    asked = task(flake=f"path:{folder}/it?dir=sub", sources=f"{folder}")
    nix = restricted(folder)
    flake = lock_flake(asked, nix, [])
    document = folder / "flake.json"
    document.write_text(json.dumps(flake.document))
    call = f"import {ROOT}/nix/locked.nix (builtins.fromJSON (builtins.readFile {document}))"
    words = ["eval", "--impure", "-I", f"nix={ROOT}/nix", "-I", f"document={document}"]
    with pytest.raises(AgentError, match=r"^/it/sub/below/x\.nix:2: undefined variable 'foo'$"):
        dataclasses.replace(nix, copy=flake.copy).run(
            [*words, *flake.readable, "--expr", f"({call}).seen"]
        )


@own_store
def test_an_input_that_cannot_be_fetched_is_named(folder: pathlib.Path) -> None:
    """Before the evaluation, where it has no lock; in it, where it has one."""
    with pytest.raises(AgentError, match=r"^the flake's input far cannot be fetched: ") as caught:
        lock_flake(task(flake=f"path:{folder}/it?dir=sub"), restricted(folder), [])
    assert caught.value.kind == "network"
    assert "--override-input far FOLDER" in caught.value.hint
    lock = {
        "nodes": {
            "root": {"inputs": {"far": "far"}},
            "far": {"locked": {"type": "tarball", "url": "http://127.0.0.1:1/x.tar.gz"}},
        },
        "root": "root",
    }
    given = folder / "given.json"
    given.write_text(json.dumps(lock))
    call = f"""import {ROOT}/nix/locked.nix {{
      lock = builtins.fromJSON (builtins.readFile {given}); folder = "";
      sources.root.outPath = "{run("nix-store", "--add", f"{folder}/far")}";
    }}"""
    nix = Nix(Settings(), folder / "log", options=ONCE)
    with pytest.raises(AgentError, match=r"^the flake's input far cannot be fetched: http://127"):
        nix.run(["eval", "--impure", "--expr", f"({call}).inputs.far.outPath"])


# --- which configuration a name means -------------------------------------------------------------

OUTPUTS = """
let box = name: { config = { }; extendModules = { }; told = name; }; in {
  nixosConfigurations = { web = box "web"; "a.b" = box "a.b"; };
  packages.x86_64-linux = {
    nixosConfigurations.pi = box "packages' pi";
    image = { type = "derivation"; };
  };
  legacyPackages.x86_64-linux.deep.one = box "deep one";
  text = "text";
}"""


def choose(attribute: str, computer: str = "moon", outputs: str = OUTPUTS) -> str:
    """Return the configuration that `attribute` means, and its name."""
    text = f"""
    let found = import {ROOT}/nix/choose.nix {{
      outputs = {outputs}; attribute = {json.dumps(attribute)}; hostName = "{computer}";
      system = "x86_64-linux"; flake = "REF";
    }}; in "${{found.configuration.told}}, ${{found.name}}"
    """
    return run("nix-instantiate", "--eval", "--raw", "--expr", text, NIX_REMOTE="dummy://")


@pytest.mark.needs("nix-instantiate")
@pytest.mark.parametrize(
    ("attribute", "computer", "meant"),
    [
        ("web", "moon", "web, web"),
        ("a.b", "moon", "a.b, a.b"),
        ('nixosConfigurations."a.b"', "moon", "a.b, a.b"),
        ("nixosConfigurations.web", "moon", "web, web"),
        ("pi", "moon", "packages' pi, pi"),
        ("packages.x86_64-linux.nixosConfigurations.pi", "moon", "packages' pi, pi"),
        ("deep.one", "moon", "deep one, one"),
        ("", "web", "web, web"),
        ("", "web.example.org", "web, web"),
        ("", "a.b", "a.b, a.b"),
    ],
)
def test_a_name_means_what_it_means_to_others(attribute: str, computer: str, meant: str) -> None:
    """nixos-rebuild takes the computer's, nixos-generators packages', `nix build` any path."""
    assert choose(attribute, computer) == meant


@pytest.mark.needs("nix-instantiate")
def test_what_a_name_does_not_mean_is_not_evaluated() -> None:
    web = '{ config = { }; extendModules = { }; told = "web"; }'
    outputs = f'{{ nixosConfigurations.web = {web}; packages = throw "evaluated"; }}'
    assert choose("web", outputs=outputs) == "web, web"


@pytest.mark.needs("nix-instantiate")
def test_the_only_configuration_needs_no_name() -> None:
    assert choose("", outputs='{ nixosConfigurations.x = { told = "x"; }; }') == "x, x"


@pytest.mark.needs("nix-instantiate")
@pytest.mark.parametrize(
    ("attribute", "outputs", "told"),
    [
        ("none", OUTPUTS, "flake REF has no nixosConfigurations.none, but: a.b, web"),
        ("", OUTPUTS, "flake REF has no nixosConfigurations.moon, but: a.b, web"),
        ("", "{ }", "flake REF has no nixosConfigurations"),
        ("x", "{ }", "flake REF has no nixosConfigurations.x"),
        ("image", OUTPUTS, "flake REF: packages.x86_64-linux.image is a derivation; images are"),
        ("text", OUTPUTS, "flake REF: text is no NixOS configuration; images are made"),
        (".", OUTPUTS, "flake REF has no nixosConfigurations.., but"),
    ],
)
def test_a_name_that_means_nothing_is_told_in_one_line(
    attribute: str, outputs: str, told: str
) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        choose(attribute, outputs=outputs)
    assert told in caught.value.stderr


@pytest.mark.needs("nix-instantiate")
@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("web", "web"),
        ("", "nixos"),
        ("..", "nixos"),
        ("-o/../x", "o-..-x"),
        ("my pi; rm", "my-pi-rm"),
        ("größe.", "gr-e"),
        ("a" * 300, "a" * 64),
    ],
)
def test_a_name_of_files_has_letters_that_every_file_system_takes(text: str, name: str) -> None:
    words = ["nix-instantiate", "--eval", "--raw", "--expr"]
    letters = json.dumps(text, ensure_ascii=False)
    call = f"import {ROOT}/nix/file-name.nix {letters}"
    assert run(*words, call, NIX_REMOTE="dummy://") == name
