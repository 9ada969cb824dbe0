"""`help`: print all verbs, or the options of one.

run.sh prints the same texts without Docker, from files that `python3 -m orchestrator.verbs.help`
generates.
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

#: Width of the overview's first column, which has the command.
WIDTH = 35

#: Folder of what `--help` prints of verbs whose options fill more than a screen.
BRIEF = "docs/help/brief"

CLOSING = """\
Each verb has --help. Exit codes: docs/exit-codes.md
"""


def overview() -> str:
    """Return the overview of all verbs, in groups."""
    rows: dict[str, list[str]] = {group: [] for group in typing.get_args(registry.Group)}
    for name in registry.names():
        verb = registry.verb(name)
        for words, does in verb.shown:
            command = f"./run.sh {words}".ljust(WIDTH)
            rows[verb.group].append(f"  {command}{does}\n")
    groups = [f"To {group}:\n{''.join(lines)}" for group, lines in rows.items()]
    return "\n".join([*groups, CLOSING])


def pages() -> dict[str, str]:
    """Return the help and answer files of run.sh: content by path in the checkout."""
    verbs = {name: registry.verb(name) for name in registry.names()}
    parsers = {name: verb.parser() for name, verb in verbs.items()}
    helps = {f"docs/help/{name}.txt": parser.format_help() for name, parser in parsers.items()}
    helps |= {
        f"{BRIEF}/{name}.txt": parser.brief() for name, parser in parsers.items() if parser.often
    }
    answers = {
        f"docs/answers/{name}.txt": verb.answer() for name, verb in verbs.items() if verb.answer
    }
    return helps | answers


def _parser() -> Parser:
    parser = Parser(
        "help",
        "Print all verbs of ./run.sh, or the options of one verb.",
        examples=(("help", "all verbs"), ("help build", "the options of a build")),
    )
    parser.add_argument("verb", nargs="?", default="", metavar="VERB")
    return parser


def _request(found: argparse.Namespace, _who: Caller) -> str:
    """Return the named verb, empty for all; raises `UsageError`."""
    name = str(found.verb)
    if name and name not in registry.names():
        near = difflib.get_close_matches(name, registry.names(), n=1)
        hint = f"did you mean {near[0]}?" if near else "./run.sh help lists the commands"
        raise UsageError(f"help {name}: no such verb", hint=hint)
    return name


def _work(name: str, session: Session) -> int:
    session.show(registry.verb(name).parser().format_help() if name else overview())
    return 0


VERB = Verb(
    group="find out",
    shown=(("help [VERB]", "print this overview, or the options of one verb"),),
    parser=_parser,
    request=_request,
    work=_work,
    answer=overview,
)

if __name__ == "__main__":
    for path, text in pages().items():
        (ROOT / path).write_text(text)
