"""Writes the NixOS modules of an appliance.toml, once run.sh has sent the files that it names."""

import os
import pathlib

from orchestrator.ask.github import keys_of
from orchestrator.ask.request import Appliance, Build, Caller, Demo
from orchestrator.ask.source import nixpkgs_of
from orchestrator.ask.ssh_keys import public_keys, ssh_keys
from orchestrator.ask.uploads import input_folder, received
from orchestrator.blueprint.marks import GITHUB
from orchestrator.decide.plan import machine_systems
from orchestrator.shared.architectures import this_system
from orchestrator.shared.run import APPLIANCE_TEXT
from orchestrator.shared.task import DemoTask, Machine


def machines(request: Build, who: Caller) -> tuple[Machine, ...]:
    """Write a module for each image that is built; returns them for the builder's task."""
    appliance = request.appliance
    if not appliance:
        return ()
    from orchestrator.blueprint import nix

    # Nix' messages name the caller's files by their paths there; this one stands for the file.
    folder = input_folder(who) / appliance.path.name
    folder.mkdir(exist_ok=True)
    (folder / APPLIANCE_TEXT).write_text(appliance.text)
    lines = keys(appliance, who)
    found = []
    for machine in appliance.machines:
        text = nix.module(
            appliance.blueprint,
            machine.name,
            path=lambda name: nix.quoted_path(os.fspath(received(who, appliance.place(name)))),
            keys=lines,
        )
        place = folder / f"{machine.name}.nix"
        place.write_text(text)
        found.append(
            Machine(
                name=machine.name,
                configuration=os.fspath(place),
                formats=machine.formats,
                systems=machine_systems(machine.formats, machine.systems, this_system()),
                systems_given=bool(machine.systems),
            )
        )
    return tuple(found)


def demo_keys(request: Demo, who: Caller) -> tuple[str, ...]:
    """Return the keys of the demo's user: the appliance.toml's, if there is one."""
    appliance = request.appliance
    if request.ssh_key or not appliance or not appliance.blueprint.users:
        return ssh_keys(request, who)
    lines = keys(appliance, who)
    named = [key for user in appliance.blueprint.users for key in user.keys]
    return tuple(dict.fromkeys(line for key in named for line in lines.get(key, (key,))))


def demo_user(request: Demo) -> str:
    """Return the name of the demo's user: of the appliance.toml's users the first but root."""
    users = request.appliance.blueprint.users if request.appliance else ()
    return next((user.name for user in users if user.name != "root"), DemoTask.user)


def keys(appliance: Appliance, who: Caller) -> dict[str, tuple[str, ...]]:
    """Return the lines of each file of public keys that the file names, and of GitHub's users.

    Raises `UsageError`.
    """
    from orchestrator.blueprint import nix

    found = {}
    for name in nix.key_sources(appliance.blueprint):
        if name.startswith(GITHUB):
            place = keys_of(who, name.removeprefix(GITHUB))
        else:
            place = received(who, appliance.place(name))
        text = place.read_text("utf-8-sig", errors="replace")
        found[name] = public_keys(text, f"{appliance.path.name}: {name}")
    return found


def ejected(appliance: Appliance, who: Caller, out: pathlib.PurePosixPath) -> dict[str, str]:
    """Return the files of `eject` for the caller's folder `out`, by name: text."""
    from orchestrator.blueprint import nix

    lines = keys(appliance, who)

    def relative(place: pathlib.PurePosixPath) -> str:
        path = os.path.relpath(place, out)
        return os.fspath(place) if path.split("/")[0] == ".." else f"./{path}"

    def module_path(name: str) -> str:
        return nix.quoted_path(relative(appliance.place(name)))

    machines = appliance.machines
    files = {
        f"{one.name}.nix": nix.module(appliance.blueprint, one.name, path=module_path, keys=lines)
        for one in machines
    }
    systems = {
        one.name: machine_systems(one.formats, one.systems, this_system())[0] for one in machines
    }
    nixpkgs = nixpkgs_of(appliance)
    named = nixpkgs if isinstance(nixpkgs, str) else relative(nixpkgs)
    return {"flake.nix": nix.flake(systems, named), **files}
