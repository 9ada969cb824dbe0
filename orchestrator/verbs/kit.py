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
import sys
import typing

from orchestrator.ask.orders import Orders
from orchestrator.ask.parser import Parser, add_display_options, caller_path, display
from orchestrator.ask.request import Caller
from orchestrator.shared.architectures import DEBIAN_ARCHITECTURES
from orchestrator.shared.constants import MIB
from orchestrator.shared.display import Display
from orchestrator.shared.errors import UsageError
from orchestrator.shared.spec import is_file_name
from orchestrator.verbs.registry import Session, Verb

if typing.TYPE_CHECKING:
    from orchestrator.run.kit import KitWork

Action = typing.Literal["export", "import"]

#: Word of --with for the image of the test suite.
TESTS = "tests"

#: Words of --with that are files, folders and references of flakes: no name of an image is one.
CONFIGURATION = re.compile(r"[/#:]|\.(nix|toml)$|^\.+$")

EXAMPLES = (
    ("kit export appliance.kit", "what the demo needs, for another CPU"),
    ("kit export pi.kit --with pi-sd-aarch64", "and what this image needs"),
    ("kit export appliance.kit --sign-key key", "signed with an SSH key"),
    ("kit import appliance.kit", "on a machine without a network"),
    ("kit import appliance.kit --public-key key.pub", "only if this key has signed it"),
)


@dataclasses.dataclass(frozen=True)
class Kit:
    """What `kit` is asked for: `file` is on the caller's host; `systems` are those of demos.

    `results` are names of recent results, `tests` adds the image of the test suite. `sign_key` and
    `public_key` are on the caller's host.
    """

    action: Action
    file: pathlib.PurePosixPath
    systems: tuple[str, ...]
    results: tuple[str, ...]
    tests: bool
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
    )
    parser.add_argument("action", choices=typing.get_args(Action))
    parser.add_argument("file", metavar="FILE", help="the kit")
    export = parser.add_argument_group("export")
    export.add_argument(
        "--with",
        dest="more",
        action="append",
        default=[],
        metavar="SYSTEM|NAME|tests",
        help="what the demo needs for this system (default: the one foreign to this host); what a"
        " recent result, which ./run.sh store names, is and was built of; the image of the test"
        " suite; repeatable",
    )
    export.add_argument("--sign-key", metavar="FILE", help="sign the kit with this private SSH key")
    export.add_argument("--force", action="store_true", help="replace FILE")
    taken = parser.add_argument_group("import")
    taken.add_argument(
        "--public-key", metavar="FILE", help="refuse the kit unless this SSH key has signed it"
    )
    add_display_options(parser)
    return parser


def _request(found: argparse.Namespace, who: Caller) -> Kit:
    """Convert parsed arguments; raises `UsageError` for an option of the other action."""
    options = {
        "export": {"--with": found.more, "--sign-key": found.sign_key, "--force": found.force},
        "import": {"--public-key": found.public_key},
    }
    for action, given in options.items():
        for flag, value in given.items():
            if value and action != found.action:
                raise UsageError(f"{flag} is for kit {action}", hint=found.help_of)
    for one in found.more:
        if CONFIGURATION.search(one):
            raise UsageError(
                f"--with {one}: a configuration, whose system, sources and steps are not known"
                " before it is built",
                hint="build it first (./run.sh -c FILE or --flake REFERENCE, -f FORMAT), then"
                " --with the name that ./run.sh store has for the image",
            )
    file = caller_path(found.file, who)
    if not is_file_name(file.name):
        raise UsageError(f"{found.file}: no name for a kit", hint="./run.sh kit export NAME.kit")
    keys = (found.sign_key, found.public_key)
    sign_key, public_key = (None if key is None else caller_path(key, who) for key in keys)
    return Kit(
        found.action,
        file,
        systems=tuple(one for one in found.more if one in DEBIAN_ARCHITECTURES),
        results=tuple(one for one in found.more if one not in {*DEBIAN_ARCHITECTURES, TESTS}),
        tests=TESTS in found.more,
        sign_key=sign_key,
        public_key=public_key,
        force=found.force,
        display=display(found),
    )


def _orders(request: Kit) -> Orders:
    if request.action == "import":
        return [["kit"]]
    orders: Orders = [["force"]] if request.force else []
    orders.append(["out_file", "kit", os.fspath(request.file)])
    if request.sign_key:
        orders.append(["send", "--sign-key", os.fspath(request.sign_key)])
    return orders


def _work(request: Kit, session: Session) -> int:
    from orchestrator.run.kit import KitWork, restore
    from orchestrator.run.runs import run_workspace
    from orchestrator.shared.progress import make_progress

    who = session.who
    if request.action == "export" and session.sent:
        session.receive()
    with (
        contextlib.closing(make_progress(request.display, who.terminal)) as progress,
        run_workspace(who, {}) as (engine, workspace),
    ):
        work = KitWork(who, engine, workspace, progress)
        if request.action == "import":
            restore(work, sys.stdin.buffer)
            progress.end()
            progress.say(f"{request.file} is imported: ./run.sh demo needs no network now")
        else:
            _export(request, session, work)
        engine.down()
    return 0


def _export(request: Kit, session: Session, work: "KitWork") -> None:
    """Make the kit and send it to run.sh."""
    from orchestrator.ask.uploads import kept
    from orchestrator.deliver import signing
    from orchestrator.deliver.stream import Delivery
    from orchestrator.run.kit import SERVICES, export
    from orchestrator.shared.architectures import foreign_system, this_system
    from orchestrator.shared.kit import NAMESPACE, KitOrder

    who, name = session.who, request.file.name
    if name in kept(who):
        raise UsageError(f"{request.file} exists", hint="--force replaces it")
    sign = None
    if request.sign_key:
        signing.take_key(who, request.sign_key, "--sign-key")
        sign = functools.partial(signing.sign, who, namespace=NAMESPACE)
    new = work.workspace.own / "new"
    new.mkdir()
    systems = request.systems or (foreign_system(this_system()),)
    services = (*SERVICES, *(("test",) if request.tests else ()))
    export(work, KitOrder("pack", systems, results=request.results), services, new / name, sign)
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
