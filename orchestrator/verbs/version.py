"""`version`: print the product's version and the pins that a bug report should name.

run.sh prints the same without Docker, from the checkout's files, and adds the engine's version
(caller/help.sh; a test compares the two).
"""

import argparse
import json
import pathlib

from orchestrator.agents.emulation import ladder
from orchestrator.ask.parser import Parser
from orchestrator.ask.request import Caller
from orchestrator.decide.pins import pinned_nix
from orchestrator.shared.paths import ROOT
from orchestrator.shared.text import columns
from orchestrator.shared.version import NAME, product_version
from orchestrator.verbs.registry import Session, Verb


def versions(home: pathlib.Path = ROOT) -> str:
    """Return version and main pins of the checkout in `home`, one per line."""
    nixpkgs = json.loads((home / "flake.lock").read_text())["nodes"]["nixpkgs"]
    default, *others = ladder.rungs(home / "locks/debian.json")
    rows: list[tuple[str, ...]] = [
        (NAME, product_version(home)),
        ("nixpkgs", f"{nixpkgs['locked']['rev']} ({nixpkgs['original']['ref']})"),
        ("Nix", pinned_nix(home)),
        ("emulators", f"QEMU {default} (default), {', '.join(others)}"),
        ("base image", (home / "locks/base").read_text().strip()),
    ]
    return columns(rows)


def _parser() -> Parser:
    return Parser(
        "version",
        "Print this project's version, its main pins (nixpkgs, Nix, the emulators, the base image)"
        "\nand the Docker engine's version, if it answers at once. ./run.sh pins prints all pins.",
        examples=(("version", "for a bug report"),),
    )


def _request(_found: argparse.Namespace, _who: Caller) -> None:
    """Return None: `version` has no options."""


def _work(_request: None, session: Session) -> int:
    session.show(versions())
    return 0


VERB = Verb(
    group="find out",
    shown=(("version", "this project's version, main pins, and the engine's version"),),
    parser=_parser,
    request=_request,
    work=_work,
)
