"""`build`, the default verb of run.sh: make images of a NixOS configuration.

The verb has the options of nixos-generators and others.
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib

from orchestrator.ask.appliance import (
    add_appliance_options,
    check_login,
    check_network,
    read_appliance,
    with_late_values,
)
from orchestrator.ask.builders import add_builders_option, builders_orders, read_builders
from orchestrator.ask.image_arguments import add_image_options, image_options
from orchestrator.ask.nix_arguments import Group, add_nix_options, nix_options
from orchestrator.ask.orders import TERMINAL, Orders, appliance_orders, image_orders
from orchestrator.ask.parser import (
    Parser,
    add_display_options,
    add_run_arguments,
    caller_path,
    run_arguments,
)
from orchestrator.ask.push_arguments import add_push_options, push_options
from orchestrator.ask.request import Appliance, Build, Caller
from orchestrator.ask.source import (
    CONFIGURATION,
    add_source_options,
    names_source,
    source_arguments,
)
from orchestrator.blueprint.marks import APPLIANCE
from orchestrator.shared import nixos_formats
from orchestrator.shared.architectures import SYSTEMS
from orchestrator.shared.errors import UsageError
from orchestrator.shared.filesystems import REFUSED, ROOTS
from orchestrator.shared.image_options import ImageOptions, check_options
from orchestrator.shared.spec import SpecError
from orchestrator.verbs import formats
from orchestrator.verbs.formats import Formats
from orchestrator.verbs.registry import Session, Verb

#: Default format.
FORMAT = "sd-aarch64"

#: Default time limit: emulated builds that no binary cache has may take days.
TIMEOUT_SECONDS = 7 * 86400.0


def _parser() -> Parser:
    parser = Parser(
        "build",
        "Build NixOS images, for this computer's CPU or another one.",
        f"Without options: {APPLIANCE} of this folder if there is one, else {CONFIGURATION} of this"
        f"\nproject, for an SD card ({FORMAT})."
        "\nThe word `build` may be omitted. Other verbs: ./run.sh help",
        examples=(
            ("", "appliance.toml, or config/sd-card.nix"),
            ("--image kiosk --dry-run", "what an image of it would cost"),
            ("-c configuration.nix -f qcow-efi", "a configuration, for a virtual machine"),
            ("--flake .#server -f amazon", "a configuration of a flake, for a cloud"),
            ("-c pi.nix --debug-shell", "open a shell in a derivation that fails"),
        ),
        often=(
            *("--appliance", "--image", "--configuration", "--flake", "--format", "--system"),
            *("--nixpkgs", "--disk-size", "--compress", "--out", "--dry-run", "--boot"),
            *("--quiet", "--verbose"),
        ),
    )
    what = parser.add_argument_group("what is built")
    nix = parser.add_argument_group("Nix")
    add_appliance_options(what)
    add_source_options(what, nix)
    add_image_names(what)
    what.add_argument("--list", action="store_true", help="print the names of all formats")
    add_nix_options(nix)
    then = parser.add_argument_group("the run")
    then.add_argument("--boot", action="store_true", help="check that the first image boots")
    then.add_argument(
        "--run",
        dest="boot_on_terminal",
        action="store_true",
        help="boot the first image on this terminal afterwards",
    )
    add_run_arguments(parser, timeout=TIMEOUT_SECONDS)
    add_builders_option(parser)
    add_image_options(parser)
    add_push_options(parser)
    add_display_options(parser)
    return parser


def add_image_names(what: Group) -> None:
    """Add the options that say which images of a configuration are wanted."""
    what.add_argument(
        "-f",
        "--format",
        action="append",
        default=[],
        metavar="NAME",
        help="image format (./run.sh formats)",
    )
    what.add_argument("--format-path", action="append", default=[], metavar="FILE")
    what.add_argument(
        "--system",
        action="append",
        default=[],
        choices=sorted(SYSTEMS),
        help="target system (default: the host's if the format supports it)",
    )
    what.add_argument("--root-fs", choices=ROOTS)
    what.add_argument(
        "--allow-no-login", action="store_true", help="allow an image that nobody can log in to"
    )
    what.add_argument(
        "--ignore-hardware",
        action="store_true",
        help="leave out the disks of hardware-configuration.nix",
    )


def _request(found: argparse.Namespace, who: Caller) -> Build | Formats:
    """Convert parsed arguments; `--list` becomes a request of `formats`. Raises `UsageError`."""
    if found.list:
        return Formats((), brief=True)
    if found.root_fs in REFUSED:
        raise UsageError(f"--root-fs {found.root_fs}: {REFUSED[found.root_fs]}", hint=found.help_of)
    format_paths = tuple(caller_path(path, who) for path in found.format_path)
    image, appliance, written = image_options(found, who), _appliance(found, who), frozenset[str]()
    if appliance:
        check_network(appliance, image)
        image, written = with_late_values(image, appliance)
        if not found.allow_no_login:
            check_login(appliance, image)
        chosen = tuple(dict.fromkeys(one for each in appliance.machines for one in each.formats))
    else:
        chosen = _formats(found.format, tuple(found.system), bool(format_paths))
    _check_options(found, chosen, format_paths, image)
    if found.boot or found.boot_on_terminal:
        _check_bootable((*chosen, *(path.stem for path in format_paths))[0])
    return Build(
        boot=found.boot,
        image=image,
        appliance=appliance,
        written=written,
        builders=read_builders(found.builders, appliance, who),
        formats=chosen,
        format_paths=format_paths,
        systems=tuple(dict.fromkeys(found.system)),
        root_fs=found.root_fs,
        nix_options=nix_options(found, who),
        allow_no_login=found.allow_no_login,
        ignore_hardware=found.ignore_hardware,
        boot_on_terminal=found.boot_on_terminal,
        **source_arguments(found, appliance, who),
        push=push_options(found, who),
        **run_arguments(found, who),
    )


def _appliance(found: argparse.Namespace, who: Caller) -> Appliance | None:
    """Return the appliance.toml to build, with the formats and systems of the command line.

    Raises `UsageError`.
    """
    if names_source(found):
        for option, value in (("--appliance", found.appliance), ("--image", found.image)):
            if value:
                raise UsageError(
                    f"{option} excludes --configuration and --flake", hint=found.help_of
                )
        return None
    appliance = read_appliance(found, who)
    if not appliance:
        return None
    if found.format_path:
        raise UsageError(
            f"--format-path {found.format_path[0]}: not with {appliance.path.name}",
            hint="name the file in its `modules`, or use -c or --flake",
        )
    machines = []
    for one in appliance.machines:
        systems = tuple(dict.fromkeys(found.system)) or one.systems
        names = found.format or list(one.formats)
        machines.append(
            dataclasses.replace(one, formats=_formats(names, systems, False), systems=systems)
        )
    return dataclasses.replace(appliance, machines=tuple(machines))


def _formats(names: list[str], systems: tuple[str, ...], has_paths: bool) -> tuple[str, ...]:
    """Check the given formats and return them without duplicates; raises `UsageError`."""
    if not names and has_paths:
        return ()
    table = nixos_formats.read_formats()
    wanted: dict[str, str] = {}
    for name in names or [FORMAT]:
        (one,) = nixos_formats.chosen((name,), table)
        wanted.setdefault(one.name, name)  # an alias may name the same format again
        for system in systems:
            one.check(system)
    return tuple(wanted.values())


def _check_options(
    found: argparse.Namespace,
    names: tuple[str, ...],
    format_paths: tuple[pathlib.PurePosixPath, ...],
    image: ImageOptions,
) -> None:
    """Raise `UsageError` for an image option that one of the formats has no use for."""
    flags = (*(["--root-fs"] if found.root_fs else []), *image.given)
    if flags and format_paths:
        raise UsageError(
            f"{flags[0]}: --format-path {format_paths[0].name} makes its image itself, without"
            " this option",
            hint="write it into the configuration",
        )
    table = nixos_formats.read_formats()
    for name in names:
        (one,) = nixos_formats.chosen((name,), table)
        if flags and one.assembler != "native":
            raise UsageError(
                f"{flags[0]}: --format {name} is made by {nixos_formats.ASSEMBLERS[one.assembler]},"
                " which lacks this option",
                hint="./run.sh formats lists the formats that this appliance assembles",
            )
        if image.partition_table and (one.card != (image.partition_table == "sd-card")):
            raise UsageError(
                f"--partition-table {image.partition_table}: not with --format {name}",
                hint="SD cards have sd-card, and no other format has it",
            )
        try:
            check_options(
                image,
                table="sd-card" if one.card else image.partition_table,
                disk_format=image.disk_format or one.diskFormat,
                root_fs=found.root_fs,
            )
        except SpecError as error:
            raise UsageError(f"--format {name}: {error}", hint=found.help_of) from error


def _check_bootable(name: str) -> None:
    """Raise `UsageError` if the format `name` is not bootable."""
    table = nixos_formats.read_formats()
    if not any(name in (one.name, *one.aliases) and one.firmware for one in table):
        raise UsageError(
            f"--format {name}: this format is not bootable", hint="omit --boot and --run"
        )


def _orders(request: Build | Formats) -> Orders:
    if isinstance(request, Formats):
        return [TERMINAL]
    orders = image_orders(request)
    # A folder that is sent may have the output folder in it.
    orders += [["images", "--out", os.fspath(request.out)]] if request.trees else []
    orders += source_orders(request)
    orders += [*appliance_orders(request), *builders_orders(request)]
    return orders + ([["then_boot"]] if request.boot_on_terminal else [])


def source_orders(request: Build) -> Orders:
    """Return the orders to send the folders of a configuration, and files of Nix' options."""
    orders: Orders = []
    for option, path in request.trees:
        whole = option == request.flake_by and path == request.flake and request.submodules
        orders.append(["send_modules" if whole else "send_tree", option, os.fspath(path)])
    return orders + [["send", option, path] for option, path in request.nix_options.files.items()]


def _work(request: Build | Formats, session: Session) -> int:
    if isinstance(request, Formats):
        return formats.work(request, session)
    from orchestrator.run.make_images import make_images
    from orchestrator.shared.progress import make_progress

    who = session.who
    with contextlib.closing(make_progress(request.display, who.terminal)) as progress:
        if session.sent:  # sent folders may be large: show progress
            with progress.stage("receive", "unpacking files from the caller's host"):
                session.receive()
        if request.appliance:
            named = ", ".join(machine.name for machine in request.appliance.machines)
            progress.say(f"building {named} of {request.appliance.path}")
        for note in request.notes:
            progress.say(note)
        make_images(request, who, progress, session.stream, session.began)
    return 0


VERB = Verb(
    group="make images",
    shown=(("[build] [OPTIONS]", "build NixOS images: appliance.toml, -c FILE or --flake REF"),),
    parser=_parser,
    request=_request,
    work=_work,
    orders=_orders,
    takes_files=True,
)
