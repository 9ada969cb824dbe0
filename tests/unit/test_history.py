"""Tests what is remembered of past runs, and the file that holds it."""

import concurrent.futures
import os
import pathlib

import pytest

from orchestrator.decide.history import LIMIT, Duration, History, build_key, remember, union
from orchestrator.run import memory
from orchestrator.shared.steps import Step, Steps

STEPS = Steps(
    (
        Step("fetched", "glibc-2.42", 0.0, 4.0, 4000),
        Step("fetched", "bash-5.3", 2.0, 6.0, 4000),
        Step("native", "linux-6.12.34", 10.0, 40.0),
        Step("emulated", "linux-6.12.34", 10.0, 80.0),
    )
)


def test_versions_of_a_package_are_one_build() -> None:
    names = ("linux-6.12.34", "linux-rpi4-6.12", "etc", "python3.13-six-1.17")
    keys = [build_key("native", name) for name in names]
    assert keys == ["native linux", "native linux-rpi4", "native etc", "native python3.13-six"]


def test_what_overlaps_counts_once() -> None:
    assert union(STEPS.longest[:2]) == 8.0
    assert union(STEPS.longest) == 88.0
    assert union(()) == 0.0


def test_a_run_is_remembered() -> None:
    found = remember(History(), STEPS, {"deliver": 3.0}, "build", 20000)
    assert found.stages == {"build deliver": Duration(3.0, 1, 20000)}
    assert found.builds["emulated linux"] == Duration(80.0, 1, 20000)
    assert (found.pace, found.parallel) == (1000.0, 1.5)
    again = remember(found, Steps((Step("native", "linux-7.0", 0.0, 20.0),)), {}, "demo", 20001)
    assert again.builds["native linux"] == Duration(30.0, 2, 20001)
    assert (again.pace, again.parallel) == (1000.0, 1.0), "the pace is kept where none is seen"
    assert again.stages == found.stages


def test_the_builds_that_are_used_last_are_kept() -> None:
    old = History(builds={f"native old{one}": Duration(9.0, 1, 1) for one in range(LIMIT)})
    found = remember(old, STEPS, {}, "build", 2)
    assert len(found.builds) == LIMIT
    assert "native linux" in found.builds


def test_the_history_survives_on_disk(tmp_path: pathlib.Path) -> None:
    assert memory.recall(tmp_path) == History()
    memory.keep(STEPS, {"deliver": 3.0}, "build", tmp_path)
    memory.keep(STEPS, {"deliver": 5.0}, "build", tmp_path)
    found = memory.recall(tmp_path)
    assert found.stages["build deliver"].seconds == 4.0
    assert found.builds["native linux"].runs == 2


def test_writers_at_the_same_time_lose_nothing(tmp_path: pathlib.Path) -> None:
    def write(number: int) -> None:
        steps = Steps((Step("native", f"package{'x' * number}", 0.0, 1.0),))
        memory.keep(steps, {}, "build", tmp_path)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    assert len(memory.recall(tmp_path).builds) == 40


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{",
        '{"version": 1, "stages": {}, "builds": {}, "pace": -1, "parallel": 1}',
        '{"version": 1, "stages": {}, "builds": {}, "pace": 1e999, "parallel": 1}',
        '{"version": 1, "stages": {"a": 1}, "builds": {}, "pace": 1, "parallel": 1}',
        '{"version": 2, "stages": {}, "builds": {}, "pace": 1, "parallel": 1}',
        "[" * 100_000,
        "\udc80",
    ],
)
def test_junk_is_no_history_and_is_replaced(text: str, tmp_path: pathlib.Path) -> None:
    place = tmp_path / memory.HISTORY
    place.write_bytes(text.encode(errors="surrogateescape"))
    assert memory.recall(tmp_path) == History()
    memory.keep(STEPS, {}, "build", tmp_path)
    assert memory.recall(tmp_path).builds


def test_what_is_no_file_is_no_history(tmp_path: pathlib.Path) -> None:
    place = tmp_path / memory.HISTORY
    os.mkfifo(place)
    assert memory.recall(tmp_path) == History()
    place.unlink()
    (tmp_path / "other").write_text("{}")
    place.symlink_to(tmp_path / "other")
    assert memory.recall(tmp_path) == History()
    place.unlink()
    with place.open("w") as file:
        file.truncate(memory.LARGEST + 1)
    assert memory.recall(tmp_path) == History()


def test_what_a_killed_run_has_left_is_no_hindrance(tmp_path: pathlib.Path) -> None:
    (tmp_path / f"{memory.HISTORY}.new").symlink_to(tmp_path / "elsewhere")
    memory.keep(STEPS, {}, "build", tmp_path)
    assert not (tmp_path / "elsewhere").exists()
    assert memory.recall(tmp_path).builds


def test_without_the_volume_nothing_is_kept(tmp_path: pathlib.Path) -> None:
    memory.keep(STEPS, {}, "build", tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
