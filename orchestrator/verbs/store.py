"""`store`: tell what the Nix store's volume has, collect its garbage, check and repair it."""

import argparse
import contextlib
import dataclasses
import datetime
import json
import math
import re
import typing

from orchestrator.ask.nix_arguments import add_cache_options
from orchestrator.ask.parser import Parser, add_display_options, display, mebibytes
from orchestrator.ask.request import Caller
from orchestrator.shared.constants import MIB
from orchestrator.shared.display import Display
from orchestrator.shared.errors import UsageError
from orchestrator.shared.nix_options import count
from orchestrator.shared.store import Action, Wish
from orchestrator.shared.text import columns, plain
from orchestrator.verbs.registry import Session, Verb

if typing.TYPE_CHECKING:
    from orchestrator.docker.engine import Engine
    from orchestrator.run.reports import Stock
    from orchestrator.run.supervisor import Event
    from orchestrator.run.tree_records import Record
    from orchestrator.shared.progress import Progress

#: Type and version of the JSON document.
TYPE, SCHEMA = "urn:nixos-image:store:v1", 1

#: Seconds of each unit of --older-than.
UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

EXAMPLES = (
    ("store", "sizes, and what each recent result holds"),
    ("store gc", "remove what no recent result needs"),
    ("store gc --keep 3", "first let go of all but the three newest results"),
    ("store gc --older-than 30d", "first let go of what is older than thirty days"),
    ("store gc --max-size 20G", "first let go of the oldest, until 20 GiB are held"),
    ("store verify --repair", "compare each file with its checksum, repair"),
    ("store optimise", "store files with the same content once"),
)


@dataclasses.dataclass(frozen=True)
class Store:
    """What `store` is asked for; `json`: print JSON instead of text."""

    wish: Wish
    json: bool
    display: Display


def age(text: str) -> int:
    """Parse an age such as 90m, 12h, 30d or 2w; returns seconds."""
    match = re.fullmatch(r"([0-9]{1,6})([mhdw])", text)
    if not match:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an age: a whole number of minutes, hours, days or weeks (30d)"
        )
    return int(match[1]) * UNITS[match[2]]


def _parser() -> Parser:
    parser = Parser(
        "store",
        "Tell what the Nix store's volume has, which all runs share: its size, what each recent"
        "\nresult holds, what no result needs. Or remove that (gc), compare all paths with their"
        "\nchecksums (verify), or store files with the same content once (optimise).",
        examples=EXAMPLES,
    )
    parser.add_argument("action", nargs="?", choices=typing.get_args(Action), default="list")
    gc = parser.add_argument_group("gc")
    gc.add_argument(
        "--keep", type=count, metavar="N", help="let go of all but the N newest results"
    )
    gc.add_argument(
        "--older-than", type=age, metavar="AGE", help="let go of results older than 30d, 12h, 2w"
    )
    gc.add_argument(
        "--max-size",
        type=mebibytes,
        metavar="SIZE",
        help="let go of the oldest results until the others have at most 500M, 20G",
    )
    verify = parser.add_argument_group("verify")
    verify.add_argument(
        "--repair", action="store_true", help="fetch or build again what has changed"
    )
    add_cache_options(verify)
    parser.add_argument("--json", action="store_true", help="list as JSON, for programs")
    add_display_options(parser)
    return parser


def _request(found: argparse.Namespace, _who: Caller) -> Store:
    """Convert parsed arguments; raises `UsageError` for an option of another action."""
    owners = {
        "list": {"--json": found.json},
        "gc": {
            "--keep": found.keep is not None,
            "--older-than": found.older_than is not None,
            "--max-size": found.max_size is not None,
        },
        "verify": {"--repair": found.repair},
    }
    for action, options in owners.items():
        for flag, given in options.items():
            if given and action != found.action:
                usage = "./run.sh store" if action == "list" else f"./run.sh store {action}"
                raise UsageError(
                    f"{flag} is no option of store {found.action}", hint=f"{usage} {flag} …"
                )
    if (found.substituters or found.trusted_keys) and not found.repair:
        raise UsageError(
            "--substituter and --trusted-public-key are for a repair alone",
            hint="./run.sh store verify --repair --substituter URL",
        )
    wish = Wish(
        found.action,
        keep=found.keep,
        older_than=found.older_than,
        max_size=None if found.max_size is None else found.max_size * MIB,
        repair=found.repair,
        substituters=tuple(found.substituters),
        trusted_keys=tuple(found.trusted_keys),
    )
    return Store(wish, found.json, display(found))


