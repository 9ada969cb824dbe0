"""`test`: run the test suite in a container."""

import argparse
import contextlib
import dataclasses
import os

from orchestrator.ask import uploads
from orchestrator.ask.orders import TERMINAL, Orders
from orchestrator.ask.parser import Parser
from orchestrator.ask.request import Caller
from orchestrator.verbs.registry import Session, Verb


@dataclasses.dataclass(frozen=True)
class Suite:
    """What `test` is asked for: arguments for pytest."""

    words: tuple[str, ...]


def _parser() -> Parser:
    parser = Parser(
        "test",
        "Run the test suite in its container image, which is built if needed.",
        "--hosts [NAME ...] runs the demo on simulated Docker hosts instead: docs/hosts.md",
        (
            ("test", "what every change must pass"),
            ("test tests/tools/test_disk.py", "some tests"),
            ("test --hosts podman ssh", "the demo on these kinds of hosts"),
        ),
    )
    parser.add_argument("words", nargs="*", metavar="PYTEST ARGUMENT", help="arguments for pytest")
    return parser


def _request(found: argparse.Namespace, _who: Caller) -> Suite:
    return Suite(tuple(found.words))


def _orders(_request: Suite) -> Orders:
    """Return the orders; the suite needs the whole checkout, of which images have a part."""
    return [TERMINAL, ["send_checkout"]]


def needs_images(words: tuple[str, ...]) -> bool:
    """Whether pytest's arguments `words` select tests that start the appliance's containers."""
    paths = [word for word in words if word.startswith("tests/")]
    alone = ("tests/unit", "tests/tools")
    return not paths or not all(path.startswith(alone) for path in paths)


def _work(request: Suite, session: Session) -> int:
    """Run the suite; returns pytest's exit code."""
    from orchestrator.docker.images import Images
    from orchestrator.run.runs import run_workspace
    from orchestrator.shared.display import Display
    from orchestrator.shared.progress import make_progress

    who = session.who
    with run_workspace(who, {"NIXOS_IMAGE_SOCKET": who.socket}) as (engine, workspace):
        images = Images(engine, "aarch64", workspace.logs, own=who.image)
        with contextlib.closing(make_progress(Display(), who.terminal)) as progress:
            try:
                others = ("cleanup", "builder", "worker") if needs_images(request.words) else ()
                wanted = (*others, "test")
                images.want(wanted)
                images.wait(wanted, progress)
                progress.end()
            finally:
                images.close()
        environment = {
            "NIXOS_IMAGE_CHECKOUT": os.fspath(uploads.received(who, who.root)),
            "NIXOS_IMAGE_SOCKET": who.socket,
            "NIXOS_IMAGE_RUN": who.run,
        }
        options = ["--no-TTY", *(f"--env={name}={value}" for name, value in environment.items())]
        try:
            return engine.run_on_terminal("test", options, request.words, session.stream)
        finally:
            engine.down()


VERB = Verb(
    group="keep house",
    shown=(("test [PYTEST ARGS]", "run the test suite (--hosts: on simulated Docker hosts)"),),
    parser=_parser,
    request=_request,
    work=_work,
    orders=_orders,
    passes_on=True,
)
