"""Tests the guard of tests/conftest.py, which forbids containers and tools in unit tests."""

import os
import pathlib
import shutil
import subprocess

import pytest


@pytest.mark.parametrize(
    "command",
    [["docker", "version"], ["/usr/bin/docker", "ps"], [pathlib.Path("/usr/bin/docker"), "ps"]],
)
def test_docker_cannot_be_started(command: list[str]) -> None:
    with pytest.raises(BaseException, match=r"a test started .*docker"):
        subprocess.run(command, check=False)


def test_docker_cannot_be_started_by_a_shell_string() -> None:
    with pytest.raises(BaseException, match="a test started"):
        os.system("docker version")


def test_other_programs_can() -> None:
    assert subprocess.run(["true"], check=False).returncode == 0


@pytest.mark.parametrize("found", ["/usr/sbin/mke2fs", "/usr/local/bin/qemu-img"])
def test_a_tool_cannot_be_started(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a test belongs to tests/tools."""
    with pytest.raises(BaseException, match=f"a test started {found}"):
        subprocess.run([found, "-V"], check=False)
    monkeypatch.setattr(shutil, "which", lambda _name: found)
    name = pathlib.PurePosixPath(found).name
    with pytest.raises(BaseException, match=f"a test started {name}"):
        subprocess.run([name, "-V"], check=False)


def test_a_test_may_make_a_program_of_a_tools_name(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mke2fs").write_text("#!/bin/sh\necho made\n")
    (tmp_path / "mke2fs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert subprocess.run(["mke2fs"], capture_output=True, check=True).stdout == b"made\n"
