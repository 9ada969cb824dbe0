"""`pins`: print or renew the pinned versions and hashes of locks/."""

import argparse
import contextlib
import dataclasses

from orchestrator.ask.orders import TERMINAL, Orders
from orchestrator.ask.parser import Parser, add_log_format
from orchestrator.ask.request import Caller, LogFormat
from orchestrator.verbs.registry import Session, Verb


@dataclasses.dataclass(frozen=True)
class Pins:
    """Request of `pins`: print pins, `update` them, or print packages `installed` in images."""

    update: bool
    installed: bool
    log_format: LogFormat


def _parser() -> Parser:
    parser = Parser("pins", "Print the pinned versions and hashes of all downloads (locks/).")
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
    add_log_format(parser)
    return parser


def _request(found: argparse.Namespace, _who: Caller) -> Pins:
    return Pins(found.update, found.installed, found.log_format)


def _orders(request: Pins) -> Orders:
    return [["out_locks"] if request.update else TERMINAL]


def _work(request: Pins, session: Session) -> int:
    from orchestrator.decide.pins import table
    from orchestrator.run.runs import run_workspace
    from orchestrator.shared.paths import ROOT
    from orchestrator.shared.text import columns

    if request.update:
        _update(request, session)
    elif request.installed:
        with run_workspace(session.who, {}) as (engine, _workspace):
            rows = [("image", "package", "version", "architecture"), *engine.packages()]
        session.write(columns(rows))
    else:
        session.write(table(ROOT))
    return 0


def _update(request: Pins, session: Session) -> None:
    """Renew the locks, print the changes, and send the new files to the checkout."""
    from orchestrator.deliver.stream import Delivery
    from orchestrator.docker.images import Images
    from orchestrator.run import renewal
    from orchestrator.run.runs import run_workspace
    from orchestrator.shared.progress import make_progress

    who = session.who
    with (
        contextlib.closing(make_progress(request.log_format, who.columns)) as progress,
        run_workspace(who, {}) as (engine, workspace),
    ):
        images = Images(engine, "aarch64", workspace.logs)
        try:
            images.want(("builder",))
            images.wait(("builder",), progress)
            changed = renewal.renew(engine, who, progress)
        finally:
            images.close()
            engine.down()
        new = workspace.own / "new"
        new.mkdir()
        outgoing = Delivery(new, session.stream, sparse=False)
        for name in renewal.write(new, changed):
            outgoing.send(name)
        outgoing.finish()


VERB = Verb(
    group="find out",
    shown=(("pins [--update]", "pinned versions and hashes of all downloads"),),
    parser=_parser,
    request=_request,
    work=_work,
    orders=_orders,
)
