"""`flash`: write an image to a disk of the caller's computer, and read it back.

run.sh does what is about the caller's computer: it lists the disks, refuses the wrong ones and
asks. The orchestrator sees no disk. On an order of `prepare`, run.sh starts this verb's work in a
container that has only the disk (caller/flash.sh), or writes with the caller's own programs
(caller/dd.sh).
"""

import argparse
import dataclasses
import os
import pathlib
import sys

from orchestrator.ask.orders import Orders
from orchestrator.ask.parser import Parser, caller_path
from orchestrator.ask.request import Caller
from orchestrator.verbs.registry import Session, Verb


@dataclasses.dataclass(frozen=True)
class Flash:
    """Write `image` to `device`; without `device` the disks are listed."""

    image: pathlib.PurePosixPath
    device: pathlib.PurePosixPath | None
    dry_run: bool
    yes: bool
    verify: bool


def _parser() -> Parser:
    parser = Parser(
        "flash",
        "Write an image to a card or disk of this computer, and read it back. Without\n"
        "DEVICE the disks are listed. A packed image (.zst, .xz, .gz) is unpacked on the way; of\n"
        "an image with a block map beside it only the mapped blocks are written.",
        examples=(
            ("flash out/pi.img", "list the disks, and ask on a terminal"),
            ("flash out/pi.img.zst /dev/sdb", "write, after a question"),
            ("flash out/pi.img /dev/sdb --yes", "ask nothing"),
        ),
    )
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("device", metavar="DEVICE", nargs="?", help="disk, such as /dev/sdb")
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, say what would be written where"
    )
    parser.add_argument(
        "--yes",
        action="store_true",
        help="ask nothing; needed for disks inside this computer, and without a terminal",
    )
    parser.add_argument(
        "--no-verify", action="store_true", help="do not read the disk back and compare"
    )
    return parser


def _request(found: argparse.Namespace, who: Caller) -> Flash:
    return Flash(
        image=caller_path(found.image, who),
        device=caller_path(found.device, who) if found.device is not None else None,
        dry_run=found.dry_run,
        yes=found.yes,
        verify=not found.no_verify,
    )


def _orders(request: Flash) -> Orders:
    orders = [["flash", "flash", os.fspath(request.image)]]
    if request.device:
        orders.append(["disk", "flash", os.fspath(request.device)])
    # run.sh sees --dry-run by itself: a missing order must not make a trial write a disk.
    flags = {"yes": request.yes, "no_verify": not request.verify}
    return orders + [[word] for word, given in flags.items() if given]


def _work(request: Flash, session: Session) -> int:
    from orchestrator.deliver import flash
    from orchestrator.shared.display import Display
    from orchestrator.shared.progress import make_progress

    progress = make_progress(Display(), session.who.terminal)
    try:
        written = flash.flash(sys.stdin.fileno(), flash.TARGET, progress, verify=request.verify)
        progress.end()
    finally:
        progress.close()
    done = "written and read back" if request.verify else "written, not read back"
    progress.say(f"{flash.megabytes(written)} MB {done}: {request.device} can be removed")
    return 0


VERB = Verb(
    group="use images",
    shown=(("flash IMAGE [DEVICE]", "write an image to a card, and read it back"),),
    parser=_parser,
    request=_request,
    work=_work,
    orders=_orders,
    takes_files=True,
)
