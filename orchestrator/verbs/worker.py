"""`worker`: a builder for other machines in a container, its state, its end."""

import argparse
import contextlib
import dataclasses
import ipaddress
import os
import pathlib
import typing

from orchestrator.ask.listening import EVERYWHERE, LOOPBACK, add_listen_options
from orchestrator.ask.orders import TERMINAL, Orders
from orchestrator.ask.parser import Parser, add_display_options, caller_path, display
from orchestrator.ask.request import Caller
from orchestrator.ask.ssh_keys import bare_key, keys_at_home, public_keys
from orchestrator.ask.uploads import received
from orchestrator.shared.builders import MOST
from orchestrator.shared.display import Display
from orchestrator.shared.errors import UsageError
from orchestrator.shared.text import columns, plain, whole
from orchestrator.verbs.registry import Session, Verb

if typing.TYPE_CHECKING:
    from orchestrator.run.resident import State

Action = typing.Literal["start", "status", "stop"]

#: Default port.
PORT = 2222

EXAMPLES = (
    ("worker --listen 192.0.2.7 --authorized-key key.pub", "for who has that key"),
    ("worker status", "is it there, and its line"),
    ("worker stop", "end it, keep its store"),
)


@dataclasses.dataclass(frozen=True)
class Worker:
    """What `worker` is asked for; without `keys` the caller's own may log in.

    `listen` is an address of the engine's host; `jobs` is 0 for the number of its CPUs.
    """

    action: Action
    listen: str
    port: int
    jobs: int
    keys: tuple[pathlib.PurePosixPath, ...]
    display: Display


def _parser() -> Parser:
    parser = Parser(
        "worker",
        "Have this machine build for others: an SSH server in a container, whose only program is"
        "\n`nix-daemon --stdio`. Prints its line for --builders. `worker status` tells how it is,"
        "\n`worker stop` ends it. The container starts again with Docker.",
        examples=EXAMPLES,
    )
    parser.add_argument("action", nargs="?", choices=typing.get_args(Action), default="start")
    add_listen_options(parser, PORT)
    parser.add_argument(
        "--authorized-key",
        action="append",
        default=[],
        metavar="FILE",
        help="public keys that may build here (repeatable; default: ~/.ssh/*.pub)",
    )
    parser.add_argument(
        "--jobs",
        type=_jobs,
        default=0,
        metavar="N",
        help="builds at a time (default: the number of CPUs)",
    )
    add_display_options(parser)
    return parser


def _jobs(text: str) -> int:
    if not 0 < (jobs := whole(text) or 0) <= MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MOST}")
    return jobs


def _request(found: argparse.Namespace, who: Caller) -> Worker:
    given = {
        "--listen": found.listen is not None,
        "--port": found.port is not None,
        "--authorized-key": bool(found.authorized_key),
        "--jobs": bool(found.jobs),
    }
    for flag, one in given.items():
        if one and found.action != "start":
            raise UsageError(f"{flag} is no option of worker {found.action}", hint=found.help_of)
    listen, port = found.listen or LOOPBACK, found.port or PORT
    keys = tuple(caller_path(one, who) for one in found.authorized_key)
    return Worker(found.action, listen, port, found.jobs, keys, display(found))


def _orders(request: Worker) -> Orders:
    if request.action != "start":
        return [TERMINAL]
    keys = [["send", "--authorized-key", os.fspath(path)] for path in request.keys]
    return [TERMINAL, *(keys or [["send_keys"]])]


def _work(request: Worker, session: Session) -> int:
    from orchestrator.run import resident
    from orchestrator.run.runs import run_workspace
    from orchestrator.shared.progress import make_progress

    who = session.who
    settings = _settings(request, who) if request.action == "start" else {}
    with (
        contextlib.closing(make_progress(request.display, who.terminal)) as progress,
        run_workspace(who, {}) as (engine, workspace),
    ):
        match request.action:
            case "status":
                session.write(describe(resident.find(engine)))
            case "stop":
                there = resident.stop(engine)
                text = "the worker has ended" if there else "there is no worker"
                progress.say(f"{text}; ./run.sh down -v removes what it has built")
            case "start":
                progress.to("worker", "making its image")
                told = resident.start(engine, workspace, who, settings, progress)
                progress.end()
                progress.say(_advice(request))
                session.write(f"{plain(told['line'])}\n")
        engine.down()
    return 0


def _settings(request: Worker, who: Caller) -> dict[str, str]:
    """Return Compose's variables of the worker; raises `UsageError` if nobody could log in."""
    found = [
        key
        for path in request.keys
        for key in public_keys(
            received(who, path).read_text("utf-8-sig", errors="replace"), f"--authorized-key {path}"
        )
    ] or list(keys_at_home(who))
    if not found:
        raise UsageError(
            "nobody could log in: there is no public key in ~/.ssh",
            hint="--authorized-key FILE names the public key of who may build here",
        )
    # An IPv6 address is in brackets in an address with a port.
    listen = f"[{request.listen}]" if ":" in request.listen else request.listen
    return {
        "NIXOS_IMAGE_WORKER_KEYS": ",".join(dict.fromkeys(bare_key(key) for key in found)),
        "NIXOS_IMAGE_WORKER_LISTEN": listen,
        "NIXOS_IMAGE_WORKER_ADDRESS": who.computer if request.listen in EVERYWHERE else listen,
        "NIXOS_IMAGE_WORKER_PORT": str(request.port),
        "NIXOS_IMAGE_WORKER_JOBS": str(request.jobs or ""),
    }


def _advice(request: Worker) -> str:
    """Return what to do with the line that is printed."""
    how = "on the other machine, with the path of the private key in place of KEY: --builders LINE"
    if ipaddress.ip_address(request.listen).is_loopback:
        how += f"; only this machine reaches {request.listen}: --listen ADDRESS lets others in"
    return how


def describe(state: "State | None") -> str:
    """Return the worker's state as text."""
    if not state:
        return "there is no worker (./run.sh worker starts one)\n"
    rows: list[tuple[str, ...]] = [
        ("worker", f"{'running' if state.running else 'ended'}, started {state.since[:19]}Z")
    ]
    if state.event:
        systems = state.event["systems"]
        rows += [
            ("builds", f"{', '.join(systems)}, with Nix {state.event['nix']}"),
            ("host key", state.event["fingerprint"]),
            ("builder", state.event["line"]),
        ]
    return plain(columns(rows))


VERB = Verb(
    group="keep house",
    shown=(("worker [status|stop]", "build for other machines, in a container of its own"),),
    parser=_parser,
    request=_request,
    work=_work,
    orders=_orders,
)
