"""Makes `locks/debian.json`: pins of every package, with the versions that the archive has now."""

import argparse
import dataclasses
import json
import pathlib
import sys
import tempfile

from orchestrator.agents.debian import (
    EMULATOR,
    HOSTS,
    ROLES,
    Index,
    Pin,
    fetch,
    repositories,
    resolve_nix,
    roles_of,
)
from orchestrator.agents.emulation import ladder
from orchestrator.agents.failure import AgentError
from orchestrator.shared import command as programs
from orchestrator.shared.architectures import DEBIAN_ARCHITECTURES


def make_lock(snapshot: str, without: dict[str, list[str]]) -> dict[str, object]:
    """Make a lock: resolve every role for every architecture, without the suites in `without`.

    Nix is needed for the hashes of unpacked packages.
    """
    packages: dict[str, dict[str, dict[str, str]]] = {role: {} for role in ROLES}
    for arch in DEBIAN_ARCHITECTURES.values():
        with tempfile.TemporaryDirectory() as folder:
            state = pathlib.Path(folder)
            index = Index(state, arch, without.get(arch, []))
            for role in roles_of(arch):
                pin = index.resolve(role)
                if not fetch(pin, snapshot, state / "deb"):
                    raise AgentError(f"{pin.package} {pin.version} cannot be fetched")
                tree = _tree_hash(state / "deb", state / role)
                packages[role][arch] = _fields(dataclasses.replace(pin, tree=tree))
    return {
        "schema": 1,
        "snapshot": snapshot,
        "without": without,
        "packages": packages,
        "emulators": lock_emulators(without),
        "nix": lock_nix(without),
    }


def lock_emulators(without: dict[str, list[str]]) -> dict[str, dict[str, dict[str, str]]]:
    """Return the lock's section `emulators`: a pin for each rung and host architecture."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for suite, package in ladder.SUITES.items():
        for arch in HOSTS:
            with tempfile.TemporaryDirectory() as state:
                index = Index(pathlib.Path(state), arch, without.get(arch, []), suite)
                pin = index.newest(EMULATOR, package)
            found.setdefault(ladder.rung_name(pin.version), {})[arch] = _fields(pin)
    return found


def lock_nix(without: dict[str, list[str]]) -> dict[str, dict[str, dict[str, str]]]:
    """Return the lock's section `nix`: a pin for each package and host architecture."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for arch in HOSTS:
        for pin in resolve_nix(arch, without.get(arch, [])):
            found.setdefault(pin.role, {})[arch] = _fields(pin)
    return dict(sorted(found.items()))


def _fields(pin: Pin) -> dict[str, str]:
    """Return the lock's fields of `pin`."""
    fields = {key: value for key, value in dataclasses.asdict(pin).items() if value is not None}
    del fields["role"]
    return fields


def _tree_hash(deb: pathlib.Path, tree: pathlib.Path) -> str:
    programs.run(["dpkg-deb", "-x", deb, tree], fails=AgentError)
    command = [
        "nix",
        "--extra-experimental-features",
        "nix-command",
        "hash",
        "path",
        "--sri",
        str(tree),
    ]
    return programs.run(command, fails=AgentError).text.strip()


def _without(text: str) -> tuple[str, str]:
    """Parse `ARCH/SUITE`, a suite to ignore for an architecture."""
    arch, _, suite = text.partition("/")
    if arch not in DEBIAN_ARCHITECTURES.values() or suite not in repositories():
        known = ", ".join(repositories())
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected ARCHITECTURE/SUITE, with a suite of {known}"
        )
    return arch, suite


def main() -> None:
    """Parse the command line; `lock` prints a new lock file."""
    parser = argparse.ArgumentParser(prog="debian_lock")
    verbs = parser.add_subparsers(dest="verb", required=True)
    new = verbs.add_parser("lock")
    new.add_argument("snapshot", help="time of the snapshot archive, YYYYMMDDTHHMMSSZ")
    new.add_argument(
        "--without",
        action="append",
        default=[],
        type=_without,
        metavar="ARCH/SUITE",
        help="ignore a suite whose index for an architecture is broken",
    )
    arguments = parser.parse_args()
    without: dict[str, list[str]] = {}
    for arch, suite in arguments.without:
        without.setdefault(arch, []).append(suite)
    json.dump(make_lock(arguments.snapshot, without), sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
