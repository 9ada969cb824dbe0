"""`kit`: carry all that a machine without a network needs there in one archive.

run.sh reads a kit by itself before it has an image (caller/kit.sh): it checks everything, and loads
the images. Then this verb's work puts the store paths into the store.
"""

import argparse
import contextlib
import dataclasses
import functools
import os
import pathlib
import re
import shlex
import sys
import typing

from orchestrator.ask.appliance import add_image_option
from orchestrator.ask.builders import builders_orders
from orchestrator.ask.nix_arguments import Group, add_nix_options
from orchestrator.ask.orders import Orders, appliance_orders, image_orders
from orchestrator.ask.parser import Parser, add_display_options, caller_path, display
from orchestrator.ask.request import Build, Caller
from orchestrator.ask.source import add_input_options
from orchestrator.shared.architectures import DEBIAN_ARCHITECTURES
from orchestrator.shared.constants import MIB
from orchestrator.shared.display import Display
from orchestrator.shared.errors import UsageError
from orchestrator.shared.kit import SOURCES
from orchestrator.shared.spec import is_file_name
from orchestrator.verbs import build
from orchestrator.verbs.registry import Session, Verb

if typing.TYPE_CHECKING:
    from orchestrator.docker.engine import Engine
    from orchestrator.docker.workspace import Workspace
    from orchestrator.run.kit import KitWork
    from orchestrator.shared.progress import Progress

Action = typing.Literal["export", "import"]

#: Word of --with for the image of the test suite.
TESTS = "tests"

#: Words of --with that are files, folders and references of flakes: no name of an image is one.
CONFIGURATION = re.compile(r"[/#:]|\.(nix|toml)$|^\.+$")

#: Option of a build for each kind of configuration, by the end of its name; others are flakes, as
#: is what has a `#`.
KINDS = {".nix": "configuration", ".toml": "appliance"}

EXAMPLES = (
    ("kit export appliance.kit", "what the demo needs, for another CPU"),
    ("kit export pi.kit --with pi-sd-aarch64", "and what this image needs"),
    ("kit export pi.kit --with pi.nix -f sd-aarch64", "and all that builds this configuration"),
    ("kit export appliance.kit --sign-key key", "signed with an SSH key"),
    ("kit import appliance.kit", "on a machine without a network"),
    ("kit import appliance.kit --public-key key.pub", "only if this key has signed it"),
)


@dataclasses.dataclass(frozen=True)
class Kit:
    """What `kit` is asked for: `file` is on the caller's host; `systems` are those of demos.

    `results` are names of recent results, `tests` adds the image of the test suite. `build` is a
    configuration's, whose closure and sources are wanted. `sign_key` and `public_key` are on the
    caller's host.
    """

    action: Action
    file: pathlib.PurePosixPath
    systems: tuple[str, ...]
    results: tuple[str, ...]
    tests: bool
    build: Build | None
    sign_key: pathlib.PurePosixPath | None
    public_key: pathlib.PurePosixPath | None
    force: bool
    display: Display


def _parser() -> Parser:
    parser = Parser(
        "kit",
        "Put our container images, the base image and what the demo is made of into one archive"
        "\n(export), and load it where there is no network (import). Then demo, builds of what the"
        "\nkit has, and with `--with tests` test tests/unit run there, from the same checkout.",
        examples=EXAMPLES,
        often=(
            *("--with", "--sign-key", "--force", "--image", "--format", "--system", "--nixpkgs"),
            *("--public-key", "--quiet", "--verbose"),
        ),
    )
    parser.add_argument("action", choices=typing.get_args(Action))
    parser.add_argument("file", metavar="FILE", help="the kit")
    export = parser.add_argument_group("export")
    export.add_argument(
        "--with",
        dest="more",
        action="append",
        default=[],
        metavar="SYSTEM|NAME|CONFIGURATION|tests",
        help="what the demo needs for this system (default: the one foreign to this host); what a"
        " recent result, which ./run.sh store names, is and was built of; a configuration (a .nix"
        " file, an appliance.toml, the folder of a flake with #NAME): it is built, and goes with"
        " its sources and nixpkgs; the image of the test suite; repeatable",
    )
    export.add_argument("--sign-key", metavar="FILE", help="sign the kit with this private SSH key")
    export.add_argument("--force", action="store_true", help="replace FILE")
    _add_build_options(parser.add_argument_group("export of a configuration"))
    taken = parser.add_argument_group("import")
    taken.add_argument(
        "--public-key", metavar="FILE", help="refuse the kit unless this SSH key has signed it"
    )
    add_display_options(parser)
    return parser


