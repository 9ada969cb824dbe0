"""Verifies store paths against the Nix database before an image is made of them.

All runs share the store. A sandboxed build can only read its inputs (`readonly.c`), but a build
without a sandbox can write to every store path, because it runs as the store's user.
"""

from collections.abc import Callable, Iterable

from orchestrator.agents import events
from orchestrator.agents.builder.nix import Nix
from orchestrator.agents.failure import AgentError
from orchestrator.image.closure import changed, closure_of
from orchestrator.image.filesystems.filesystem import FilesystemError
from orchestrator.image.layout import LayoutError
from orchestrator.image.pack import ChangedError
from orchestrator.image.tree import TreeError
from orchestrator.shared.spec import SpecError

#: Errors of the assembly that a store path with other content than at its build may cause.
ERRORS = (SpecError, TreeError, LayoutError, FilesystemError)

#: Advice for a file that cannot get into an image; for what is too small there is another one.
FILES = "look at nixosImage.contents, and at what the configuration makes of that path"

HINT = (
    "./run.sh down -v empties the store, and everything is fetched and built again: store paths"
    " built from a changed one may be wrong, too"
)

#: Why what has changed is not built again where `Keeper.beside_late` forbids it.
NOT_BESIDE = (
    "no cache has it, and without Nix' sandbox nothing is built once late values are there: the"
    " build could read them"
)


def unmade(error: Exception) -> AgentError:
    """Return the error of a run whose image cannot be made because of `error`, one of `ERRORS`."""
    return AgentError(
        str(error), hint=FILES if isinstance(error, TreeError) else "", kind="assembly"
    )


class Keeper:
    """Verifies and repairs store paths; remembers paths that were verified in this run.

    The commands of `nix` repair changed paths.
    """

    def __init__(self, nix: Nix) -> None:
        """Start without verified paths."""
        self._nix = nix
        self._right: set[str] = set()

    def beside_late(self, results: Iterable[str]) -> "Keeper":
        """Return the keeper for the time when late values are there, which no build may read.

        Without the sandbox a repair only fetches then. So paths of the closure of `results` that
        were changed are made again now. The keeper that is returned has verified nothing: builds
        that have left processes may change paths until these are ended.
        """
        if self._nix.isolated:
            return self
        self.hold(closure_of(results))
        return Keeper(self._nix.fetching())

    def hold(self, paths: Iterable[str]) -> None:
        """Verify and repair `paths`, except those verified before.

        Raises `AgentError` if a path is wrong and cannot be repaired.
        """
        new = set(paths) - self._right
        if wrong := changed(new):
            self._mend(wrong)
        self._right |= new

    def attempt[T](self, paths: Iterable[str], make: Callable[[], T]) -> T:
        """Call `make`, which reads `paths`; if paths were changed, repair them and call it again.

        After any assembly error, `paths` are verified first. Raises `AgentError` if they cannot be
        repaired or are changed again.
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
                f"{error}, and again after its repair: does another run write to the store?",
                hint="use --strict in all runs: it forbids builds without a sandbox",
                kind="store",
            ) from error

    def _mend(self, paths: list[str]) -> None:
        """Let Nix fetch or build `paths` again, with a warning for each."""
        for path in paths:
            events.emit(
                "store",
                level="warning",
                message=f"{path} was changed since Nix made it: repairing",
                path=path,
            )
        try:
            self._nix.run(["store", "repair", *paths])
        except AgentError as error:
            cause = str(error) if self._nix.settings.builds else NOT_BESIDE
            raise _lost(paths, cause, error.detail) from error
        if wrong := changed(paths):
            raise _lost(wrong, "the Nix database has another hash")


def _lost(paths: list[str], cause: str, detail: str = "") -> AgentError:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return AgentError(
        f"{paths[0]}{more} in the store was changed and cannot be repaired: {cause}",
        hint=HINT,
        kind="store",
        detail=detail,
    )
