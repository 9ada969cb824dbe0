"""Runs the shell tests of tests/caller that need no engine, with several shells and tars."""

import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]


pytestmark = pytest.mark.needs(
    "git", "script", "dash", "bash", "busybox", "tar", "bsdtar", "ssh-keygen"
)


#: A shell and a tar with which run.sh must work, and the suites that run with them.
CASES = [
    ("dash", "tar", "test_hostile.sh"),
    ("bash --posix", "bsdtar", "test_kit.sh"),
    ("busybox sh", "busybox tar", "test_caller.sh"),
]

#: The other combinations, and the suites that take a minute.
SLOW = [
    ("bash --posix", "bsdtar", "test_repository.sh", "test_fleet.sh"),
    ("busybox sh", "busybox tar", "test_kept.sh", "test_registry.sh"),
    ("dash", "tar", "test_caller.sh", "test_repository.sh", "test_out.sh", "test_flash.sh"),
    ("bash --posix", "bsdtar", "test_caller.sh", "test_hostile.sh", "test_out.sh", "test_kept.sh"),
    *((shell, "tar", "test_flash.sh") for shell in ("bash --posix", "busybox sh")),
    ("busybox sh", "busybox tar", "test_repository.sh", "test_hostile.sh", "test_out.sh"),
    ("dash", "tar", "test_kit.sh", "test_registry.sh"),
    ("bash --posix", "bsdtar", "test_registry.sh"),
    ("busybox sh", "busybox tar", "test_kit.sh"),
    ("dash", "tar", "test_fleet.sh"),
    ("busybox sh", "busybox tar", "test_fleet.sh"),
    *((shell, "tar", "test_silence.sh") for shell in ("dash", "bash --posix", "busybox sh")),
]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("shell", "tar", "suite"),
    [
        pytest.param(shell, tar, suite, marks=marks, id=f"{suite}-{shell}, {tar}")
        for rows, marks in ((CASES, ()), (SLOW, (pytest.mark.slow,)))
        for shell, tar, *suites in rows
        for suite in suites
    ],
)
def test_the_callers_side(shell: str, tar: str, suite: str) -> None:
    run(suite, shell, tar)


def run(suite: str, shell: str, tar: str) -> None:
    """Run a suite of tests/caller that needs no engine; all of it passes."""
    done = subprocess.run(
        ["sh", ROOT / "tests/caller" / suite],
        env={**os.environ, "NIXOS_IMAGE_TEST_SHELL": shell, "NIXOS_IMAGE_TEST_TAR": tar},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith(" passed, 0 failed")
