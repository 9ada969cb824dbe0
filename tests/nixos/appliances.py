"""What an appliance.toml can say evaluates: each board, each service with all of its options.

    NIXPKGS=FOLDER pytest tests/nixos/appliances.py

It needs Nix, and a tree of nixpkgs; each test takes some seconds or more.
"""

import json
import os
import pathlib
import subprocess
import typing

import pytest

from orchestrator.ask.request import Appliance, Machine
from orchestrator.blueprint import nix
from orchestrator.blueprint.reader import read
from orchestrator.blueprint.tables import BOARDS, SERVICES
from orchestrator.decide import blueprint_modules
from orchestrator.shared.architectures import this_system
from tests.unit.requests import CALLER

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
NIXPKGS = os.environ.get("NIXPKGS", "")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMj1rPZb5MVRbXBWXbT8RrDvXL7XYyzYQ7gkVJm8w9aX me"

#: The longest that an evaluation may take, in seconds.
SECONDS = 600

#: Services whose packages a tree without Haskell's package set cannot evaluate.
HASKELL = frozenset({"k3s"})

#: A value of each kind of option.
VALUES: dict[str, str] = {
    "string": '"x"',
    "port": "8099",
    "boolean": "true",
    "strings": '["mqtt"]',
    "secret": '"./x"',
}

pytestmark = [
    pytest.mark.skipif(not NIXPKGS, reason="NIXPKGS names no tree to evaluate"),
    pytest.mark.timeout(SECONDS),
    pytest.mark.needs("nix"),
]


def appliance(text: str) -> Appliance:
    """Return the appliance of a file's text, with a user who can log in."""
    text = f'{text}\n[[users]]\nname = "ada"\nkeys = ["{KEY}"]\ngroups = ["wheel"]\n'
    blueprint = read(text, "appliance.toml", lambda line: line == KEY)
    machines = []
    for name, image in blueprint.image.items():
        system = image.system or (BOARDS[image.board].system if image.board else "")
        machines.append(Machine(name, image.names, (system or "x86_64-linux",)))
    path = pathlib.PurePosixPath("/home/me/appliance.toml")
    return Appliance(path, CALLER.home, text, blueprint, tuple(machines))


def derivations(
    files: dict[str, pathlib.Path], found: Appliance, folder: pathlib.Path, *, wifi: bool = False
) -> typing.Any:  # noqa: ANN401
    """Evaluate all machines as a run does; returns machine, system, format: derivation.

    With `wifi` the run has a network's late values.
    """
    inputs = folder / "inputs.json"
    machines = {
        one.name: {
            "configuration": os.fspath(files[one.name]),
            "formats": one.formats,
            "systems": one.systems,
            "systemsGiven": True,
        }
        for one in found.machines
    }
    # The documentation's compiler is missing in some trees.
    others = folder / "others.nix"
    others.write_text(f"{{ imports = [ {HERE}/configuration.nix ]; }}\n")
    inputs.write_text(
        json.dumps(
            {
                "nixpkgs": NIXPKGS,
                "machines": machines,
                "modules": [os.fspath(others)],
                "late": {"hostName": False, "keyUsers": [], "everyDeviceHasKey": False}
                | {"wifi": wifi, "injected": []},
                "buildSystem": this_system(),
            }
        )
    )
    expression = (
        f"builtins.mapAttrs (_: builtins.mapAttrs (_: value: if builtins.isAttrs value then"
        f" builtins.mapAttrs (_: one: one.drvPath or null) value else null))"
        f" (import {ROOT}/nix/build.nix {{ inputs = {inputs}; }})"
    )
    words = ["nix", "--extra-experimental-features", "nix-command", "eval", "--impure", "--json"]
    done = subprocess.run(
        [*words, "--expr", expression], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def written(found: Appliance, folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Write each image's module, as a run does."""
    files = {}
    for one in found.machines:
        text = nix.module(found.blueprint, one.name, path=lambda name: name, keys={})
        files[one.name] = folder / f"{one.name}.nix"
        files[one.name].write_text(text)
    return files


@pytest.mark.parametrize("board", BOARDS)
def test_a_board_evaluates(board: str, tmp_path: pathlib.Path) -> None:
    found = appliance(f'[image.it]\nboard = "{board}"\ndisk-size = "auto"\ntime-zone = "UTC"')
    (machine,) = found.machines
    made = derivations(written(found, tmp_path), found, tmp_path)
    for form in machine.formats:
        assert made["it"][machine.systems[0]][form].endswith(".drv")


def test_every_service_evaluates_with_all_of_its_options(tmp_path: pathlib.Path) -> None:
    lines = ['[image.it]\nboard = "pc"', '[wifi]\nssid = "x"\ncountry = "DE"', "[services]"]
    for name, service in SERVICES.items():
        if name in HASKELL:
            continue
        options = [
            f"{option} = " + (f'"{row.words[-1]}"' if row.type == "choice" else VALUES[row.type])
            # podman and docker exclude each other's command.
            for option, row in service.options.items()
            if option != "docker-command"
        ]
        lines.append(f"{name} = {{ {', '.join(options)} }}" if options else f"{name} = true")
    found = appliance("\n".join(lines))
    made = derivations(written(found, tmp_path), found, tmp_path)
    assert made["it"]["x86_64-linux"]["raw-efi"].endswith(".drv")


def test_an_image_outside_of_the_network_takes_none_of_its_values(tmp_path: pathlib.Path) -> None:
    """Nothing in its configuration joins a Wi-Fi network, which the run's values need."""
    found = appliance(
        '[image.pi]\nboard = "raspberry-pi-4"\n[image.web]\nboard = "qemu"\n'
        '[wifi]\nssid = "x"\nimages = ["pi"]'
    )
    made = derivations(written(found, tmp_path), found, tmp_path, wifi=True)
    for image, system in (("pi", "aarch64-linux"), ("web", "x86_64-linux")):
        assert any(str(path).endswith(".drv") for path in made[image][system].values()), image


def test_ejected_files_make_the_same_derivations(tmp_path: pathlib.Path) -> None:
    found = appliance(
        '[image.pi]\nboard = "raspberry-pi-4"\n[image.web]\nformats = ["qcow-efi", "raw-efi"]\n'
        'disk-size = "8G"\n[services]\nnginx = true\n[[files]]\ntarget = "/etc/a"\ntext = "b"'
    )
    built = derivations(written(found, tmp_path), found, tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    texts = blueprint_modules.ejected(found, CALLER, pathlib.PurePosixPath("/home/me"))
    for name, text in texts.items():
        (out / name).write_text(text)
    files = {one.name: out / f"{one.name}.nix" for one in found.machines}
    assert derivations(files, found, tmp_path) == built
    # Plain NixOS, which has none of the builder's own options, takes the modules, too.
    expression = (
        f"(import {NIXPKGS}/nixos/lib/eval-config.nix {{ system = null; modules = ["
        f' {out}/web.nix {{ nixpkgs.hostPlatform = "x86_64-linux"; }} ]; }})'
        ".config.networking.hostName"
    )
    words = ["nix", "--extra-experimental-features", "nix-command", "eval", "--impure", "--raw"]
    done = subprocess.run(
        [*words, "--expr", expression], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "web"), done.stderr
