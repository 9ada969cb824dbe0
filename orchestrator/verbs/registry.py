"""The verbs of run.sh: each is one module of this folder, which is found by its name.

A verb's module has its options, its request, its orders to run.sh and what it does, as `VERB`. On
the way of `prepare`, which is paid on every call of run.sh, only the module of the verb that was
asked for is imported, and it imports what is heavy (Docker's client, progress) in its functions.
"""

import argparse
import dataclasses
import difflib
import functools
import importlib
import os
import pkgutil
import shutil
import typing
from collections.abc import Callable

from orchestrator.ask import uploads
from orchestrator.ask.orders import TERMINAL, Orders
from orchestrator.ask.parser import Parser
from orchestrator.ask.request import Caller
from orchestrator.shared.errors import UsageError

PACKAGE = "orchestrator.verbs"

#: What run.sh does where the command line names no verb.
DEFAULT = "build"

#: Options that argparse gives to every parser.
HELP = frozenset({"-h", "--help"})

#: In the overview verbs stand below these, in this order.
Group = typing.Literal["make images", "use images", "find out", "keep house"]


@dataclasses.dataclass(frozen=True)
class Session:
    """The call that a verb works for.

    `stream` is a file descriptor: run.sh's standard output, or what it unpacks. `began` is on the
    monotonic clock. `sent` says whether files of the caller's come in on stdin.
    """

    who: Caller
    stream: int
    began: float
    sent: bool

    def write(self, text: str) -> None:
        """Write `text` to the standard output of run.sh."""
        os.write(self.stream, text.encode())

    def receive(self) -> None:
        """Unpack what run.sh sends into the run's folder; nobody else can look into that yet."""
        from orchestrator.deliver import stream
        from orchestrator.docker.workspace import make_shared

        folder = make_shared(self.who.run)
        try:
            stream.receive(uploads.input_folder(self.who))
            uploads.trees(self.who)  # comes last: nothing is missing
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def on_terminal(_request: object) -> Orders:
    """The orders of a verb that reads and writes the caller's terminal, and nothing else."""
    return [TERMINAL]


@dataclasses.dataclass(frozen=True)
class Verb[Asked]:
    """One verb.

    `parser` has its options; `request` makes of what that has found what is asked for; `orders` are
    what run.sh must do for a request; `work` fulfils it and returns the exit code.

    `shown` are rows of the overview: words after ./run.sh, and what they do. `answer` is what the
    verb prints where nothing but its name was given, if that needs neither Docker nor a request.
    With `passes_on` all words go to another program. With `takes_files` the verb's work takes what
    run.sh sends off stdin by itself.
    """

    group: Group
    shown: tuple[tuple[str, str], ...]
    parser: Callable[[], Parser]
    request: Callable[[argparse.Namespace, Caller], Asked]
    work: Callable[[Asked, Session], int]
    orders: Callable[[Asked], Orders] = on_terminal
    answer: Callable[[], str] | None = None
    passes_on: bool = False
    takes_files: bool = False

    def ask(self, words: list[str], who: Caller) -> Asked:
        """The request of the `words` after the verb; raises `UsageError`."""
        if self.passes_on and not HELP.intersection(words[:1]):
            found = argparse.Namespace(words=tuple(words))
        else:
            found = self.parser().parse_args(words)
        return self.request(found, who)


@functools.cache
def names() -> tuple[str, ...]:
    """All verbs, in the order of the alphabet."""
    folder = importlib.import_module(PACKAGE).__path__
    found = {module.name for module in pkgutil.iter_modules(folder)}
    return tuple(sorted(found - {__name__.rpartition(".")[2]}))


def verb(name: str) -> Verb[typing.Any]:
    """The verb `name`, which is one of `names`."""
    return typing.cast("Verb[typing.Any]", importlib.import_module(f"{PACKAGE}.{name}").VERB)


def find(argv: list[str]) -> tuple[Verb[typing.Any], list[str]]:
    """The verb of the command line `argv`, and the words that are for it; raises `UsageError`.

    Without a verb it is `DEFAULT`. Docker Compose's verbs that are none of ours are for `compose`.
    """
    if not argv or argv[0].startswith("-"):
        return verb(DEFAULT), argv
    name, *words = argv
    if name in names():
        return verb(name), words
    from orchestrator.verbs import compose

    if name in compose.VERBS:
        return compose.VERB, argv
    near = difflib.get_close_matches(name, [*names(), *compose.VERBS], n=1)
    raise UsageError(
        f"{name}: no such command", hint=f"did you mean {near[0]}?" if near else "./run.sh help"
    )
