"""Tests the extraction of emulators from a Debian package."""

import pathlib
import subprocess

import pytest

from orchestrator.agents.emulation import qemu_user
from orchestrator.agents.failure import AgentError
from tests.unit.test_qemu_user import EMULATORS

pytestmark = pytest.mark.needs("dpkg-deb")


def package(folder: pathlib.Path, *names: str) -> pathlib.Path:
    """Make a Debian package of programs; the content of each is its name."""
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: q\nVersion: 1\nArchitecture: all\nMaintainer: m\nDescription: d\n"
    )
    (tree / "usr/bin").mkdir(parents=True)
    for name in names:
        (tree / "usr/bin" / name).write_text(name)
    (tree / "usr/bin/qemu-armhf").symlink_to("qemu-arm")
    command = ["dpkg-deb", "--root-owner-group", "--build"]
    subprocess.run([*command, tree, folder / "q.deb"], check=True, capture_output=True)
    return folder / "q.deb"


@pytest.mark.parametrize("suffix", ["", "-static"])
def test_our_systems_emulators_are_taken_under_their_plain_names(
    suffix: str, tmp_path: pathlib.Path
) -> None:
    names = [f"{name}{suffix}" for name in (*EMULATORS, "qemu-armeb", "qemu-aarch64_be")]
    target = tmp_path / "target"
    target.mkdir()
    qemu_user.unpack(package(tmp_path, *names), target)
    assert {path.name: path.read_text() for path in target.iterdir()} == {
        name: f"{name}{suffix}" for name in EMULATORS
    }
    assert all(path.stat().st_mode & 0o777 == 0o755 for path in target.iterdir())


def test_a_package_that_lacks_one_is_refused(tmp_path: pathlib.Path) -> None:
    deb = package(tmp_path, *EMULATORS[1:])
    with pytest.raises(AgentError, match=f"q.deb has no {EMULATORS[0]}"):
        qemu_user.unpack(deb, tmp_path)
