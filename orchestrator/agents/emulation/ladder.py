"""The ladder of emulators: the versions of qemu-user that are pinned, in the order of trying them.

What crashes with one often runs with another. A rung is named by QEMU's major and minor version.
"""

import json
import pathlib
import re

from orchestrator.shared.paths import ROOT

#: Debian's suites that have a rung each, and the package with its static programs. The first is the
#: default: docs/compatibility.md has what was measured.
SUITES = {
    "trixie": "qemu-user",
    "trixie-backports": "qemu-user",
    "bookworm": "qemu-user-static",
}

LOCK = ROOT / "locks/debian.json"


def rungs(lock: pathlib.Path = LOCK) -> tuple[str, ...]:
    """Names of all rungs; the first is the default."""
    return tuple(json.loads(lock.read_text())["emulators"])


def rung_name(version: str) -> str:
    """`1:7.2+dfsg-7+deb12u18` -> `7.2`."""
    match = re.match(r"(?:\d+:)?(\d+\.\d+)", version)
    if not match:
        raise ValueError(f"{version} is no version of QEMU's")
    return match[1]


def next_rung(rung: str, lock: pathlib.Path = LOCK) -> str:
    """What to try after `rung`; after the last it is the first."""
    ladder = rungs(lock)
    return ladder[(ladder.index(rung) + 1) % len(ladder)]
