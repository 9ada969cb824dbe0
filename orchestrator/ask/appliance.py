"""The caller's appliance.toml: which one is built, which of its images, which files it names."""

import argparse
import dataclasses
import difflib
import os
import typing
from collections.abc import Callable

from orchestrator.ask.injections import check_others, destination
from orchestrator.ask.nix_arguments import Group
from orchestrator.ask.parser import caller_path
from orchestrator.ask.request import Appliance, Caller, Machine
from orchestrator.ask.ssh_keys import is_public_key
from orchestrator.blueprint.marks import APPLIANCE
from orchestrator.shared import nixos_formats
from orchestrator.shared.errors import UsageError
from orchestrator.shared.image_options import ImageOptions, Injection


def add_appliance_options(what: Group) -> None:
    """Add the options that name an appliance.toml and its images."""
    what.add_argument(
        "--appliance",
        metavar="FILE",
        help=f"file that describes images without Nix (default: ./{APPLIANCE} if it exists)",
    )
    add_image_option(what)


def add_image_option(what: Group) -> None:
    """Add the option that chooses among an appliance.toml's images."""
    what.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="NAME",
        help="only this image of the file (repeatable)",
    )


def read_appliance(found: argparse.Namespace, who: Caller) -> Appliance | None:
    """Return the appliance.toml that an option names, else the working directory's, else None.

    Raises `UsageError` with all faults of the file.
    """
    if found.appliance is None and not who.appliance:
        if found.image:
            raise UsageError(
                f"--image {found.image[0]}: there is no {APPLIANCE} here",
                hint="--appliance FILE names one; ./run.sh init writes one",
            )
        return None
    from orchestrator.blueprint import reader
    from orchestrator.blueprint.tables import BOARDS

    path = caller_path(found.appliance if found.appliance is not None else who.appliance, who)
    blueprint = reader.read(who.appliance_text, path.name, is_public_key)
    for name in found.image:
        if name not in blueprint.image:
            near = difflib.get_close_matches(name, blueprint.image, n=1)
            raise UsageError(
                f"--image {name}: {path.name} has no such image",
                hint=f"did you mean {near[0]}?" if near else f"it has {', '.join(blueprint.image)}",
            )
    machines = []
    for name in dict.fromkeys(found.image or blueprint.image):
        image = blueprint.image[name]
        system = image.system or (BOARDS[image.board].system if image.board else "")
        machines.append(Machine(name, image.names, (system,) if system else ()))
    return Appliance(path, who.home, who.appliance_text, blueprint, tuple(machines))


def check_login(appliance: Appliance, options: ImageOptions) -> None:
    """Raise `UsageError` if nobody could log in to an image, as far as the file alone decides.

    Modules and late values may give a user a key, too: then the evaluation judges.
    """
    blueprint, table = appliance.blueprint, nixos_formats.read_formats()
    if blueprint.modules or options.stamp or options.injections:
        return
    if any(user.keys or user.hashed_password for user in blueprint.users):
        return
    for machine in appliance.machines:
        if any(one.login for one in nixos_formats.chosen(machine.formats, table)):
            raise UsageError(
                f"{appliance.path.name}: nobody could log in to {machine.name}: no user has a key",
                hint='keys = ["~/.ssh/id_ed25519.pub"] in a table [[users]], or --allow-no-login',
            )


def with_late_values(
    options: ImageOptions, appliance: Appliance
) -> tuple[ImageOptions, frozenset[str]]:
    """Add the file's late values to those of the command line, which win.

    Returns also the paths of the caller's files that the file, not the command line, names. Raises
    `UsageError`.
    """
    from orchestrator.blueprint.nix import secrets

    blueprint = appliance.blueprint
    named: list[str] = []

    def path(name: str) -> str:
        named.append(os.fspath(appliance.place(name)))
        return named[-1]

    added: dict[str, typing.Any] = {**_wifi(appliance, options, path)}
    files = [
        (one.source, one.target, one.mode or "600", one.user, one.group)
        for one in blueprint.files
        if one.source is not None
    ]
    files += [(source, target, "400", 0, 0) for source, target in secrets(blueprint)]
    injections = list(options.injections)
    for source, target, mode, user, group in files:
        try:
            place = destination(target, source)
            check_others(place, [one.target for one in injections])
        except ValueError as error:
            raise UsageError(
                f"{appliance.path.name}: {target}: {error}", hint="choose another target"
            ) from error
        injections.append(Injection(path(source), place, int(mode, 8), user, group))
    added["injections"] = tuple(injections)
    return dataclasses.replace(options, **added), frozenset(named)


def check_network(appliance: Appliance, options: ImageOptions) -> None:
    """Raise `UsageError` if an image joins a network that nothing names."""
    found = appliance.blueprint.wifi
    if not found or found.ssid or options.wifi_ssid or options.stamp:
        return
    if any(appliance.blueprint.joins(one.name) for one in appliance.machines):
        raise UsageError(
            f"{appliance.path.name}: wifi: ssid is missing",
            hint="ssid names the network; without, --stamp FILE gives one to each device",
        )


def _wifi(
    appliance: Appliance, options: ImageOptions, path: Callable[[str], str]
) -> dict[str, str]:
    """Return the options of the file's network, if one of the images joins it.

    `path` returns the caller's path of a file that the file names. Raises `UsageError`.
    """
    found = appliance.blueprint.wifi
    if not found or not any(appliance.blueprint.joins(one.name) for one in appliance.machines):
        return {}
    if found.ssid and options.stamp:
        raise UsageError(
            f"--stamp and the ssid in [wifi] of {appliance.path.name} exclude each other",
            hint="leave ssid and password-file out: the list has columns for them",
        )
    if options.wifi_ssid or options.stamp:
        return {}
    if not found.ssid:
        return {}
    password = {"wifi_password_file": path(found.password_file)} if found.password_file else {}
    return {"wifi_ssid": found.ssid, **password}
