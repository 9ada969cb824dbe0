"""`compose`, and Compose's own verbs: `docker compose` with this project's files."""

import argparse
import dataclasses
import os
import pathlib
import signal
import typing

from orchestrator.ask.parser import Parser
from orchestrator.ask.request import Caller
from orchestrator.shared.errors import UsageError
from orchestrator.verbs import clean
from orchestrator.verbs.registry import Session, Verb

#: Verbs of Docker Compose 2.26. Those that no verb of ours is called by need no `compose` before.
VERBS = frozenset(
    "attach build config cp create down events exec images kill logs ls pause port ps pull push"
    " restart rm run scale start stats stop top unpause up version wait watch".split()
)

#: Those that look at what runs.
ABOUT_RUNS = frozenset({"events", "logs", "ps", "stats", "top"})

#: Those that are about services of every profile.
ABOUT_ALL_SERVICES = frozenset({"build", "config", "down", "images"})


@dataclasses.dataclass(frozen=True)
class Compose:
    """Words for `docker compose`; the first is its verb."""

    words: tuple[str, ...]


def command(words: tuple[str, ...]) -> list[str]:
    """`docker compose` with this project's files; `words` begin with its verb.

    What only looks sees the one run that lives, if it is one.
    """
    from orchestrator.docker import census
    from orchestrator.docker.engine import Engine

    nowhere = pathlib.Path("/nonexistent")
    verb, *rest = words
    engine = Engine("", nowhere)
    if verb in ABOUT_RUNS and len(runs := list(census.serving_runs(engine))) == 1:
        engine = engine if runs == [census.COMPOSE_RUN] else Engine(runs[0], nowhere)
    profiles = ["--profile", "*"] if verb in ABOUT_ALL_SERVICES else []
    # Of what `compose run` has started, which boots images, Compose tells only when asked for all.
    everything = ["--all"] if verb == "ps" else []
    return [*engine.compose_command(), *profiles, verb, *everything, *rest]


def _parser() -> Parser:
    parser = Parser(
        "compose",
        "Run Docker Compose with this project's files: docker compose VERB ...",
        "Verbs of Compose's that this project has none of need no `compose` before them:"
        "\n./run.sh ps",
    )
    parser.usage = f"{parser.prog} VERB [ARGUMENT ...]"
    parser.add_argument("words", nargs="*", metavar="VERB ...", help="of docker compose, untouched")
    return parser


def _request(found: argparse.Namespace, _who: Caller) -> Compose:
    words = tuple(found.words)
    if not words or words[0].startswith("-"):
        raise UsageError(
            "compose: a verb of Docker Compose comes first", hint="./run.sh compose ps"
        )
    return Compose(words)


def _work(request: Compose, session: Session) -> typing.NoReturn:
    """Become `docker compose`; before `down`, nothing of ours may be alive or registered."""
    if request.words[0] == "down":
        clean.work(clean.Clean(everything=True, log_format="auto"), session)
    _become(command(request.words), session.stream)


def _become(command: list[str], stream: int) -> typing.NoReturn:
    """Replace this process, so that signals and the exit code are those of `command`."""
    os.dup2(stream, 1)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_DFL)
    # The run's name is this container's; what Compose starts here is not part of it.
    environment = {name: value for name, value in os.environ.items() if name != "NIXOS_IMAGE_RUN"}
    os.execve(command[0], command, environment)  # noqa: S606 - a command of our own


VERB = Verb(
    group="keep house",
    shown=(
        ("down --rmi all -v", "remove every trace of this project"),
        ("up|ps|logs|config ...", "docker compose with this project's files"),
        ("compose VERB ...", "the same for any verb of docker compose's"),
    ),
    parser=_parser,
    request=_request,
    work=_work,
    passes_on=True,
)
