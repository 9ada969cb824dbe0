"""Verifies store paths against the Nix database before an image is made of them.

All runs share the store. A sandboxed build can only read its inputs (`readonly.c`), but a build
without a sandbox can write to every store path, because it runs as the store's user.
"""

from collections.abc import Callable, Iterable

from orchestrator.agents import events
from orchestrator.agents.builder.nix import Nix, answer
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

#: Time limit in seconds for the question which store paths are signed.
ASK_SECONDS = 120

#: Why what has changed is not built again where `Keeper.for_assembly` forbids it.
NOT_BUILT = (
    "no cache has it, and nothing is built beside images: without Nix' sandbox the build could"
    " change them or read late values, and builders on other machines are let go before such values"
    " come"
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

    def for_assembly(self, results: Iterable[str], *, late: bool) -> "Keeper":
        """Return the keeper for the time when images of `results` are made, with `late` values.

        Without the sandbox a repair only fetches then, because a build could read late values, or
        leave a process that changes images. The same holds with the sandbox if late values come
        and builders on other machines are used: their keys are gone then (`alone.receive_late`).
        In both cases paths of the closure of `results` that were changed, and that no cache has
        signed, are made again now; others can be fetched at any time, and reading them here would
        cost a third of an assembly. The keeper that is returned then has verified nothing: builds
        that have left processes may change paths until these are ended.
        """
        if self._nix.isolated and not (late and self._nix.crew.alive):
            return self
        self.hold(self._unsigned(closure_of(results)))
        return Keeper(self._nix.fetching())

    def _unsigned(self, paths: list[str]) -> list[str]:
        """Return those of `paths` without a signature, which a cache may not have."""
        words = ["path-info", "--json", "--json-format", "1", "--stdin"]
        said = self._nix.ask(words, ASK_SECONDS, stdin="".join(f"{path}\n" for path in paths))
        return answer(
            said.text, lambda found: [path for path in paths if not found[path]["signatures"]]
        )

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
            cause = str(error) if self._nix.settings.builds else NOT_BUILT
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
