"""Tests Nix' Debian packages: pinned, fetched and replaced together."""

import json
import pathlib

import pytest

from orchestrator.agents import debian, events
from orchestrator.agents.builder import nix_package
from orchestrator.agents.failure import AgentError
from orchestrator.docker.images import SUPERSEDED
from orchestrator.shared.constants import NIX_PACKAGE
from orchestrator.shared.debian_package import NIX_LIST, Package
from tests.unit.test_debian import LOCK, check

OLD = [
    debian.Pin(name, name, "1", "forky", f"pool/{name}_1_amd64.deb", str(number) * 64)
    for number, name in enumerate(["libc6", "nix-bin"])
]
NEW = [
    debian.Pin(name, name, "2", "forky", f"pool/{name}_2_amd64.deb", str(number) * 64)
    for number, name in enumerate(["nix-bin", "libc6", "libnew"], start=2)
]


@pytest.fixture
def lock(tmp_path: pathlib.Path) -> pathlib.Path:
    """Make a lock file with `OLD`, for amd64."""
    fields = ("package", "version", "suite", "path", "sha256")
    nix = {pin.role: {"amd64": {field: getattr(pin, field) for field in fields}} for pin in OLD}
    path = tmp_path / "debian.json"
    path.write_text(json.dumps({"snapshot": "S", "without": {"amd64": ["x"]}, "nix": nix}))
    return path


class Archive:
    """Set of packages that can be fetched, and record of requests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *there: debian.Pin) -> None:
        self.there = there
        self.asked: list[list[debian.Pin]] = []
        monkeypatch.setattr(debian, "fetch_all", self.fetch_all)
        monkeypatch.setattr(debian, "resolve_nix", self.resolve)

    def fetch_all(
        self, pins: list[debian.Pin], snapshot: str, _folder: pathlib.Path
    ) -> debian.Pin | None:
        assert snapshot == "S"
        self.asked.append(list(pins))
        return next((pin for pin in pins if pin not in self.there), None)

    @staticmethod
    def resolve(arch: str, without: frozenset[str]) -> list[debian.Pin]:
        assert arch == "amd64"
        assert without == {"x"}
        return NEW


def test_what_is_pinned_is_taken_where_it_can_be_had(
    monkeypatch: pytest.MonkeyPatch, lock: pathlib.Path
) -> None:
    archive = Archive(monkeypatch, *OLD, *NEW)
    assert nix_package.obtain(lock, "amd64", lock.parent, locked=True) == OLD
    assert archive.asked == [OLD]


def test_where_one_is_lost_the_successors_of_all_are_taken_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, lock: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = Archive(monkeypatch, OLD[1], *NEW)
    events.configure("nix")
    assert nix_package.obtain(lock, "amd64", lock.parent, locked=False) == NEW
    assert archive.asked == [OLD, NEW]
    # The pattern that searches a build's log must match.
    (told,) = SUPERSEDED.findall(capsys.readouterr().out)
    assert told.startswith("libc6 1 ")
    assert "using nix-bin 2 " in told


def test_locked_takes_no_successor(monkeypatch: pytest.MonkeyPatch, lock: pathlib.Path) -> None:
    Archive(monkeypatch, OLD[0], *NEW)
    monkeypatch.setattr(debian, "resolve_nix", lambda *_: pytest.fail("the index was asked"))
    with pytest.raises(AgentError, match="nix-bin 1 cannot be fetched") as caught:
        nix_package.obtain(lock, "amd64", lock.parent, locked=True)
    assert "--locked" in caught.value.hint


def test_where_the_successors_are_lost_too_both_are_named(
    monkeypatch: pytest.MonkeyPatch, lock: pathlib.Path
) -> None:
    Archive(monkeypatch, OLD[0])
    with pytest.raises(AgentError, match="neither nix-bin 1 nor nix-bin 2") as caught:
        nix_package.obtain(lock, "amd64", lock.parent, locked=False)
    assert "forky" in caught.value.hint


@pytest.mark.parametrize("arch", debian.HOSTS)
def test_nix_is_pinned_for_every_host_with_all_that_it_is_linked_with(arch: str) -> None:
    pins = {pin.package: pin for pin in debian.read_nix(LOCK, arch)}
    for pin in pins.values():
        check(pin, arch)
        assert pin.suite.removesuffix("-security") == debian.NIX_SUITE
        assert pin.role == pin.package
    assert {NIX_PACKAGE, "libc6", "libstdc++6"} <= pins.keys()
    assert not [name for name in pins if name.startswith(("perl", "bash", "curl"))]


def test_what_was_unpacked_is_told_and_a_folder_without_nix_tells_nothing(
    tmp_path: pathlib.Path,
) -> None:
    assert nix_package.read_list(tmp_path) == []
    one = Package("libo", "2:1-1+b1", "amd64", "o", "2:1-1", "forky", "0" * 64)
    row = f"libo\t2:1-1+b1\tamd64\to\t2:1-1\tforky\t{'0' * 64}\n"
    (tmp_path / NIX_LIST).write_text(row)
    assert nix_package.read_list(tmp_path) == [one]
