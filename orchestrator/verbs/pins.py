"""`pins`: print or renew the pinned versions and hashes of locks/."""

import argparse
import contextlib
import dataclasses
import typing
from collections.abc import Iterator

from orchestrator.ask.orders import TERMINAL, Orders
from orchestrator.ask.parser import Parser, add_display_options, display
from orchestrator.ask.request import Caller
from orchestrator.shared.constants import TRACKER
from orchestrator.shared.display import Display
from orchestrator.verbs.registry import Session, Verb

if typing.TYPE_CHECKING:
    from orchestrator.docker.engine import Engine
    from orchestrator.docker.workspace import Workspace
    from orchestrator.shared.progress import Progress


@dataclasses.dataclass(frozen=True)
class Pins:
    """What `pins` is asked for: print the pinned downloads, `update` them, or list packages.

    `advisories` prints vulnerabilities of these packages, by the document at `tracker`.
    """

    update: bool
    installed: bool
    advisories: bool
    tracker: str
    display: Display


def _parser() -> Parser:
    parser = Parser(
        "pins",
        "Print the pinned versions and hashes of all downloads (locks/).",
        examples=(
            ("pins", "what is pinned"),
            ("pins --update", "renew the locks"),
            ("pins --advisories", "known vulnerabilities of packages in our images"),
        ),
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--update",
        action="store_true",
        help="renew the locks of this checkout and print the changes",
    )
    what.add_argument(
        "--installed",
        action="store_true",
        help="print the Debian packages of this project's container images instead",
    )
    what.add_argument(
        "--advisories",
        action="store_true",
        help="print the vulnerabilities of these packages, by Debian's security tracker;"
        " exit code 16 if newer versions fix one",
    )
    parser.add_argument(
        "--tracker",
        type=_web_address,
        default=TRACKER,
        metavar="URL",
        help="address of the tracker's data, for --advisories (default: %(default)s)",
    )
    add_display_options(parser)
    return parser


def _web_address(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r}: not http:// or https://")
    return text


def _request(found: argparse.Namespace, _who: Caller) -> Pins:
    return Pins(found.update, found.installed, found.advisories, found.tracker, display(found))


def _orders(request: Pins) -> Orders:
    return [["out_locks"] if request.update else TERMINAL]


def _work(request: Pins, session: Session) -> int:
    from orchestrator.decide.pins import table
    from orchestrator.run.runs import run_workspace
    from orchestrator.shared.paths import ROOT
    from orchestrator.shared.text import columns

    if request.update:
        _update(request, session)
    elif request.advisories:
        _advisories(request, session)
    elif request.installed:
        with run_workspace(session.who, {}) as (engine, _workspace):
            found = engine.packages()
        rows = [(image, one.package, one.version, one.arch) for image, one in found]
        session.show(columns([("image", "package", "version", "architecture"), *rows]))
    else:
        session.show(table(ROOT))
    return 0


@contextlib.contextmanager
def _builder(request: Pins, session: Session) -> Iterator[tuple["Engine", "Workspace", "Progress"]]:
    """Provide an engine with the builder's image, whose containers have a network."""
    from orchestrator.docker.images import Images
    from orchestrator.run.runs import run_workspace
    from orchestrator.shared.progress import make_progress

    who = session.who
    with (
        contextlib.closing(make_progress(request.display, who.terminal)) as progress,
        run_workspace(who, {}) as (engine, workspace),
    ):
        images = Images(engine, "aarch64", workspace.logs, own=who.image)
        try:
            images.want(("builder",))
            images.wait(("builder",), progress)
            yield engine, workspace, progress
        finally:
            images.close()
            engine.down()


def _update(request: Pins, session: Session) -> None:
    """Renew the locks, print the changes, and send the new files to the checkout."""
    from orchestrator.deliver.stream import Delivery
    from orchestrator.run import renewal

    with _builder(request, session) as (engine, workspace, progress):
        changed = renewal.renew(engine, session.who, progress)
        new = workspace.own / "new"
        new.mkdir()
        outgoing = Delivery(new, session.stream, sparse=False)
        for name in renewal.write(new, changed):
            outgoing.send(name)
        outgoing.finish()


def _advisories(request: Pins, session: Session) -> None:
    """Print the vulnerabilities of our images' packages; raises if newer versions fix one."""
    from orchestrator.decide.advisories import table
    from orchestrator.run.advisories import look
    from orchestrator.shared.errors import AdvisoryError

    with _builder(request, session) as (engine, _workspace, progress):
        progress.to("advisories", "asking Debian's security tracker")
        found = look(engine, session.who, request.tracker)
        progress.end()
    session.show(table(found))
    if fixed := sum(1 for one in found if one.fixed):
        raise AdvisoryError(
            f"newer versions fix {fixed} of these vulnerabilities",
            hint="./run.sh pins --update; ./run.sh down --rmi all, so that images are rebuilt",
        )


VERB = Verb(
    group="find out",
    shown=(
        ("pins [--update]", "pinned versions and hashes of all downloads"),
        ("pins --advisories", "vulnerabilities of the packages in our images"),
    ),
    parser=_parser,
    request=_request,
    work=_work,
    orders=_orders,
)