def _add_build_options(group: Group) -> None:
    """Add the options of `build` that say what a configuration's images are made of."""
    add_image_option(group)
    build.add_image_names(group)
    add_input_options(group)
    add_nix_options(group)


def _build_options() -> dict[str, str]:
    """Return the options of `_add_build_options` by their names in a namespace."""
    parser = Parser("kit", "")
    _add_build_options(parser)
    return {one.dest: one.option_strings[-1] for one in parser._actions if one.dest != "help"}


def _request(found: argparse.Namespace, who: Caller) -> Kit:
    """Convert parsed arguments; raises `UsageError` for an option of the other action."""
    options = {
        "export": {
            "--with": found.more,
            "--sign-key": found.sign_key,
            "--force": found.force,
            **{option: vars(found)[name] for name, option in _build_options().items()},
        },
        "import": {"--public-key": found.public_key},
    }
    for action, given in options.items():
        for flag, value in given.items():
            if value and action != found.action:
                raise UsageError(f"{flag} is for kit {action}", hint=found.help_of)
    asked = _build(found, who)
    file = caller_path(found.file, who)
    if not is_file_name(file.name):
        raise UsageError(f"{found.file}: no name for a kit", hint="./run.sh kit export NAME.kit")
    keys = (found.sign_key, found.public_key)
    sign_key, public_key = (None if key is None else caller_path(key, who) for key in keys)
    return Kit(
        found.action,
        file,
        systems=tuple(one for one in found.more if one in DEBIAN_ARCHITECTURES),
        results=tuple(
            one
            for one in found.more
            if one not in {*DEBIAN_ARCHITECTURES, TESTS} and not CONFIGURATION.search(one)
        ),
        tests=TESTS in found.more,
        build=asked,
        sign_key=sign_key,
        public_key=public_key,
        force=found.force,
        display=display(found),
    )


def _build(found: argparse.Namespace, who: Caller) -> Build | None:
    """Return the build of the configuration that --with names, if it names one.

    Raises `UsageError`.
    """
    from orchestrator.deliver import sources

    options = _build_options()
    given = {name: value for name, value in vars(found).items() if name in options and value}
    named = [one for one in found.more if CONFIGURATION.search(one)]
    if not named:
        for name in given:
            raise UsageError(
                f"{options[name]}: only for a configuration", hint="--with FILE names one"
            )
        return None
    if len(named) > 1:
        raise UsageError(
            f"--with {named[1]}: a kit has one configuration, {named[0]}",
            hint="an appliance.toml or a flake may describe several images; or make two kits",
        )
    suffix = "" if "#" in named[0] else pathlib.PurePosixPath(named[0]).suffix
    kind = KINDS.get(suffix, "flake")
    # No file of the caller's is replaced: no image is delivered.
    asked = build.VERB.parser().parse_args(["--yes", "--force"])
    for name, value in {**given, kind: named[0], "help_of": found.help_of}.items():
        setattr(asked, name, value)
    request = typing.cast("Build", build.VERB.request(asked, who))
    request = dataclasses.replace(
        request, display=display(found), configuration_by="--with", flake_by="--with"
    )
    sources.check(request)
    return request


def _orders(request: Kit) -> Orders:
    if request.action == "import":
        return [["kit"]]
    orders: Orders = [["force"]] if request.force else []
    orders.append(["out_file", "kit", os.fspath(request.file)])
    if request.sign_key:
        orders.append(["send", "--sign-key", os.fspath(request.sign_key)])
    if request.build:
        orders += [one for one in image_orders(request.build) if one[0] == "send"]
        orders += [*build.source_orders(request.build), *appliance_orders(request.build)]
        orders += builders_orders(request.build)
    return orders


