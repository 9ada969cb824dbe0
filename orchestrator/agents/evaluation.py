"""An error of Nix' evaluation as one line that says where, what and what to do."""

import os
import re

from orchestrator.agents.failure import AgentError
from orchestrator.agents.nixlog import Problem

#: Words of Nix and of nixpkgs' module system, and the way out of each.
WAYS_OUT = (
    (
        "infinite recursion",
        "a module whose imports depend on config or pkgs does that; --show-trace tells more",
    ),
    ("does not exist. Definition values", "https://search.nixos.org/options"),
    ("path '", "what git ignores, and what lies outside of the folder, is not sent"),
    ("syntax error", "nix-instantiate --parse, or an editor with Nix' syntax"),
)


def explain(problem: Problem, sources: str, *, show_trace: bool) -> AgentError:
    """`problem` by the caller's paths; below `sources` lies what the caller has sent."""

    def known(text: str) -> str:
        return text.replace(sources, "") if sources else text

    lines = [line.rstrip() for line in known(problem.text).strip().splitlines()]
    first, *more = [line for line in lines if line] or ["Nix says nothing"]
    if first == "Failed assertions:" and more:
        first, *more = more
        first = f"failed assertion: {first.removeprefix('- ')}"
    inside = sources + os.sep
    place = next((known(one) for one in problem.places if sources and one.startswith(inside)), "")
    # A message that names the file itself need not be told where.
    where = f"{place}: " if place and place.rpartition(":")[0] not in problem.text else ""
    hint = next((way for words, way in WAYS_OUT if words in problem.text), "")
    if not hint and not show_trace:
        hint = "--show-trace tells how Nix got there"
    detail = known(problem.trace) if show_trace else "\n".join(more)
    first = re.sub(r"\s+Definition values:$", "", first)
    return AgentError(f"{where}{first}", detail=detail, hint=hint, kind="build")
