"""Tests the pinned emulators' versions: names and order."""

import json
import pathlib

import pytest

from orchestrator.agents.emulation.ladder import next_rung, rung_name, rungs


@pytest.fixture
def lock(tmp_path: pathlib.Path) -> pathlib.Path:
    """Make a lock with three versions."""
    path = tmp_path / "lock.json"
    path.write_text(json.dumps({"emulators": {"10.0": {}, "11.1": {}, "7.2": {}}}))
    return path


def test_the_first_rung_is_the_default(lock: pathlib.Path) -> None:
    assert rungs(lock) == ("10.0", "11.1", "7.2")


def test_there_is_another_rung_to_try() -> None:
    assert len(rungs()) > 1


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("1:10.0.13+ds-0+deb13u1", "10.0"),
        ("1:7.2+dfsg-7+deb12u18+b3", "7.2"),
        ("11.1.3+ds-1~bpo13+1", "11.1"),
    ],
)
def test_a_rung_is_named_by_qemus_version(version: str, name: str) -> None:
    assert rung_name(version) == name


def test_what_is_no_version_names_none() -> None:
    with pytest.raises(ValueError, match="sid is not a version"):
        rung_name("sid")


@pytest.mark.parametrize(("rung", "after"), [("10.0", "11.1"), ("11.1", "7.2"), ("7.2", "10.0")])
def test_after_the_last_rung_comes_the_first(rung: str, after: str, lock: pathlib.Path) -> None:
    assert next_rung(rung, lock) == after