def _work(request: Kit, session: Session) -> int:
    from orchestrator.run.kit import KitWork, restore
    from orchestrator.run.runs import run_workspace
    from orchestrator.shared.progress import make_progress

    who = session.who
    if request.action == "export" and session.sent:
        session.receive()
    with contextlib.closing(make_progress(request.display, who.terminal)) as progress:
        if request.action == "export":
            _check(request, who)
        if request.build:
            _export_build(request, request.build, session, progress)
            return 0
        with run_workspace(who, {}) as (engine, workspace):
            work = KitWork(who, engine, workspace, progress)
            if request.action == "import":
                restore(work, sys.stdin.buffer)
                progress.end()
                progress.say(f"{request.file} is imported: ./run.sh demo needs no network now")
            else:
                _export(request, session, work)
            engine.down()
    return 0


def _check(request: Kit, who: Caller) -> None:
    """Take the key that signs the kit; raises `UsageError` before anything is made."""
    from orchestrator.ask.uploads import kept
    from orchestrator.deliver import signing

    if request.file.name in kept(who):
        raise UsageError(f"{request.file} exists", hint="--force replaces it")
    if request.sign_key:
        signing.take_key(who, request.sign_key, "--sign-key")


def unpacking(name: str) -> str:
    """Return the command that unpacks the sources of the kit `name`."""
    return f"tar -xOf {shlex.quote(name)} {SOURCES} | tar -xf -"


def _export_build(request: Kit, asked: Build, session: Session, progress: "Progress") -> None:
    """Build what the configuration's images are made of, then make the kit and send it."""
    from orchestrator.deliver import sources
    from orchestrator.run.kit import KitWork
    from orchestrator.run.make_images import Closure, make_images

    who = session.who
    for note in asked.notes:
        progress.say(note)
    commands: list[str] = []

    def before(workspace: "Workspace") -> None:
        with progress.stage("kit", "packing the sources"):
            place, scratch = workspace.own / SOURCES, workspace.own / "beside"
            commands.extend(sources.write(asked, who, place, scratch))

    def after(
        engine: "Engine", workspace: "Workspace", built: tuple[str, ...], trees: tuple[str, ...]
    ) -> None:
        work = KitWork(who, engine, workspace, progress)
        whole = dataclasses.replace(request, results=(*request.results, *dict.fromkeys(built)))
        _export(whole, session, work, trees)
        progress.say(f"there, after kit import: {unpacking(request.file.name)}")
        for line in commands:
            progress.say(f"and then: {line}")

    make_images(asked, who, progress, session.stream, session.began, Closure(before, after))


def _export(request: Kit, session: Session, work: "KitWork", paths: tuple[str, ...] = ()) -> None:
    """Make the kit, with store `paths`, and send it to run.sh."""
    from orchestrator.deliver import signing
    from orchestrator.deliver.stream import Delivery
    from orchestrator.run.kit import SERVICES, export
    from orchestrator.shared.architectures import foreign_system, this_system
    from orchestrator.shared.kit import NAMESPACE, KitOrder

    who, name = session.who, request.file.name
    sign = functools.partial(signing.sign, who, namespace=NAMESPACE) if request.sign_key else None
    new = work.workspace.own / "new"
    new.mkdir()
    systems = request.systems or (foreign_system(this_system()),)
    services = (*SERVICES, *(("test",) if request.tests else ()))
    wanted = KitOrder("pack", systems, paths, request.results)
    archive = work.workspace.own / SOURCES if request.build else None
    export(work, wanted, services, new / name, sign, archive)
    work.progress.to("deliver", name)
    size = (new / name).stat().st_size // MIB  # what is sent is removed
    outgoing = Delivery(new, session.stream, sparse=False)
    outgoing.send(name)
    outgoing.finish()
    work.progress.end()
    work.progress.say(f"{request.file}: {size:,} MiB; with the same checkout: ./run.sh kit import")


VERB = Verb(
    group="keep house",
    shown=(
        ("kit export FILE", "all that a machine without a network needs, in a file"),
        ("kit import FILE", "load such a file; no network is needed then"),
    ),
    parser=_parser,
    request=_request,
    work=_work,
    orders=_orders,
    takes_files=True,
)
