"""`compose VERB`, and Compose's verbs alone: run `docker compose` with this project's files."""

import argparse
import dataclasses
import os
import pathlib
import signal
import typing

from orchestrator.ask.parser import Parser
from orchestrator.ask.request import Caller
from orchestrator.shared.display import Display
from orchestrator.shared.errors import UsageError
from orchestrator.verbs import clean
from orchestrator.verbs.registry import Session, Verb

#: Verbs of Docker Compose 2.26. Those that are not verbs of this project need no `compose` before.
VERBS = frozenset(
    "attach build config cp create down events exec images kill logs ls pause port ps pull push"
    " restart rm run scale start stats stop top unpause up version wait watch".split()
)

#: Compose's verbs that show running containers.
ABOUT_RUNS = frozenset({"events", "logs", "ps", "stats", "top"})

#: Compose's verbs that need the services of all profiles.
ABOUT_ALL_SERVICES = frozenset({"build", "config", "down", "images"})


@dataclasses.dataclass(frozen=True)
class Compose:
    """Arguments of `docker compose`; the first is its verb."""

    words: tuple[str, ...]


def command(words: tuple[str, ...]) -> list[str]:
    """Return the `docker compose` command for `words`, which begin with Compose's verb.

    Verbs that show containers act on the living run, if there is exactly one.
    """
    from orchestrator.docker import census
    from orchestrator.docker.engine import Engine

    nowhere = pathlib.Path("/nonexistent")
    verb, *rest = words
    engine = Engine("", nowhere)
    if verb in ABOUT_RUNS and len(runs := list(census.serving_runs(engine))) == 1:
        engine = engine if runs == [census.COMPOSE_RUN] else Engine(runs[0], nowhere)
    profiles = ["--profile", "*"] if verb in ABOUT_ALL_SERVICES else []
    # Without --all, `compose ps` hides containers of `compose run`, such as boot.
    everything = ["--all"] if verb == "ps" else []
    return [*engine.compose_command(), *profiles, verb, *everything, *rest]


def _parser() -> Parser:
    parser = Parser(
        "compose",
        "Run Docker Compose with this project's files: docker compose VERB ...",
        "`compose` may be omitted before Compose's verbs that are not verbs of this project:"
        "\n./run.sh ps",
        (
            ("compose config --services", "the services of compose.yaml"),
            ("logs builder", "the log of the last plain `docker compose up`"),
        ),
    )
    parser.usage = f"{parser.prog} VERB [ARGUMENT ...]"
    parser.add_argument("words", nargs="*", metavar="VERB ...", help="arguments for docker compose")
    return parser


def _request(found: argparse.Namespace, _who: Caller) -> Compose:
    words = tuple(found.words)
    if not words or words[0].startswith("-"):
        raise UsageError(
            "compose: the first argument must be a verb of Docker Compose",
            hint="for example: ./run.sh compose ps",
        )
    return Compose(words)


def _work(request: Compose, session: Session) -> typing.NoReturn:
    """Replace this process by `docker compose`; before `down`, end all runs and clean up."""
    if request.words[0] == "down":
        clean.work(clean.Clean(everything=True, store=False, display=Display()), session)
    _become(command(request.words), session.stream)


def _become(command: list[str], stream: int) -> typing.NoReturn:
    """Replace this process by `command`, so that it gets signals and sets the exit code."""
    os.dup2(stream, 1)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_DFL)
    # NIXOS_IMAGE_RUN names this container's run; services that Compose starts are not part of it.
    environment = {name: value for name, value in os.environ.items() if name != "NIXOS_IMAGE_RUN"}
    os.execve(command[0], command, environment)  # noqa: S606 - no shell, our own command


VERB = Verb(
    group="keep house",
    shown=(
        ("down --rmi all -v", "remove every trace of this project"),
        ("up|ps|logs|config ...", "docker compose with this project's files"),
        ("compose VERB ...", "docker compose with any of its verbs"),
    ),
    parser=_parser,
    request=_request,
    work=_work,
    passes_on=True,
)
