"""Turns an error of Nix' evaluation into one line: place, cause, hint."""

import os
import re

from orchestrator.agents.builder.nixlog import Problem
from orchestrator.agents.failure import AgentError

#: Pairs: a text in errors of Nix or of nixpkgs' module system, and the hint for it.
WAYS_OUT = (
    (
        "infinite recursion",
        "imports that depend on config or pkgs cause this; --show-trace prints more",
    ),
    ("does not exist. Definition values", "https://search.nixos.org/options"),
    (
        "forbidden in restricted mode",
        "use a relative path within the sent folder, or -I NAME=PATH and <NAME>",
    ),
    ("path '", "files that git ignores or that lie outside of the folder are not sent"),
    ("syntax error", "check the file with nix-instantiate --parse"),
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
    if not hint and not show_trace:
        hint = "--show-trace prints the evaluation's trace"
    detail = known(problem.trace) if show_trace else "\n".join(more)
    first = re.sub(r"\s+Definition values:$", "", first)
    return AgentError(f"{where}{first}", detail=detail, hint=hint, kind="build")