def _work(request: Store, session: Session) -> int:
    """Have the agent stock do what is wished; print what it tells."""
    from orchestrator.decide.plan import builders_memory
    from orchestrator.docker.answers import read
    from orchestrator.docker.images import Images
    from orchestrator.run import tree_records
    from orchestrator.run.reports import Stock
    from orchestrator.run.runs import run_workspace, write_variables
    from orchestrator.run.tree_records import UNUSED_SECONDS
    from orchestrator.shared.progress import make_progress

    who = session.who
    with (
        contextlib.closing(make_progress(request.display, who.terminal)) as progress,
        run_workspace(who, {}) as (engine, workspace),
    ):
        memory = {"NIXOS_IMAGE_MEMORY": f"{builders_memory(engine.info().memory)}m"}
        write_variables(workspace.variables, who, memory)
        images = Images(engine, "aarch64", workspace.logs, own=who.image)
        try:
            images.want(("builder",))
            images.wait(("builder",), progress)
        finally:
            images.close()
        progress.to("store", STAGES[request.wish.action])
        if request.wish.action == "gc":
            for copy in tree_records.forget(engine, request.wish.older_than or UNUSED_SECONDS):
                progress.say(f"the copy of {plain(copy.path)} is removed: {mib(copy.size)}")
        for event in _told(request.wish, engine, progress):
            if event["event"] == "stock":
                copies = tuple(tree_records.copies(engine).values())
                stock = read(Stock, event, "store")
                text = as_json(stock, copies) if request.json else describe(stock, copies)
                session.show(text)
            elif (message := event.get("message")) and event.get("level") != "warning":
                progress.say(str(message), fields=event)
        progress.end()
        engine.down()
    return 0


#: What is shown meanwhile, by action.
STAGES: dict[Action, str] = {
    "list": "reading the store",
    "gc": "removing what no recent result needs",
    "verify": "comparing all paths with their checksums",
    "optimise": "looking for files with the same content",
}


def _told(wish: Wish, engine: "Engine", progress: "Progress") -> "typing.Iterator[Event]":
    """Run the agent; yield its events. Raises its error."""
    from orchestrator.run.supervisor import Exit, Supervisor

    service = "restock" if wish.repair else "stock"
    name = f"{engine.project}-{service}-1"
    words = ["orchestrator.agents.builder.stock", json.dumps(dataclasses.asdict(wish))]
    engine.create_one(service, name, words)
    supervisor = Supervisor(engine, progress, math.inf)
    supervisor.follow(service, name)
    while not isinstance(item := supervisor.next(), Exit):
        if item:
            yield item[1]


def as_json(event: "Stock", copies: "tuple[Record, ...]" = ()) -> str:
    """Return the document of --json; sizes are in bytes, times in seconds since 1970."""
    folders = [
        {"path": one.path, "files": one.files, "size": one.size, "used": one.used} for one in copies
    ]
    document = {"type": TYPE, "schema": SCHEMA, **event}
    document["folders"] = folders
    return json.dumps(document, indent=2) + "\n"


def describe(event: "Stock", copies: "tuple[Record, ...]" = ()) -> str:
    """Return what the store has as text; `event` is the agent's `stock`.

    `copies` are those of folders that callers have sent.
    """
    holdings = event["holdings"]
    hint = " (./run.sh store gc removes it)"
    text = columns(
        [
            ("the store", f"{mib(event['size'])} in {event['paths']} paths"),
            ("no result needs", mib(event["unneeded"]) + (hint if event["unneeded"] else "")),
            *(("copy of a sent folder", f"{mib(one.size)} {plain(one.path)}") for one in copies),
            ("free on the disk", mib(event["free"])),
        ]
    )
    if not holdings:
        return f"{text}\nNo result is kept.\n"
    rows: list[tuple[str, ...]] = [("recent result", "made", "holds", "alone")]
    rows += [
        (
            plain(one["name"]),
            minute(one["since"]),
            mib(one["size"]),
            mib(one["alone"]),
        )
        for one in reversed(holdings)
    ]
    return f"{text}\n{columns(rows)}"


def minute(since: float) -> str:
    """Return a time in seconds since 1970 as text; a build may have set one of any year."""
    try:
        return f"{datetime.datetime.fromtimestamp(since, datetime.UTC):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return "?"


def mib(size: int) -> str:
    """Return a size in bytes as MiB, rounded up."""
    return f"{-(-size // MIB):,} MiB"


VERB = Verb(
    group="keep house",
    shown=(
        ("store", "what the Nix store has, and what each result holds"),
        ("store gc|verify|optimise", "collect its garbage, check and repair it, save space"),
    ),
    parser=_parser,
    request=_request,
    work=_work,
)
