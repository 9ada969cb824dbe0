"""Finds the verbs of run.sh: each verb is the module of this folder with its name.

A verb's module defines `VERB`: its options, request, orders to run.sh and work. Every call of
run.sh waits for `prepare`, so that imports only the requested verb's module, and verbs import heavy
modules (Docker's client, progress) inside functions.
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
from orchestrator.shared import ci
from orchestrator.shared.errors import UsageError

PACKAGE = "orchestrator.verbs"

#: Verb of a command line that names none.
DEFAULT = "build"

#: Help options of every argparse parser.
HELP = frozenset({"-h", "--help"})

#: Groups of verbs in the overview, in order.
Group = typing.Literal["make images", "use images", "find out", "keep house"]


@dataclasses.dataclass(frozen=True)
class Session:
    """One call of run.sh.

    `stream` is a file descriptor: run.sh's stdout, or the tar stream that run.sh unpacks. `began`
    is a time of the monotonic clock. `sent` says whether stdin carries the caller's files.
    """

    who: Caller
    stream: int
    began: float
    sent: bool

    def write(self, text: str) -> None:
        """Write `text` to run.sh's stdout."""
        os.write(self.stream, text.encode())

    def show(self, text: str) -> None:
        """Write text for people, or JSON, so that GitHub's runner finds no command in it."""
        is_json = text.startswith(("{", "["))
        self.write(ci.in_json(text) if is_json else ci.harmless(text, self.who.ci))

    def receive(self) -> None:
        """Unpack the caller's files from stdin into the run's folder, unreadable for agents."""
        from orchestrator.deliver import stream
        from orchestrator.docker.workspace import make_shared

        folder = make_shared(self.who.run)
        try:
            stream.receive(uploads.input_folder(self.who))
            uploads.take_lists(self.who)
            uploads.trees(self.who)  # raises if the list of trees, which is sent last, is missing
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def on_terminal(_request: object) -> Orders:
    """Return the orders of a verb that needs only the caller's terminal."""
    return [TERMINAL]


@dataclasses.dataclass(frozen=True)
class Verb[Asked]:
    """One verb of run.sh.

    `parser` makes its argument parser; `request` converts parsed arguments to a request; `orders`
    returns the orders to run.sh for a request; `work` executes it and returns the exit code.

    `shown` are rows of the overview: arguments of ./run.sh, and their meaning. `answer` returns the
    output without arguments, if that needs no Docker: run.sh prints it from a file. With
    `passes_on` all arguments go to another program. With `takes_files` the verb's work reads the
    caller's files from stdin itself.
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
        """Parse the arguments after the verb; raises `UsageError`."""
        if self.passes_on and not HELP.intersection(words[:1]):
            found = argparse.Namespace(words=tuple(words))
        else:
            found = self.parser().parse(words)
        return self.request(found, who)


@functools.cache
def names() -> tuple[str, ...]:
    """Return the names of all verbs, sorted."""
    folder = importlib.import_module(PACKAGE).__path__
    found = {module.name for module in pkgutil.iter_modules(folder)}
    return tuple(sorted(found - {__name__.rpartition(".")[2]}))


def verb(name: str) -> Verb[typing.Any]:
    """Import the verb `name`, which is one of `names()`."""
    return typing.cast("Verb[typing.Any]", importlib.import_module(f"{PACKAGE}.{name}").VERB)


def find(argv: list[str]) -> tuple[Verb[typing.Any], list[str]]:
    """Return the verb of the command line `argv` and its arguments; raises `UsageError`.

    Without a verb it is `DEFAULT`. Docker Compose's own verbs select `compose`.
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
        f"{name}: no such command",
        hint=f"did you mean {near[0]}?" if near else "./run.sh help lists the commands",
    )
