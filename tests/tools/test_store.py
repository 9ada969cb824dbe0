"""Tests changed store paths: they are reported and repaired, or the run fails."""

import dataclasses
import pathlib
from collections.abc import Callable

import pytest

from orchestrator.agents.builder.nix import Nix
from orchestrator.agents.builder.nix_settings import Settings
from orchestrator.agents.builder.store import Keeper
from orchestrator.agents.failure import AgentError
from orchestrator.image.closure import changed
from orchestrator.image.filesystems.filesystem import FilesystemError
from orchestrator.image.pack import ChangedError
from tests.tools.nix_store import add, poisoned, run

pytestmark = pytest.mark.own_store

#: Options by which Nix knows the commands `nix key` and `nix store`.
NEW = ("--extra-experimental-features", "nix-command")


@dataclasses.dataclass(frozen=True)
class MendingNix(Nix):
    """Fake Nix, whose repair calls a function of the test."""

    asked: list[list[str]] = dataclasses.field(default_factory=list)
    mend: Callable[[], object] = lambda: None

    def run(self, arguments: list[str]) -> str:
        self.asked.append(arguments)
        self.mend()
        return ""


def nix(mend: Callable[[], object] = lambda: None) -> MendingNix:
    return MendingNix(Settings(), pathlib.Path("/nowhere"), mend=mend)


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    (tmp_path / "held").write_text("right")
    return add(tmp_path / "held")


def test_what_is_right_is_read_once(path: str) -> None:
    mender = nix()
    keeper = Keeper(mender)
    keeper.hold([path])
    with poisoned(path):
        keeper.hold([path])
    assert mender.asked == []
    assert changed([]) == []


def test_what_is_wrong_is_named_and_mended(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    with poisoned(path):
        mender = nix(lambda: pathlib.Path(path).write_text("right"))
        Keeper(mender).hold([path])
    assert mender.asked == [["store", "repair", path]]
    assert f"{path} was changed since Nix made it" in capsys.readouterr().out


def test_what_cannot_be_mended_ends_the_run(path: str) -> None:
    with poisoned(path), pytest.raises(AgentError, match=f"{path} in the store was") as caught:
        Keeper(nix()).hold([path])
    assert caught.value.kind == "store"
    assert "./run.sh down -v" in caught.value.hint

    def fail() -> None:
        raise AgentError("cannot repair path", detail="the log's end")

    with poisoned(path), pytest.raises(AgentError, match="repaired: cannot repair path") as caught:
        Keeper(nix(fail)).hold([path])
    assert (caught.value.kind, caught.value.detail) == ("store", "the log's end")


@pytest.mark.parametrize("error", [ChangedError(["x"]), FilesystemError("mke2fs: too large")])
def test_whatever_an_image_fails_of_the_store_is_asked(path: str, error: Exception) -> None:
    turns = []

    def make() -> str:
        turns.append(1)
        if len(turns) == 1:
            raise error
        return "image"

    with poisoned(path):
        mender = nix(lambda: pathlib.Path(path).write_text("right"))
        assert Keeper(mender).attempt([path], make) == "image"
    assert mender.asked == [["store", "repair", path]]


def test_another_failure_is_told_as_it_is(path: str) -> None:
    def fail() -> None:
        raise FilesystemError("mke2fs: too large")

    mender = nix()
    with pytest.raises(FilesystemError, match="too large"):
        Keeper(mender).attempt([path], fail)
    assert mender.asked == []


def test_a_store_that_changes_all_the_time_ends_the_run(path: str) -> None:
    turns = []

    def fail() -> None:
        turns.append(1)
        raise ChangedError([path])

    with pytest.raises(AgentError, match=f"{path} was changed, and again") as caught:
        Keeper(nix()).attempt([path], fail)
    assert caught.value.kind == "store"
    assert len(turns) == 2


@pytest.mark.parametrize("late", [True, False])
def test_without_a_sandbox_what_was_changed_is_built_again_before_assembly_and_not_after(
    late: bool, path: str
) -> None:
    """A build could read late values, or leave a process that changes images."""
    with poisoned(path):
        mender = nix(lambda: pathlib.Path(path).write_text("right"))
        Keeper(mender).for_assembly([path], late=late)
        assert mender.asked == [["store", "repair", path]]

    def fail() -> None:
        raise AgentError("unable to start any build", kind="build")

    later = Keeper(nix(fail)).for_assembly([path], late=late)
    with poisoned(path), pytest.raises(AgentError, match="nothing is built beside") as caught:
        later.hold([path])
    assert caught.value.kind == "store"


def test_what_a_cache_has_signed_is_not_read_twice(tmp_path: pathlib.Path) -> None:
    """It can be fetched again at any time."""
    (tmp_path / "signed").write_text("right")
    path, key = add(tmp_path / "signed"), tmp_path / "key"
    key.write_text(run("nix", *NEW, "key", "generate-secret", "--key-name", "cache"))
    run("nix", *NEW, "store", "sign", "--key-file", str(key), path)
    mender = nix()
    with poisoned(path):
        Keeper(mender).for_assembly([path], late=False)
    assert mender.asked == []


@pytest.mark.parametrize("late", [True, False])
def test_in_the_sandbox_what_was_changed_is_built_again_at_any_time(late: bool, path: str) -> None:
    mender = dataclasses.replace(nix(), isolated=True)
    keeper = Keeper(mender)
    with poisoned(path):
        assert keeper.for_assembly([path], late=late) is keeper
    assert mender.asked == []
