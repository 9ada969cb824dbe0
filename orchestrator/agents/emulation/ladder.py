"""The pinned versions of qemu-user, in the order in which they are tried.

A program that crashes with one version often runs with another. A rung is one version, named by
QEMU's major and minor number.
"""

import json
import pathlib
import re

from orchestrator.shared.paths import ROOT

#: Debian suite of each rung, and its package of static emulators. The first is the default;
#: docs/compatibility.md has the measurements.
SUITES = {
    "trixie": "qemu-user",
    "trixie-backports": "qemu-user",
    "bookworm": "qemu-user-static",
}

LOCK = ROOT / "locks/debian.json"


def rungs(lock: pathlib.Path = LOCK) -> tuple[str, ...]:
    """Return the names of all rungs; the first is the default."""
    return tuple(json.loads(lock.read_text())["emulators"])


def rung_name(version: str) -> str:
    """Shorten a Debian version: `1:7.2+dfsg-7+deb12u18` -> `7.2`."""
    match = re.match(r"(?:\d+:)?(\d+\.\d+)", version)
    if not match:
        raise ValueError(f"{version} is not a version of QEMU")
    return match[1]


def next_rung(rung: str, lock: pathlib.Path = LOCK) -> str:
    """Return the rung to try after `rung`; after the last it is the first."""
    ladder = rungs(lock)
    return ladder[(ladder.index(rung) + 1) % len(ladder)]
