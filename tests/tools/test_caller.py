"""Runs the shell tests of tests/caller that need no engine, with several shells and tars."""

import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]


pytestmark = pytest.mark.needs("git", "script", "dash", "bash", "busybox", "tar", "bsdtar")


@pytest.mark.parametrize(
    ("shell", "tar"),
    [("dash", "tar"), ("bash --posix", "bsdtar"), ("busybox sh", "busybox tar")],
    ids=["dash, GNU tar", "bash, bsdtar", "busybox"],
)
@pytest.mark.parametrize(
    "suite", ["test_caller.sh", "test_repository.sh", "test_hostile.sh", "test_out.sh"]
)
def test_the_callers_side(suite: str, shell: str, tar: str) -> None:
    run(suite, shell, tar)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "shell",
    [
        "dash",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("bash --posix", "busybox sh")),
    ],
)
def test_an_engine_that_falls_silent(shell: str) -> None:
    run("test_silence.sh", shell, "tar")


def run(suite: str, shell: str, tar: str) -> None:
    """Run a suite of tests/caller that needs no engine; all of it passes."""
    done = subprocess.run(
        ["sh", ROOT / "tests/caller" / suite, "--caller"],
        env={**os.environ, "NIXOS_IMAGE_TEST_SHELL": shell, "NIXOS_IMAGE_TEST_TAR": tar},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith(" passed, 0 failed")
