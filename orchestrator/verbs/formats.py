"""`formats`: print the table of NixOS formats, or rows of it."""

import argparse
import dataclasses

from orchestrator.ask.parser import Parser
from orchestrator.ask.request import Caller
from orchestrator.shared import nixos_formats
from orchestrator.verbs.registry import Session, Verb


@dataclasses.dataclass(frozen=True)
class Formats:
    """What `formats` is asked for.

    Without `names`, all rows are printed; with `brief`, only their names.
    """

    names: tuple[str, ...]
    brief: bool = False


def table() -> str:
    """Return the whole table of formats as text."""
    return nixos_formats.describe(nixos_formats.read_formats())


def work(request: Formats, session: Session) -> int:
    """Print the requested rows of the table."""
    chosen = nixos_formats.chosen(request.names, nixos_formats.read_formats())
    tell = nixos_formats.names if request.brief else nixos_formats.describe
    session.show(tell(chosen))
    return 0


def _parser() -> Parser:
    parser = Parser(
        "formats",
        "Print the table of NixOS image formats, or the named rows of it.",
        examples=(("formats", "all formats"), ("formats amazon qcow-efi", "these rows")),
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    return parser


def _request(found: argparse.Namespace, _who: Caller) -> Formats:
    return Formats(tuple(found.names))


VERB = Verb(
    group="find out",
    shown=(("formats [NAME ...]", "the formats of NixOS images"),),
    parser=_parser,
    request=_request,
    work=work,
    answer=table,
)
