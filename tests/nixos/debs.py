"""Debian packages of the stand-ins: `lock` prints the lock file, `fetch` downloads what it pins.

`make-tree` runs it in the builder's image, which has apt, Nix and the agents.
"""

import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

from orchestrator.agents.debian import DEMOS, Index, Pin, fetch, left_out, read_lock
from orchestrator.agents.failure import AgentError
from orchestrator.shared.paths import ROOT

HERE = pathlib.Path(__file__).parent / "stand-in"
LOCK = HERE / "debian.json"

#: The product's own lock file, which says which suites have no whole index for an architecture.
PRODUCT = ROOT / "locks/debian.json"

#: The same for the architectures that the product pins nothing of.
WITHOUT = {
    "armhf": frozenset({"trixie-updates", "trixie-security"}),
    "i386": frozenset({"trixie-updates", "trixie-security", "bookworm-security"}),
}

#: Debian's flavour of the kernel for each architecture; there is no demo for armhf and i386.
FLAVOURS = {
    **{arch: demo.kernel for arch, (_, demo) in DEMOS.items()},
    "armhf": "armmp",
    "i386": "686-pae",
}

#: The last suite with a kernel for an architecture, where the base suite has none any more.
KERNELS = {"i386": "bookworm"}


def lock(snapshot: str) -> dict[str, object]:
    """Resolve the kernel, all packages of the table, and their libraries."""
    table = json.loads(
        subprocess.run(
            ["nix-instantiate", "--eval", "--strict", "--json", HERE / "packages.nix"],
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
    )
    named = {*table["tools"], *(name for names in table["debian"].values() for name in names)}
    packages: dict[str, dict[str, dict[str, str]]] = {}
    for arch, flavour in FLAVOURS.items():
        others = set(table["absent"].get(arch, ()))
        if arch not in table["pc"]["of"]:
            others |= set(table["pc"]["packages"])
        with tempfile.TemporaryDirectory() as state, tempfile.TemporaryDirectory() as older:
            without = WITHOUT.get(arch) or left_out(PRODUCT, arch)
            index = Index(pathlib.Path(state), arch, without)
            suite = KERNELS.get(arch)
            kernels = Index(pathlib.Path(older), arch, without, suite) if suite else index
            pins = {"kernel": kernels.kernel(flavour)}
            here = named - others - {"kernel"} - set(table["alone"])
            for group in (sorted(here), *([name] for name in table["alone"])):
                pins |= {pin.role: pin for pin in index.closure(group) if _wanted(pin.role, named)}
        for role, pin in pins.items():
            packages.setdefault(role, {})[arch] = {
                "package": pin.package,
                "version": pin.version,
                "suite": pin.suite,
                "path": pin.path,
                "sha256": pin.sha256,
            }
    return {"schema": 1, "snapshot": snapshot, "packages": dict(sorted(packages.items()))}


def _wanted(name: str, named: set[str]) -> bool:
    """Whether the stand-ins use the package `name`: those in the table, and libraries."""
    return name in named or name.startswith("lib") or name == "zlib1g"


def download(arch: str, target: pathlib.Path) -> None:
    """Download the pinned packages for `arch` to `target`, except existing ones."""
    document = json.loads(LOCK.read_text())
    roles = [role for role, pins in document["packages"].items() if arch in pins]
    target.mkdir(parents=True, exist_ok=True)
    for pin in read_lock(LOCK, arch, roles):
        deb = target / f"{pin.role}.deb"
        if not _is(deb, pin) and not fetch(pin, document["snapshot"], deb):
            raise AgentError(f"{pin.package} {pin.version} cannot be fetched")


def _is(deb: pathlib.Path, pin: Pin) -> bool:
    return deb.exists() and hashlib.sha256(deb.read_bytes()).hexdigest() == pin.sha256


def main() -> None:
    """`lock TIME`, or `fetch FOLDER ARCH...` into FOLDER/ARCH."""
    parser = argparse.ArgumentParser(prog="debs")
    verbs = parser.add_subparsers(dest="verb", required=True)
    new = verbs.add_parser("lock")
    new.add_argument("snapshot", help="a time as YYYYMMDDTHHMMSSZ")
    get = verbs.add_parser("fetch")
    get.add_argument("folder", type=pathlib.Path)
    get.add_argument("arch", nargs="+", choices=sorted(FLAVOURS))
    arguments = parser.parse_args()
    if arguments.verb == "lock":
        json.dump(lock(arguments.snapshot), sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    for arch in arguments.arch:
        download(arch, arguments.folder / arch)


if __name__ == "__main__":
    main()
