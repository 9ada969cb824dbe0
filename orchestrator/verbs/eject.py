"""`eject`: write an appliance.toml as plain Nix: a flake, and a module for each image."""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import shlex

from orchestrator.ask import uploads
from orchestrator.ask.appliance import add_appliance_options, read_appliance, with_late_values
from orchestrator.ask.orders import Orders
from orchestrator.ask.parser import Parser, add_display_options, caller_path, display
from orchestrator.ask.request import Appliance, Caller
from orchestrator.ask.source import nixpkgs_of
from orchestrator.shared.display import Display
from orchestrator.shared.errors import UsageError
from orchestrator.shared.image_options import ImageOptions
from orchestrator.verbs.registry import Session, Verb


@dataclasses.dataclass(frozen=True)
class Eject:
    """Request: write `appliance` as plain Nix to the folder `out`; `late` has its late values."""

    appliance: Appliance
    late: ImageOptions
    out: pathlib.PurePosixPath
    display: Display


def _parser() -> Parser:
    parser = Parser(
        "eject",
        "Write an appliance.toml as plain Nix: flake.nix, and a NixOS module for each image.\n"
        "It builds the same, and is yours to change. No file is replaced.",
        examples=(
            ("eject", "beside the appliance.toml of this folder"),
            ("eject --appliance pi/appliance.toml -o pi-nix", "into another folder"),
        ),
    )
    add_appliance_options(parser)
    parser.add_argument(
        "-o", "--out", metavar="DIR", help="where the files go (default: beside the appliance.toml)"
    )
    add_display_options(parser)
    return parser


def _request(found: argparse.Namespace, who: Caller) -> Eject:
    appliance = read_appliance(found, who)
    if not appliance:
        raise UsageError(
            "there is no appliance.toml here",
            hint="--appliance FILE names one; ./run.sh init writes one",
        )
    late, _written = with_late_values(ImageOptions(), appliance)
    if "flake" in [machine.name.lower() for machine in appliance.machines]:
        raise UsageError(
            "the module of the image flake would be flake.nix, which is the flake's file",
            hint="give the image another name",
        )
    out = caller_path(found.out, who) if found.out is not None else appliance.path.parent
    return Eject(appliance, late, out, display(found))


def _orders(request: Eject) -> Orders:
    keys = request.appliance.keys.values()
    return [
        ["out_dir", "--out", os.fspath(request.out)],
        *(["send", "--appliance", os.fspath(path)] for path in keys),
    ]


def _work(request: Eject, session: Session) -> int:
    from orchestrator.ask import github
    from orchestrator.blueprint.nix import key_sources
    from orchestrator.decide.blueprint_modules import ejected
    from orchestrator.deliver.names import check_absent
    from orchestrator.deliver.stream import Delivery
    from orchestrator.run import github_keys
    from orchestrator.run.runs import run_workspace
    from orchestrator.shared.progress import make_progress

    who, out = session.who, request.out
    with (
        contextlib.closing(make_progress(request.display, who.terminal)) as progress,
        run_workspace(who, {}) as (engine, workspace),
    ):
        try:
            named = github.users_of(key_sources(request.appliance.blueprint))
            github_keys.fetch(engine, workspace, named, request.appliance, who, progress)
            progress.end()
        finally:
            engine.down()
        new = workspace.own / "new"
        new.mkdir()
        outgoing = Delivery(new, session.stream, sparse=False)
        files = ejected(request.appliance, who, out)
        check_absent(files, out, uploads.kept(who))
        for name, text in files.items():
            (new / name).write_text(text)
            outgoing.send(name)
        outgoing.finish()
        progress.say(f"plain Nix is in {out}; this builds the same:")
        for words in commands(request, who):
            progress.say(f"  {shlex.join(words)}")
    return 0


def commands(request: Eject, who: Caller) -> list[list[str]]:
    """Return the words of a command for each image, which builds it from its module."""
    nixpkgs = os.fspath(nixpkgs_of(request.appliance))
    return [
        [
            *(who.program, "build", "-c", os.fspath(request.out / f"{machine.name}.nix")),
            *(word for name in machine.formats for word in ("-f", name)),
            *(word for name in machine.systems for word in ("--system", name)),
            *(["--nixpkgs", nixpkgs] if nixpkgs else []),
            *_late_words(request.late, wifi=request.appliance.blueprint.joins(machine.name)),
        ]
        for machine in request.appliance.machines
    ]


def _late_words(late: ImageOptions, *, wifi: bool) -> list[str]:
    """Return the options that give these late values, those of a network only with `wifi`."""
    words = ["--wifi-ssid", late.wifi_ssid] if wifi and late.wifi_ssid else []
    if wifi and late.wifi_password_file:
        words += ["--wifi-password-file", late.wifi_password_file]
    for one in late.injections:
        source, target = (text.replace(":", "::") for text in (one.source, one.target))
        owner = f":{one.user}:{one.group}" if one.user or one.group else ""
        words += ["--inject", f"{source}:{target}:{one.mode:o}{owner}"]
    return words


VERB = Verb(
    group="make images",
    shown=(("eject", "write an appliance.toml as plain Nix"),),
    parser=_parser,
    request=_request,
    work=_work,
    orders=_orders,
)
