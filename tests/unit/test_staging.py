"""Tests that staging folders of earlier versions go: a dead run's, not a living one's."""

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
        assert staging.sweep(everything=True) == []
        assert (builds / "nixos-image-a/root").is_dir()
        process.kill()
    assert staging.sweep() == ["nixos-image-a"]
    assert list(builds.iterdir()) == []


def test_what_earlier_versions_left_goes_when_nobody_else_is_there(builds: pathlib.Path) -> None:
    (builds / "nix-build-a.drv-0/b").mkdir(parents=True)
    (builds / "nix-build-a.drv-0/b").chmod(0)
    (builds / "link").symlink_to("/etc")
    assert staging.sweep() == []
    assert staging.sweep(everything=True) == ["nix-build-a.drv-0"]
