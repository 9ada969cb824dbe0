"""Tests that staging folders of earlier versions go (a dead run's, not a living one's), and own."""

import errno
import os
import pathlib
import subprocess
import sys
import types
import typing

import pytest

from orchestrator.image import assemble, staging
from orchestrator.image.filesystems.filesystem import Order
from orchestrator.image.filesystems.staged_tree import staged
from orchestrator.image.pack import ChangedError
from orchestrator.image.tree import Tree
from orchestrator.shared.spec import ImageSpec


@pytest.fixture(autouse=True)
def builds(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(staging, "FOLDER", tmp_path)
    return tmp_path


#: A run of an earlier version: locks the folder that it is given, and says so.
LIVING = (
    "import fcntl, os, sys, time; lock = os.open(sys.argv[1], os.O_RDONLY);"
    "fcntl.flock(lock, fcntl.LOCK_EX); print(flush=True); time.sleep(60)"
)


@pytest.mark.parametrize("locked", [".", "nixos-image-a"], ids=["it makes links", "it has made"])
def test_a_living_runs_folder_stays_and_a_killed_ones_goes(
    locked: str, builds: pathlib.Path
) -> None:
    (builds / "nixos-image-a/root").mkdir(parents=True)
    (builds / "nixos-image-a/root").chmod(0o555)
    command = [sys.executable, "-c", LIVING, os.fspath(builds / locked)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert staging.sweep(everything=True) == staging.Swept()
        assert (builds / "nixos-image-a/root").is_dir()
        process.kill()
    assert staging.sweep() == staging.Swept(("nixos-image-a",))
    assert list(builds.iterdir()) == []


def test_what_earlier_versions_left_goes_when_nobody_else_is_there(builds: pathlib.Path) -> None:
    (builds / "nix-build-a.drv-0/b").mkdir(parents=True)
    (builds / "nix-build-a.drv-0/b").chmod(0)
    (builds / "link").symlink_to("/etc")
    assert staging.sweep() == staging.Swept()
    assert staging.sweep(everything=True) == staging.Swept(("nix-build-a.drv-0",))


@pytest.mark.parametrize(("depth", "letters"), [(40, 200), (2500, 1)])
def test_a_folder_of_any_depth_is_removed(builds: pathlib.Path, depth: int, letters: int) -> None:
    """Its path is longer than a path may be, or it is deeper than the number of open files."""
    inner = builds / "nixos-image-deep"
    inner.mkdir()
    folder = os.open(inner, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d" * letters, dir_fd=folder)
        (opened, last) = (os.open("d" * letters, os.O_RDONLY, dir_fd=folder), folder)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=opened))
        os.fchmod(last, 0o500)
        os.close(last)
        folder = opened
    os.close(folder)
    inner.chmod(0o700)
    assert staging.sweep() == staging.Swept(("nixos-image-deep",))
    assert list(builds.iterdir()) == []


def test_a_folder_that_cannot_be_removed_is_told_and_others_go(
    builds: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "SWEEP_SECONDS", -1)
    (builds / "nixos-image-a/full").mkdir(parents=True)
    (builds / "nixos-image-b").mkdir()
    left = {"nixos-image-a": "Connection timed out"}
    assert staging.sweep() == staging.Swept(("nixos-image-b",), left)


def test_many_folders_have_no_more_time_than_one(
    builds: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build without a sandbox may have left as many as it likes."""
    now = 0.0

    def never_done(_folder: pathlib.Path, seconds: float) -> None:
        nonlocal now
        now += max(0, seconds)
        raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    monkeypatch.setattr(staging, "time", types.SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(staging, "empty", never_done)
    for name in "abc":
        (builds / f"nixos-image-{name}").mkdir()
    assert list(staging.sweep().left) == ["nixos-image-a", "nixos-image-b", "nixos-image-c"]
    assert now == staging.SWEEP_SECONDS


@pytest.mark.parametrize("change", ["file", "link", "nothing", "closed"])
def test_a_build_ends_no_later_run_by_what_it_leaves_in_the_folders_place(
    builds: pathlib.Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    place = builds / "builds"
    monkeypatch.setattr(staging, "FOLDER", place)
    (builds / "elsewhere/nixos-image-x").mkdir(parents=True)
    if change == "file":
        place.touch()
    elif change == "link":
        place.symlink_to(builds / "elsewhere")
    elif change == "closed":
        place.mkdir(mode=0)
    assert staging.sweep() == staging.Swept()
    assert (builds / "elsewhere/nixos-image-x").exists()


FULL = OSError(errno.ENOSPC, "No space left on device")


def fails(*_: object, **__: object) -> typing.Never:
    raise FULL


def changed(_: object) -> typing.Never:
    raise ChangedError(["/nix/store/a-changed"])


def test_a_disk_without_room_for_the_first_folder_is_told_as_full(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no folder to be removed then, which is no error of its own."""
    monkeypatch.setattr(Tree, "stage", fails)
    spec = types.SimpleNamespace(root=types.SimpleNamespace(fsType="btrfs"))
    order = types.SimpleNamespace(tree=Tree([]), scratch=tmp_path, spec=spec)
    with (
        pytest.raises(OSError, match="No space left") as error,
        staged(typing.cast("Order", order)),
    ):
        pass
    assert error.value is FULL


def test_a_folder_that_cannot_be_removed_hides_no_error_of_the_assembly(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "empty", fails)
    monkeypatch.setattr(assemble, "closure_of", changed)
    spec = types.SimpleNamespace(toplevel="", additionalPaths=(), sources={})
    with pytest.raises(ChangedError):
        assemble.assemble(typing.cast("ImageSpec", spec), tmp_path / "image", tmp_path)


def test_a_folder_that_cannot_be_removed_is_an_error_of_its_own(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "empty", fails)
    with pytest.raises(OSError, match="No space left"), staging.removed_afterwards(tmp_path):
        pass
