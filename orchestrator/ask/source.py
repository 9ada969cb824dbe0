"""Options of `build` that say what is built: a configuration or a flake, and which nixpkgs."""

import argparse
import pathlib
import typing

from orchestrator.ask.nix_arguments import Group
from orchestrator.ask.parser import caller_path
from orchestrator.ask.references import flake_place, place, search_path
from orchestrator.ask.request import Appliance, Caller, Place
from orchestrator.blueprint.marks import PATHS
from orchestrator.shared.errors import UsageError

#: Default configuration, relative to the checkout.
CONFIGURATION = "config/sd-card.nix"


def add_source_options(what: Group, nix: Group) -> None:
    """Add the options of the configuration to the group `what`, those of its inputs to `nix`."""
    what.add_argument(
        "-c", "--configuration", metavar="FILE", help="file with a NixOS configuration"
    )
    what.add_argument(
        "--flake",
        metavar="URI[#NAME]",
        help="a flake's NixOS configuration: one of nixosConfigurations, or an attribute path"
        " (default: the one of this computer's name, or the only one)",
    )
    add_input_options(nix)


def add_input_options(nix: Group) -> None:
    """Add the options of a configuration's inputs to the group `nix`."""
    nix.add_argument(
        "--nixpkgs",
        metavar="PATH|REF",
        help="nixpkgs to use, also for a flake's input of that name (default: NIX_PATH's, else the"
        " pinned one; a flake's own)",
    )
    nix.add_argument(
        "--override-input",
        action="append",
        nargs=2,
        default=[],
        metavar=("NAME", "PATH|REF"),
        help="use another tree for one of the flake's inputs",
    )
    nix.add_argument(
        "-I",
        action="append",
        default=[],
        metavar="NAME=PATH|REF",
        help="entry of Nix' search path; nixos-config=FILE is the configuration",
    )


def names_source(found: argparse.Namespace) -> bool:
    """Whether an option names a configuration or a flake."""
    named = any(text.startswith("nixos-config=") for text in found.I)
    return found.configuration is not None or found.flake is not None or named


def source_arguments(
    found: argparse.Namespace, appliance: Appliance | None, who: Caller
) -> dict[str, typing.Any]:
    """Convert the options of `add_source_options` to fields of a `Build` request.

    `appliance` is the file that describes the images instead of a configuration or a flake. Raises
    `UsageError`.
    """
    searched = [search_path(text, who) for text in found.I]
    if found.flake is not None:
        return _flake(found, searched, who)
    if found.override_input:
        raise UsageError("--override-input needs --flake", hint=found.help_of)
    notes: list[str] = []
    configuration, named_by = (
        (None, "--configuration") if appliance else _configuration(found, searched, who, notes)
    )
    nixpkgs: list[tuple[Place, str]]
    nixpkgs = [(value, "-I nixpkgs") for name, value in searched if name == "nixpkgs"]
    if found.nixpkgs is not None:
        nixpkgs = [(place(found.nixpkgs, who), "--nixpkgs")]
    elif not nixpkgs and appliance and appliance.blueprint.nixpkgs:
        nixpkgs = [(nixpkgs_of(appliance), "--appliance nixpkgs")]
    elif not nixpkgs and who.nixpkgs:
        tree = caller_path(who.nixpkgs, who)
        nixpkgs = [(tree, "NIX_PATH")]
        notes.append(f"nixpkgs: {tree}, because of NIX_PATH (--nixpkgs takes another one)")
    chosen, nixpkgs_by = (nixpkgs or [("", "--nixpkgs")])[0]
    return {
        "configuration": configuration,
        "configuration_by": named_by,
        "flake": None,
        "attribute": "",
        "nixpkgs": chosen,
        "nixpkgs_by": nixpkgs_by,
        "search_path": tuple(one for one in searched if one[0] not in {"nixpkgs", "nixos-config"}),
        "notes": tuple(notes),
    }


def nixpkgs_of(appliance: Appliance) -> Place:
    """Return the nixpkgs of an appliance.toml: a path, a reference, "" for the pinned one."""
    from orchestrator.blueprint.nix import reference

    named = reference(appliance.blueprint)
    return appliance.place(named) if named.startswith(PATHS) else named


def _flake(
    found: argparse.Namespace, searched: list[tuple[str, Place]], who: Caller
) -> dict[str, typing.Any]:
    if found.configuration is not None:
        raise UsageError("--configuration and --flake exclude each other", hint=found.help_of)
    overrides = [(name, flake_place(text, who)) for name, text in found.override_input]
    for name, one in overrides:
        if one.submodules:
            raise UsageError(
                f"--override-input {name}: ?submodules=1 is refused, no submodules are sent",
                hint="name the submodule's own folder",
            )
    if found.nixpkgs is not None and "nixpkgs" in (name for name, _place in overrides):
        raise UsageError(
            "--nixpkgs and --override-input nixpkgs exclude each other", hint="omit one of them"
        )
    reference, _, attribute = found.flake.partition("#")
    flake = flake_place(reference or ".", who)
    return {
        "configuration": None,
        "flake": flake.place,
        "flake_folder": flake.folder,
        "submodules": flake.submodules,
        "attribute": attribute,
        "nixpkgs": place(found.nixpkgs, who) if found.nixpkgs is not None else "",
        "overrides": tuple((name, one.place, one.folder) for name, one in overrides),
        "search_path": tuple(searched),
    }


def _configuration(
    found: argparse.Namespace, searched: list[tuple[str, Place]], who: Caller, notes: list[str]
) -> tuple[pathlib.PurePosixPath, str]:
    """Return the configuration's file, and the option or variable that names it.

    `notes` are told where the environment has decided.
    """
    if found.configuration is not None:
        return caller_path(found.configuration, who), "--configuration"
    for name, value in searched:
        if name == "nixos-config":
            if isinstance(value, str):
                raise UsageError(f"-I {name}={value}: expected a file", hint="name a file")
            return value, "-I nixos-config"
    if who.configuration:
        configuration = caller_path(who.configuration, who)
        notes.append(f"configuration: {configuration}, because of NIXOS_CONFIG")
        return configuration, "NIXOS_CONFIG"
    if "nixos-config=" in who.searched:
        notes.append(
            f"configuration: {CONFIGURATION} of this project, not the nixos-config of NIX_PATH"
            " (-c FILE takes another one)"
        )
    return who.root / CONFIGURATION, "--configuration"
