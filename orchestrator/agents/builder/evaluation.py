"""An error of Nix' evaluation as one line that says where, what and what to do."""

import os
import re

from orchestrator.agents.builder.nixlog import Problem
from orchestrator.agents.failure import AgentError

#: Words of Nix and of nixpkgs' module system, and the way out of each.
WAYS_OUT = (
    (
        "infinite recursion",
        "a module whose imports depend on config or pkgs does that; --show-trace tells more",
    ),
    ("does not exist. Definition values", "https://search.nixos.org/options"),
    (
        "forbidden in restricted mode",
        "only what is sent can be read, by a relative path; or -I NAME=PATH, and <NAME> for it",
    ),
    ("path '", "what git ignores, and what lies outside of the folder, is not sent"),
    ("syntax error", "nix-instantiate --parse, or an editor with Nix' syntax"),
)


def explain(problem: Problem, sources: str, nixpkgs: str, *, show_trace: bool) -> AgentError:
    """`problem` by the caller's paths; below `sources` lies what the caller has sent.

    The place is the nearest line of the caller's own, which `nixpkgs` is not, sent or not.
    """

    def known(text: str) -> str:
        return text.replace(sources, "") if sources else text

    lines = [line.rstrip() for line in known(problem.text).strip().splitlines()]
    first, *more = [line for line in lines if line] or ["Nix says nothing"]
    asserted = first == "Failed assertions:" and more
    if asserted:
        first, *more = more
        first = f"failed assertion: {first.removeprefix('- ')}"
    if more and more[0].startswith("Reason: "):  # of a derivation that cannot be built
        first = f"{first} {more.pop(0)}"
    own = (one for one in problem.places if sources and one.startswith(sources + os.sep))
    place = next((one for one in own if not (nixpkgs and one.startswith(nixpkgs + os.sep))), "")
    # An assertion, and a message that names the file itself, says where better than a trace.
    named = asserted or place.rpartition(":")[0] in problem.text
    where = f"{known(place)}: " if place and not named else ""
    hint = next((way for words, way in WAYS_OUT if words in problem.text), "")
    if not hint and not show_trace:
        hint = "--show-trace tells how Nix got there"
    detail = known(problem.trace) if show_trace else "\n".join(more)
    first = re.sub(r"\s+Definition values:$", "", first)
    return AgentError(f"{where}{first}", detail=detail, hint=hint, kind="build")
