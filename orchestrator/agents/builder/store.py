"""Nix' store, held against Nix' own hashes before an image is made of it: all runs write to it.

A build inside the sandbox can only read its inputs (`readonly.c`). One without can write to every
store path, for it has the store's user.
"""

from collections.abc import Callable, Iterable

from orchestrator.agents import events
from orchestrator.agents.builder.nix import Nix
from orchestrator.agents.failure import AgentError
from orchestrator.image.closure import changed
from orchestrator.image.filesystems.filesystem import FilesystemError
from orchestrator.image.layout import LayoutError
from orchestrator.image.pack import ChangedError
from orchestrator.image.tree import TreeError
from orchestrator.shared.spec import SpecError

#: What an image may fail of because a path of the store is not what it was.
ERRORS = (SpecError, TreeError, LayoutError, FilesystemError)

HINT = (
    "./run.sh down -v empties the store, and all of it is fetched and built again; what was built"
    " of such a path may be wrong, too"
)


class Keeper:
    """Knows which paths of the store were found to be right in this run, and mends others.

    `nix` mends, with `options` of its command line.
    """

    def __init__(self, nix: Nix, options: Iterable[str] = ()) -> None:
        """Nothing is known to be right before."""
        self._nix, self._options = nix, tuple(options)
        self._right: set[str] = set()

    def hold(self, paths: Iterable[str]) -> None:
        """See to it that `paths` are right, those that were already excepted.

        Raises `AgentError` where they are not and cannot be mended.
        """
        new = set(paths) - self._right
        if wrong := changed(new):
            self._mend(wrong)
        self._right |= new

    def attempt[T](self, paths: Iterable[str], make: Callable[[], T]) -> T:
        """What `make` makes of `paths`; once more, if they were not right, after they are mended.

        Whatever it fails of, they are asked first. Raises `AgentError` where they cannot be mended,
        or are changed again and again.
        """
        try:
            return make()
        except (ChangedError, *ERRORS) as error:
            wrong = changed(paths)
            if not wrong and not isinstance(error, ChangedError):
                raise
            if wrong:
                self._mend(wrong)
        try:
            return make()
        except ChangedError as error:
            raise AgentError(
                f"{error}, and again after it was mended: another run's builds write to the store?",
                hint="--strict, in all runs, forbids builds without a sandbox",
                kind="store",
            ) from error

    def _mend(self, paths: list[str]) -> None:
        """Have Nix fetch or build `paths` again; each is named."""
        for path in paths:
            events.emit(
                "store",
                level="warning",
                message=f"{path} is not what Nix has made: it is made again",
                path=path,
            )
        try:
            self._nix.run(["store", "repair", *self._options, *paths])
        except AgentError as error:
            raise _lost(paths, str(error), error.detail) from error
        if wrong := changed(paths):
            raise _lost(wrong, "Nix' database has another hash")


def _lost(paths: list[str], cause: str, detail: str = "") -> AgentError:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return AgentError(
        f"{paths[0]}{more} in the store was changed, and cannot be made again: {cause}",
        hint=HINT,
        kind="store",
        detail=detail,
    )
