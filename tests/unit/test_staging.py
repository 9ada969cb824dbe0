"""Tests staging folders: a living run's stays, a dead run's is removed."""

import os
import pathlib
import subprocess
import sys

import pytest

from orchestrator.image import staging


@pytest.fixture(autouse=True)
def builds(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(staging, "FOLDER", tmp_path)
    return tmp_path


def test_a_folder_is_there_for_its_time(builds: pathlib.Path) -> None:
    with staging.staging() as folder:
        assert folder.parent == builds
        (folder / "root/a").mkdir(parents=True)
        (folder / "root/a/file").touch()
        (folder / "root/a").chmod(0o555)
    assert list(builds.iterdir()) == []


def test_a_living_runs_folder_stays_and_a_killed_ones_goes(builds: pathlib.Path) -> None:
    script = (
        "import pathlib, sys, time; from orchestrator.image import staging;"
        "staging.FOLDER = pathlib.Path(sys.argv[1]);"
        "context = staging.staging(); print(context.__enter__(), flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, os.fspath(builds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = pathlib.Path(process.stdout.readline().strip()).name
        assert staging.sweep(everything=True) == []
        assert (builds / name).is_dir()
        process.kill()
    assert staging.sweep() == [name]
    assert list(builds.iterdir()) == []


def test_what_earlier_versions_left_goes_when_nobody_else_is_there(builds: pathlib.Path) -> None:
    (builds / "nix-build-a.drv-0/b").mkdir(parents=True)
    (builds / "nix-build-a.drv-0/b").chmod(0)
    (builds / "link").symlink_to("/etc")
    assert staging.sweep() == []
    assert staging.sweep(everything=True) == ["nix-build-a.drv-0"]


def test_a_folder_that_was_taken_for_a_dead_runs_is_not_used(
    builds: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its creation and its lock, a folder may be swept."""
    real, calls = staging._lock, []

    def lock(place: pathlib.Path) -> int | None:
        calls.append(place)
        if len(calls) == 1:
            place.rmdir()
        return real(place)

    monkeypatch.setattr(staging, "_lock", lock)
    with staging.staging() as folder:
        assert folder == calls[1]
        assert folder.is_dir()
