"""Marks in the output for GitHub's and GitLab's jobs: fold groups and annotations.

GitHub: "Workflow commands for GitHub Actions". GitLab: "Custom collapsible sections".
"""

import re

from orchestrator.shared.display import Ci

#: Beginning of a line that GitHub's runner takes for a command; the second form counts anywhere.
_COMMAND = re.compile(r"^(\s*):(?=:)|##(?=\[)", re.MULTILINE)


def harmless(text: str, ci: Ci) -> str:
    """Return text of others so that GitHub's runner finds no command in it."""
    if ci != "github":
        return text
    return _COMMAND.sub(lambda found: f"{found[0]} ", text)


def in_json(text: str) -> str:
    """Return the JSON `text` so that GitHub's runner finds no command in its strings."""
    return text.replace("##[", r"#\u0023[")


def begin(name: str, ci: Ci, now: int) -> str:
    """Return the line that begins a group; `now` is in seconds since 1970. Empty outside of CI."""
    match ci:
        case "github":
            return f"::group::{name}\n"
        case "gitlab":
            return f"\x1b[0Ksection_start:{now}:{_section(name)}\r\x1b[0K{name}\n"
    return ""


def end(name: str, ci: Ci, now: int) -> str:
    """Return the line that ends a group."""
    match ci:
        case "github":
            return "::endgroup::\n"
        case "gitlab":
            return f"\x1b[0Ksection_end:{now}:{_section(name)}\r\x1b[0K\n"
    return ""


def annotation(level: str, text: str, ci: Ci) -> str:
    """Return the line that GitHub shows beside the commit; `level` is warning or error.

    Empty elsewhere: GitLab has no such line.
    """
    if ci != "github":
        return ""
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::{level}::{escaped}\n"


def _section(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)
