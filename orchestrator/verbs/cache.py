"""`cache`: serve what runs have built as a signed binary cache, and tell of it."""

import argparse
import contextlib
import dataclasses
import json
import math
import typing
import urllib.parse

from orchestrator.ask.listening import EVERYWHERE, LOOPBACK, add_listen_options
from orchestrator.ask.parser import Parser, add_display_options, display
from orchestrator.ask.request import Caller
from orchestrator.shared.constants import MIB
from orchestrator.shared.display import Display
from orchestrator.shared.errors import UsageError
from orchestrator.shared.push import OWN, Order, public_key
from orchestrator.shared.text import columns
from orchestrator.verbs.registry import Session, Verb

if typing.TYPE_CHECKING:
    from orchestrator.docker.engine import Engine
    from orchestrator.run.push import Pusher

#: Type and version of the JSON document.
TYPE, SCHEMA = "urn:nixos-image:cache:v1", 1

#: Default port.
PORT = 5000

Action = typing.Literal["info", "serve", "stop"]

EXAMPLES = (
    ("cache serve", "for programs of this computer"),
    ("cache serve --listen 0.0.0.0", "for all computers that reach this one"),
    ("cache info", "what the cache has, its address and its public key"),
    ("cache stop", "end the server; the cache stays"),
)


@dataclasses.dataclass(frozen=True)
class Cache:
    """What `cache` is asked for; `listen` is an IP address. `json`: print JSON instead of text."""

    action: Action
    listen: str
    port: int
    json: bool
    display: Display


def _parser() -> Parser:
    parser = Parser(
        "cache",
        "Serve what runs on this engine have built as a signed binary cache (serve): other"
        "\nmachines fetch from it what they would have to build. `--push file:` adds a run's"
        "\nresults at once, `cache serve` those of all recent runs.",
        examples=EXAMPLES,
    )
    parser.add_argument("action", nargs="?", choices=typing.get_args(Action), default="info")
    serve = parser.add_argument_group("serve")
    add_listen_options(serve, PORT)
    parser.add_argument("--json", action="store_true", help="info as JSON, for programs")
    add_display_options(parser)
    return parser


def _request(found: argparse.Namespace, _who: Caller) -> Cache:
    """Convert parsed arguments; raises `UsageError` for an option of another action."""
    if found.action != "serve" and (found.listen or found.port):
        raise UsageError("--listen and --port are for cache serve", hint="./run.sh cache serve")
    if found.json and found.action != "info":
        raise UsageError("--json is for cache info", hint="./run.sh cache info --json")
    listen, number = found.listen or LOOPBACK, found.port or PORT
    return Cache(found.action, listen, number, found.json, display(found))


def _work(request: Cache, session: Session) -> int:
    from orchestrator.docker.images import Images
    from orchestrator.docker.workspace import open_to_agents
    from orchestrator.run.push import Pusher
    from orchestrator.run.runs import run_workspace
    from orchestrator.shared.progress import make_progress

    who = session.who
    with (
        contextlib.closing(make_progress(request.display, who.terminal)) as progress,
        run_workspace(who, {}) as (engine, workspace),
    ):
        if request.action == "stop":
            stopped = engine.stop_server()
            progress.say("the server has ended; the cache stays" if stopped else "no server runs")
            return 0
        images = Images(engine, "aarch64", workspace.logs, own=who.image)
        try:
            images.want(("builder",))
            images.wait(("builder",), progress)
        finally:
            images.close()
        open_to_agents(workspace.shared)
        pusher = Pusher(engine, workspace, progress, math.inf)
        progress.to("cache", "reading the cache")
        if request.action == "serve":
            progress.to("cache", "copying what recent results need")
            pusher.copy(OWN, ())
            engine.serve(who.image, request.listen, request.port)
        facts = _facts(engine, pusher, who)
        progress.end()
        session.show(json.dumps(facts, indent=2) + "\n" if request.json else describe(facts))
        engine.down()
    return 0


def _facts(engine: "Engine", pusher: "Pusher", who: Caller) -> dict[str, typing.Any]:
    """Return the document of --json: sizes in bytes; empty texts for what there is not."""
    from orchestrator.docker.answers import read
    from orchestrator.run.push import OWN_KEY
    from orchestrator.run.reports import Cache

    told = read(Cache, pusher.order(Order("info")), "cache")
    return {
        "type": TYPE,
        "schema": SCHEMA,
        "paths": told["paths"],
        "size": told["size"],
        "public_key": public_key(OWN_KEY.read_bytes()) if OWN_KEY.exists() else "",
        "url": reachable(engine.server_url(), who.computer),
    }


def reachable(url: str, computer: str) -> str:
    """Return the server's `url` for clients: no address but the name of the caller's computer.

    That is for a server that listens to all addresses of a computer; another one has the address.
    """
    parts = urllib.parse.urlsplit(url)
    return f"http://{computer}:{parts.port}" if parts.hostname in EVERYWHERE else url


def describe(facts: dict[str, typing.Any]) -> str:
    """Return the document as text, with the words that another machine needs."""
    rows: list[tuple[str, ...]] = [
        ("the cache", f"{facts['paths']} store paths, {-(-facts['size'] // MIB):,} MiB"),
        ("public key", facts["public_key"] or "none yet (./run.sh cache serve makes one)"),
        ("served at", facts["url"] or "no address (./run.sh cache serve)"),
    ]
    text = columns(rows)
    if not (facts["url"] and facts["public_key"]):
        return text
    return (
        f"{text}elsewhere: ./run.sh build --substituter {facts['url']}"
        f" --trusted-public-key {facts['public_key']}\n"
    )


VERB = Verb(
    group="keep house",
    shown=(("cache [serve|info|stop]", "a signed binary cache of what runs have built"),),
    parser=_parser,
    request=_request,
    work=_work,
)
