"""Turns an error of Nix' evaluation or of its fetchers into one line: place, cause, hint."""

import codecs
import os
import pathlib
import re

from orchestrator.agents.builder.nixlog import Problem
from orchestrator.agents.failure import AgentError
from orchestrator.shared.text import plain, public

#: Hint for a folder of the caller's that a flake names as an input.
FOLDER_SENT = "--override-input NAME FOLDER sends a folder for one of the flake's inputs"

#: Errors of Nix' fetchers: an address, and why it cannot be fetched, if Nix tells.
LOST = re.compile(r"unable to download '([^']+)': (.*)|Failed to fetch git repository '([^']+)'")

#: What Nix says that it is doing with a flake's input.
INPUT = re.compile(r"while (?:updating|fetching) the flake input '([^']+)'")

#: Hint for a name that means no configuration of a flake.
NAME_ONE = "--flake 'URI#NAME' names a configuration"

#: Pairs: a text in errors of Nix or of nixpkgs' module system, and the hint for it.
WAYS_OUT = (
    (
        "infinite recursion",
        "imports that depend on config or pkgs cause this; --show-trace prints more",
    ),
    ("does not exist. Definition values", "https://search.nixos.org/options"),
    ("access to URI 'path:", FOLDER_SENT),
    (
        "forbidden in restricted mode",
        "use a relative path within the sent folder, or -I NAME=PATH and <NAME>",
    ),
    ("has no nixosConfigurations.", NAME_ONE),
    ("images are made of a NixOS configuration", NAME_ONE),
    ("path '", "files that git ignores or that lie outside of the folder are not sent"),
    ("syntax error", "check the file with nix-instantiate --parse"),
)


def input_of(problem: Problem | None) -> str:
    """Return the name of the flake's input that Nix was fetching, or ""."""
    found = (INPUT.search(doing) for doing in (problem.doings if problem else ()))
    return next((match[1] for match in found if match), "")


def unreachable(text: str, problem: Problem | None) -> AgentError | None:
    """Make an `AgentError` if the errors `text` tell of an address that cannot be fetched."""
    match = LOST.search(text)
    if not match:
        return None
    address = public(match[1] or match[3])
    why = f": {plain(match[2])}" if match[2] else ""
    if why.count(")") > why.count("("):  # Nix' text in parentheses of another one
        why = why.removesuffix(")")
    hint = "check the network; http_proxy and https_proxy set a proxy"
    if not (name := input_of(problem)):
        return AgentError(f"{address} cannot be fetched{why}", hint=hint, kind="network")
    return AgentError(
        f"the flake's input {name} cannot be fetched: {address}{why}",
        hint=f"{hint}; --override-input {name} FOLDER takes a folder instead",
        kind="network",
    )


def explain(problem: Problem, sources: str, nixpkgs: str, *, show_trace: bool) -> AgentError:
    """Make an `AgentError` of `problem`, with the caller's paths; `sources` has the sent files.

    The place is the innermost line in the caller's files; `nixpkgs` never counts, even if it was
    sent.
    """

    def known(text: str) -> str:
        return text.replace(sources, "") if sources else text

    lines = [line.rstrip() for line in known(problem.text).strip().splitlines()]
    first, *more = [line for line in lines if line] or ["Nix says nothing"]
    asserted = first == "Failed assertions:" and more
    if asserted:
        first, *more = more
        first = f"failed assertion: {first.removeprefix('- ')}"
    if more and more[0].startswith("Reason: "):  # reason why a derivation cannot be built
        first = f"{first} {more.pop(0)}"
    own = (one for one in problem.places if sources and one.startswith(sources + os.sep))
    place = next((one for one in own if not (nixpkgs and one.startswith(nixpkgs + os.sep))), "")
    # An assertion's message gets no place, nor does one that names the file itself.
    named = asserted or place.rpartition(":")[0] in problem.text
    where = f"{known(place)}: " if place and not named else ""
    hint = next((way for words, way in WAYS_OUT if words in problem.text), "")
    if input_of(problem) and first.startswith("path '"):
        first, hint = f"the flake's input {input_of(problem)}: {first}", FOLDER_SENT
    if "syntax error" in problem.text and any(map(_begins_with_mark, problem.places)):
        hint = "the file begins with a byte order mark: save it as UTF-8 without one"
    if not hint and not show_trace:
        hint = "--show-trace prints the evaluation's trace"
    detail = known(problem.trace) if show_trace else "\n".join(more)
    first = re.sub(r"\s+Definition values:$", "", first)
    return AgentError(f"{where}{first}", detail=detail, hint=hint, kind="build")


def _begins_with_mark(place: str) -> bool:
    """Whether the file of FILE:LINE begins with a byte order mark, which Nix does not know."""
    try:
        with pathlib.Path(place.rpartition(":")[0]).open("rb") as file:
            return file.read(3) == codecs.BOM_UTF8
    except OSError:
        return False
