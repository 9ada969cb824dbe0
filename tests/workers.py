"""Decides which tests the same worker runs, one after the other."""

import functools
import pathlib

from xdist.scheduler import LoadScopeScheduling

TESTS = pathlib.Path(__file__).parent


class ByGroup(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Name a test's group: its tests share the engine, /nix or fixtures, so one worker runs all."""

    def _split_scope(self, nodeid: str) -> str:
        path = TESTS.parent / nodeid.partition("::")[0]
        if path.is_relative_to(TESTS / "integration"):
            return "engine"
        return "store" if path in writers_of_nix() else path.name


@functools.cache
def writers_of_nix() -> set[pathlib.Path]:
    """Return the files with tests that are marked `own_store`."""
    files = (TESTS / "tools").glob("test_*.py")
    return {path for path in files if "mark.own_store" in path.read_text()}
