"""Turns an error of Nix' evaluation or of its fetchers into one line: place, cause, hint."""

import codecs
import os
import pathlib
import re

from orchestrator.agents.builder.nixlog import Problem
from orchestrator.agents.failure import AgentError
from orchestrator.shared.codes import CODES, recognise
from orchestrator.shared.run import APPLIANCE_TEXT
from orchestrator.shared.text import plain, public, whole

#: Errors of Nix' fetchers: an address, and why it cannot be fetched, if Nix tells.
LOST = re.compile(r"unable to download '([^']+)': (.*)|Failed to fetch git repository '([^']+)'")

#: What Nix says that it is doing with a flake's input.
INPUT = re.compile(r"while (?:updating|fetching) the flake input '([^']+)'")

#: A suggestion of Nix or of nixpkgs' module system for a misspelled name.
SUGGESTION = re.compile(r"[Dd]id you mean (.+)\?")

#: What Nix says that it is doing with an argument of a module that is no special argument.
ARGUMENT = re.compile(r"while evaluating the module argument `([^']+)' in")

#: Arguments that each module gets.
GIVEN = frozenset({"config", "lib", "modulesPath", "options", "pkgs", "utils"})

#: nixpkgs' words for the file that defines an option.
DEFINED = re.compile(r"- In `([^']+)'")

#: A name that Nix tells of.
QUOTED = re.compile("'([^']+)'")

#: An option that nixpkgs tells of.
OPTION = re.compile(r"option `([^']+)'")

#: Longest line of a file, and most bytes of a file, that an excerpt is made of.
LINE, FILE_BYTES = 160, 1 << 20


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
    sent. The line itself is the excerpt.
    """

    def known(text: str) -> str:
        return text.replace(sources, "") if sources else text

    told = recognise(_argument_of(problem) or problem.text)
    lines = [line.rstrip() for line in known(problem.text).strip().splitlines()]
    first, *more = [line for line in lines if line] or ["Nix says nothing"]
    asserted = first == "Failed assertions:" and more
    if asserted:
        first, *more = more
        first = f"failed assertion: {first.removeprefix('- ')}"
    if more and more[0].startswith("Reason: "):  # reason why a derivation cannot be built
        first = f"{first} {more.pop(0)}"
    place = _place(problem, sources, nixpkgs)
    # An assertion's message gets no place, nor does one that names the file itself.
    named = asserted or (place.rpartition(":")[0] in problem.text and not (told and told.text))
    where = f"{known(place)}: " if place and not named else ""
    if origin := _origin(place, problem.text, sources):
        where = f"{pathlib.Path(origin).parent.name}:{origin.rpartition(':')[2]}: "
    hint, code = (told.remedy, told.code) if told else ("", "")
    if told and told.text:
        first, more = known(told.text), [] if told.whole else more
    if meant := SUGGESTION.search(problem.trace):
        hint = f"did you mean {re.sub("[`']", '', meant[1])}?"
        more = [line for line in more if not SUGGESTION.search(line)]
    if input_of(problem) and first.startswith("path '"):
        hint, code = CODES["missing-input"].remedy, "missing-input"
        first = f"the flake's input {input_of(problem)}: {first}"
    if "syntax error" in problem.text and any(map(_begins_with_mark, problem.places)):
        hint = "the file begins with a byte order mark: save it as UTF-8 without one"
    if not hint and not show_trace:
        hint = "-v shows the evaluation's trace"
    return AgentError(
        f"{where}{first}",
        detail="\n".join(more),
        hint=hint,
        kind="build",
        code=code,
        excerpt=excerpt(origin or place),
        trace=known(problem.trace) if show_trace else "",
    )


def _argument_of(problem: Problem) -> str:
    """Return what Nix was doing if the error is that a module's argument is not given, or "".

    An argument that `imports` need ends as an endless recursion, any other as a missing attribute.
    """
    for doing in problem.doings:
        if (match := ARGUMENT.search(doing)) and match[1] not in GIVEN:
            words = ("infinite recursion encountered", f"attribute '{match[1]}' missing")
            return doing if any(one in problem.text for one in words) else ""
    return ""


def _place(problem: Problem, sources: str, nixpkgs: str) -> str:
    """Return FILE:LINE of the caller's file that the problem is about, or "".

    nixpkgs tells the file that defines an option, without a line: that is looked for.
    """

    def own(place: str) -> bool:
        theirs = nixpkgs and place.startswith(nixpkgs + os.sep)
        return bool(sources) and place.startswith(sources + os.sep) and not theirs

    option = OPTION.search(problem.text)
    for match in DEFINED.finditer(problem.text) if option else ():
        file = f"{match[1]}/default.nix" if pathlib.Path(match[1]).is_dir() else match[1]
        if option and own(file) and (line := _line_of(option[1], file)):
            return f"{file}:{line}"
    return next((place for place in problem.places if own(place)), "")


def _origin(place: str, text: str, sources: str) -> str:
    """Return FILE:LINE of an appliance.toml's line that has a word that `text` quotes, or "".

    `place` is FILE:LINE of the module that was made of it, in a folder of the file's name.
    """
    folder = pathlib.Path(place).parent
    if not sources or folder.parent != pathlib.Path(sources):
        return ""
    words = [re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])") for word in QUOTED.findall(text)]
    for number, line in enumerate(_lines(os.fspath(folder / APPLIANCE_TEXT)), 1):
        if any(word.search(line.partition("#")[0]) for word in words):
            return f"{folder / APPLIANCE_TEXT}:{number}"
    return ""


def _line_of(option: str, file: str) -> int:
    """Return the number of the first line of `file` that names the end of `option`, or 0."""
    parts = option.split(".")
    # The name may be written whole, or in nested sets: the longest end that a line has counts.
    for start in range(len(parts)):
        name = re.compile(rf"(?<![\w-]){re.escape('.'.join(parts[start:]))}(?![\w-])")
        for number, line in enumerate(_lines(file), 1):
            if name.search(line.partition("#")[0]):
                return number
    return 0


def excerpt(place: str) -> str:
    """Return the line of FILE:LINE with its number, or "" if it cannot be read."""
    file, _, number = place.rpartition(":")
    at = whole(number) or 0
    lines = dict(enumerate(_lines(file), 1)) if at else {}
    line = lines.get(at, "").rstrip()
    return f"  {number} | {line[:LINE]}" if line else ""


def _lines(file: str) -> list[str]:
    try:
        with pathlib.Path(file).open(errors="replace") as text:
            return text.read(FILE_BYTES).splitlines()
    except (OSError, ValueError):
        return []


def _begins_with_mark(place: str) -> bool:
    """Whether the file of FILE:LINE begins with a byte order mark, which Nix does not know."""
    try:
        with pathlib.Path(place.rpartition(":")[0]).open("rb") as file:
            return file.read(3) == codecs.BOM_UTF8
    except OSError:
        return False
