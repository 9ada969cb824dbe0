"""The guard against Docker in unit tests works, or all else here could start containers unseen."""

import os
import pathlib
import subprocess

import pytest


@pytest.mark.parametrize(
    "command",
    [["docker", "version"], ["/usr/bin/docker", "ps"], [pathlib.Path("/usr/bin/docker"), "ps"]],
)
def test_docker_cannot_be_started(command: list[str]) -> None:
    with pytest.raises(BaseException, match=r"a unit test started .*docker"):
        subprocess.run(command, check=False)


def test_docker_cannot_be_started_by_a_shell_string() -> None:
    with pytest.raises(BaseException, match="a unit test started"):
        os.system("docker version")


def test_other_programs_can() -> None:
    assert subprocess.run(["true"], check=False).returncode == 0
