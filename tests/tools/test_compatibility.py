"""Tests the suite for emulators (suite.c) on this machine's own CPU."""

import pathlib
import subprocess

import pytest

from tests.unit.test_compatibility import SUITE

pytestmark = pytest.mark.needs("gcc")


@pytest.fixture
def suite(tmp_path: pathlib.Path) -> pathlib.Path:
    """Compile the suite for this machine."""
    target = tmp_path / "suite"
    command = ["gcc", "-Wall", "-Wextra", "-Werror", "-pthread"]
    subprocess.run([*command, "-o", target, SUITE], check=True)
    return target


def test_this_machine_passes_its_own_suite(suite: pathlib.Path, tmp_path: pathlib.Path) -> None:
    done = subprocess.run(
        [suite, "run", "30", suite], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    outcomes = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    # A container's seccomp profile may forbid the system call.
    assert outcomes.pop("clone3") in {"ok", "ENOSYS"}
    assert len(outcomes) > 10
    assert set(outcomes.values()) == {"ok"}


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        ("exit 1", "failed"),
        ("exit 2", "ENOSYS"),
        ("kill -SEGV $$", "signal 11"),
        ("sleep 60", "timeout"),
    ],
)
def test_each_end_of_a_check_is_told(
    script: str, outcome: str, suite: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\n[ "$1" = fork ] || exit 0\n{script}\n')
    program.chmod(0o755)
    done = subprocess.run([suite, "run", "1", program], capture_output=True, text=True, check=True)
    outcomes = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert outcomes.pop("fork") == outcome
    assert set(outcomes.values()) == {"ok"}


def test_what_cannot_be_executed_is_told(suite: pathlib.Path, tmp_path: pathlib.Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF of nobody")
    program.chmod(0o755)
    done = subprocess.run([suite, "run", "1", program], capture_output=True, text=True, check=True)
    assert "start not run: Exec format error" in done.stdout.splitlines()
