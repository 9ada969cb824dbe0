"""`help`: all verbs, or the options of one.

run.sh prints the same without Docker, from files that `python3 -m orchestrator.verbs.help` makes.
"""

import argparse
import difflib
import typing

from orchestrator.ask.parser import Parser
from orchestrator.ask.request import Caller
from orchestrator.shared.errors import UsageError
from orchestrator.shared.paths import ROOT
from orchestrator.verbs import registry
from orchestrator.verbs.registry import Session, Verb

#: Width of the overview's first column, `./run.sh` and its words.
WIDTH = 32

CLOSING = """\
Each verb has --help. Exit codes: docs/exit-codes.md
"""


def overview() -> str:
    """The first help that a person sees: every verb, by what it is for."""
    rows: dict[str, list[str]] = {group: [] for group in typing.get_args(registry.Group)}
    for name in registry.names():
        verb = registry.verb(name)
        for words, does in verb.shown:
            command = f"./run.sh {words}".ljust(WIDTH)
            rows[verb.group].append(f"  {command}{does}\n")
    groups = [f"To {group}:\n{''.join(lines)}" for group, lines in rows.items()]
    return "\n".join([*groups, CLOSING])


def pages() -> dict[str, str]:
    """The files that run.sh answers from, by their paths in the checkout."""
    verbs = {name: registry.verb(name) for name in registry.names()}
    helps = {f"docs/help/{name}.txt": verb.parser().format_help() for name, verb in verbs.items()}
    answers = {
        f"docs/answers/{name}.txt": verb.answer() for name, verb in verbs.items() if verb.answer
    }
    return helps | answers


def _parser() -> Parser:
    parser = Parser("help", "Print what ./run.sh can do, or the options of one of its verbs.")
    parser.add_argument("verb", nargs="?", default="", metavar="VERB")
    return parser


def _request(found: argparse.Namespace, _who: Caller) -> str:
    """The verb that is asked about, empty for all; raises `UsageError`."""
    name = str(found.verb)
    if name and name not in registry.names():
        near = difflib.get_close_matches(name, registry.names(), n=1)
        hint = f"did you mean {near[0]}?" if near else "./run.sh help"
        raise UsageError(f"help {name}: no such verb of this project's", hint=hint)
    return name


def _work(name: str, session: Session) -> int:
    session.write(registry.verb(name).parser().format_help() if name else overview())
    return 0


VERB = Verb(
    group="find out",
    shown=(("help [VERB]", "print this, or the options of one verb"),),
    parser=_parser,
    request=_request,
    work=_work,
    answer=overview,
)

if __name__ == "__main__":
    for path, text in pages().items():
        (ROOT / path).write_text(text)
