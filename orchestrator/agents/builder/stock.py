"""Agent stock: tells what the store has, collects its garbage, checks, repairs and optimises it.

Its argument is a JSON object; `Wish` has the fields. The verb `store` starts it, and `clean
--store`.
"""

import dataclasses
import os
import pathlib
import re
import sys
import time

from orchestrator.agents import events
from orchestrator.agents.builder import collect, demo, holdings, sandbox
from orchestrator.agents.builder.nix import STORE, Nix
from orchestrator.agents.builder.nix_settings import CACHE, CACHE_KEY, Settings
from orchestrator.agents.failure import AgentError, run_agent
from orchestrator.image import closure
from orchestrator.image.tree import TreeError
from orchestrator.shared import command
from orchestrator.shared.constants import MIB
from orchestrator.shared.json_reader import from_json, read_json
from orchestrator.shared.store import Wish

#: Lines of `nix-store --verify` about a path whose content is not what it was when it was built, or
#: that is gone though others need it.
MODIFIED = "was modified!"
CHANGED = re.compile(rf"path '([^']+)' ({MODIFIED}|disappeared, but)")

#: Number of Nix' errors that are shown.
SHOWN = 5


def main() -> None:
    """Run `stock` as the main function of its container."""
    run_agent("stock", stock)


def stock() -> None:
    """Do what the first argument asks for."""
    wish = from_json(Wish, read_json(sys.argv[1], "wish"), "wish")
    os.environ["NIX_CONFIG"] = Settings().text()
    {"list": tell, "gc": gc, "verify": verify, "optimise": optimise}[wish.action](wish)


def repairing(wish: Wish) -> dict[str, str]:
    """Return the environment in which Nix repairs: it builds in the sandbox, or not at all.

    Where the sandbox does not work, a build could change other paths of the store, so what no cache
    has stays as it is, and a warning says why.
    """
    settings = Settings(
        substituters=(CACHE, *wish.substituters),
        trusted_keys=(CACHE_KEY, *wish.trusted_keys),
        sandbox=True,
        sandbox_paths=(demo.UNPACKER,),
    )
    _view, cause = sandbox.examine(Nix(settings, pathlib.Path(os.devnull)), sandbox.USER)
    if cause:
        events.emit(
            "sandbox",
            level="warning",
            message="what no cache has cannot be built again:"
            f" Nix' sandbox does not work here: {cause}",
        )
        settings = dataclasses.replace(settings, sandbox_paths=(), builds=False)
    return settings.environment()


def tell(_wish: Wish) -> None:
    """Report what the store has and what each result holds."""
    with collect.in_use():
        found = holdings.stock(collect.roots(), holdings.read_paths(), collect.kit_roots())
    disk = os.statvfs(STORE)
    events.emit("stock", **dataclasses.asdict(found), free=disk.f_bavail * disk.f_frsize)


def gc(wish: Wish) -> None:
    """Release results as `wish` says, then collect what no other one needs."""

    def release() -> None:
        roots = collect.roots()
        if not roots or (wish.keep, wish.older_than, wish.max_size) == (None, None, None):
            return
        gone = holdings.released(
            roots,
            holdings.read_paths(),
            time.time(),
            keep=wish.keep,
            older_than=wish.older_than,
            max_size=wish.max_size,
        )
        for root in gone:
            name = holdings.image_name(root)
            root.unlink(missing_ok=True)
            events.emit("released", message=f"no longer kept: {name}", name=name)

    collect.collect(release)


def verify(wish: Wish) -> None:
    """Compare each store path with its checksum; with `repair`, fetch or build a changed one."""
    words = ["nix-store", "--verify", "--check-contents", *(["--repair"] if wish.repair else [])]
    with collect.in_use():
        variables = repairing(wish) if wish.repair else None
        done = command.run(words, variables=variables, check=False)
        said = dict(CHANGED.findall(done.stderr.decode(errors="replace")))
        found = list(said)
        try:
            # Nix succeeds, too, if it could not start a build for a repair.
            left = closure.changed(found) if wish.repair else found
        except TreeError as error:
            raise AgentError(f"nix-store --verify: {error}", kind="store") from error
    for path in found:
        what = "changed since it was built" if said[path] == MODIFIED else "gone from the store"
        events.emit("changed", message=f"{what}: {path}", path=path)
    if done.code != 0 and not found:
        raise _unverified(done)
    if left:
        what = f"{len(left)} paths of the store" if len(left) != 1 else left[0]
        if wish.repair:
            problem = "cannot be repaired"
            hint = (
                "a run that needs it builds it again, for other CPUs, too; ./run.sh down -v empties"
                " the store"
            )
        else:
            problem = "is not as it was built" if len(left) == 1 else "are not as they were built"
            hint = "./run.sh store verify --repair fetches or builds what has changed"
        raise AgentError(f"{what} {problem}", hint=hint, kind="store", detail=_errors(done.stderr))
    if done.code != 0:
        raise _unverified(done)
    repaired = f"{len(found)} repaired" if found else "nothing has changed"
    events.emit("verified", message=f"all paths of the store were checked: {repaired}")


def _unverified(done: command.Done) -> AgentError:
    """Return the error for a check that Nix could not make, or a repair that it has not ended."""
    return AgentError(f"nix-store --verify: {done.last}", detail=_errors(done.stderr), kind="store")


def _errors(stderr: bytes) -> str:
    """Return the last errors of Nix in its log `stderr`."""
    lines = stderr.decode(errors="replace").splitlines()
    return "\n".join([line for line in lines if line.startswith("error:")][-SHOWN:])


def optimise(_wish: Wish) -> None:
    """Replace files of the store with the same content by hard links to one of them."""
    before = _used()
    with collect.in_use():
        command.run(["nix-store", "--optimise"], fails=AgentError)
    gained = max(0, before - _used()) // MIB
    events.emit("optimised", message=f"files that are the same are stored once: {gained} MiB less")


def _used() -> int:
    """Return the bytes that are in use on the store's disk."""
    disk = os.statvfs(STORE)
    return (disk.f_blocks - disk.f_bfree) * disk.f_frsize


if __name__ == "__main__":
    main()
