"""Tests what a plan says of a build's cost, and when a person is asked."""

import dataclasses
import json

import pytest

from orchestrator.decide import announcement
from orchestrator.decide.announcement import LIMIT_BYTES, LIMIT_SECONDS
from orchestrator.decide.estimate import Estimate, estimate, expected
from orchestrator.decide.history import Duration, History
from orchestrator.decide.plan import Plan
from orchestrator.shared.constants import GIB, MIB
from orchestrator.shared.cost import Cost, Fetch, PlannedImage, Work
from orchestrator.shared.quantities import duration

IMAGE = PlannedImage("aarch64-linux", "raw-efi", "/nix/store/x.drv")
COST = Cost(
    images=(IMAGE,),
    fetches=(Fetch("https://cache", 2, 3 * MIB, 9 * MIB), Fetch("", 1, MIB, MIB)),
    works=(
        Work("native", "etc"),
        Work("emulated", "linux-6.12.34", kernel=True),
        Work("source", "a.tar", host="example.org"),
        Work("source", "b.tar", host="gnu.org"),
        Work("source", "c.tar", host="gnu.org"),
    ),
    content=GIB,
    store_free=50 * GIB,
    work_free=40 * GIB,
    one_disk=False,
)
UNKNOWN = Estimate(None, 0, 2, whole=False)
HISTORY = History(
    stages={"build deliver": Duration(5.0, 1, 1), "demo deliver": Duration(500.0, 1, 1)},
    builds={"native etc": Duration(10.0, 1, 1), "emulated linux": Duration(3000.0, 1, 1)},
    pace=float(MIB),
    parallel=2.0,
)
PLAN = Plan(
    systems=("aarch64-linux",),
    mode="private",
    reason="it can",
    register=(),
    private=("aarch64-linux",),
    services=("emulators", "builder"),
    memory=1024,
    boot=False,
    kvm=False,
    machines=(),
    natively=frozenset({"x86_64-linux"}),
    ran_before=frozenset(),
)


def test_a_plan_is_told_line_by_line() -> None:
    assert announcement.describe(COST, UNKNOWN, 30 * GIB).splitlines() == [
        "image      raw-efi for aarch64-linux",
        "fetch      3 paths, 4 MiB, 10 MiB unpacked",
        "           2 paths, 3 MiB from https://cache",
        "           1 path, 1 MiB from another substituter",
        "download   3 sources from gnu.org (2), example.org (1); their sizes are not known",
        "build      1 derivation here",
        "emulate    1 derivation, with a kernel: linux-6.12.34",
        "disk       the store: up to 10 MiB and what is built, 50.0 GiB free",
        "disk       the run's files: up to 2.0 GiB and what is built, 40.0 GiB free",
        "disk       the output folder: up to 1.0 GiB and what is built, 30.0 GiB free",
        "time       not known: no run of this engine has ended yet",
    ]


def test_what_builders_may_build_too_is_told_and_takes_as_long_as_here() -> None:
    both = dataclasses.replace(COST, works=(Work("either", "etc"),))
    lines = announcement.describe(both, UNKNOWN, 30 * GIB).splitlines()
    assert "build      1 derivation here or on builders" in lines
    assert expected(both.works[0], HISTORY) == 10.0


def test_a_fleet_says_how_much_of_it_is_on_the_engines_disk_at_a_time() -> None:
    fleet = dataclasses.replace(COST, devices=50)
    lines = announcement.describe(fleet, UNKNOWN, 30 * GIB).splitlines()
    assert "devices    50, of each image one for each" in lines
    assert "disk       the run's files: up to 7.0 GiB and what is built, 40.0 GiB free" in lines
    assert "disk       the output folder: up to 50.0 GiB and what is built, 30.0 GiB free" in lines
    assert "           at most 7 of 50 images are there at a time" in lines
    assert "the output folder may need 50.0 GiB, but its disk has 30.0 GiB free" in (
        announcement.shortages(fleet, 30 * GIB)
    )


def test_one_disk_for_store_and_run_is_one_line() -> None:
    lines = announcement.describe(dataclasses.replace(COST, one_disk=True), UNKNOWN, None)
    assert "disk       Docker's data: up to 2.0 GiB and what is built, 50.0 GiB free" in lines
    assert "the store" not in lines
    assert "disk       the output folder: up to 1.0 GiB and what is built\n" in lines


def test_sources_alone_are_downloaded_not_built() -> None:
    cost = dataclasses.replace(COST, works=tuple(COST.works_of("source")))
    assert "up to 10 MiB and what is downloaded" in announcement.describe(cost, UNKNOWN, None)


def test_nothing_to_do_is_said() -> None:
    cost = dataclasses.replace(COST, fetches=(), works=())
    found = announcement.describe(cost, Estimate(61.0, 0, 0, whole=True), None)
    assert "build      nothing: the store has it all" in found
    assert "fetch" not in found
    assert "and what" not in found
    assert found.endswith("time       about 61 s, by past runs on this engine")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (89, "89 s"), (91, "2 min"), (3600, "60 min"), (9000, "2 h 30 min")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_time_is_that_of_past_runs() -> None:
    stages = ("assemble", "deliver")
    # 4 s of downloads, 3010 s of builds two at once, 5 s of delivery; assembly is not known.
    assert estimate(COST, HISTORY, "build", stages) == Estimate(1514.0, 5, 0, whole=False)
    assert estimate(COST, HISTORY, "build", ("deliver",)).whole
    other = dataclasses.replace(HISTORY, builds={})
    assert estimate(COST, other, "build", ("deliver",)) == Estimate(9.0, 3, 2, whole=False)
    assert estimate(COST, History(), "build", ()) == Estimate(None, 3, 2, whole=False)
    without = dataclasses.replace(HISTORY, pace=0.0)
    assert not estimate(COST, without, "build", ("deliver",)).whole


def test_what_costs_little_is_not_asked_about() -> None:
    cost = dataclasses.replace(COST, works=COST.works[:1])
    assert announcement.reasons(cost, Estimate(LIMIT_SECONDS, 1, 0, whole=True)) == []
    assert announcement.reasons(cost, UNKNOWN) == []


@pytest.mark.parametrize(
    ("change", "seconds", "reason"),
    [
        ({}, LIMIT_SECONDS + 60.0, "it takes more than 31 min"),
        ({"fetches": (Fetch("", 1, LIMIT_BYTES + 1, 0),)}, None, "it fetches 20.0 GiB"),
        ({"content": 11 * GIB}, None, "it needs up to 22.0 GiB for the run's files"),
        (
            {"works": (Work("emulated", "linux-7.0", kernel=True),)},
            None,
            "an emulator builds the kernel linux-7.0, which takes hours",
        ),
    ],
)
def test_what_costs_much_is_asked_about(
    change: dict[str, object], seconds: float | None, reason: str
) -> None:
    cost = dataclasses.replace(dataclasses.replace(COST, works=()), **change)  # type: ignore[arg-type]
    assert announcement.reasons(cost, Estimate(seconds, 0, 1, whole=False)) == [reason]


def test_a_disk_that_may_be_too_small_is_told() -> None:
    cost = dataclasses.replace(COST, work_free=GIB)
    assert announcement.shortages(cost, None) == [
        "the run's files may need 2.0 GiB, but its disk has 1.0 GiB free"
    ]
    assert announcement.shortages(COST, 0) == [
        "the output folder may need 1.0 GiB, but its disk has 0 MiB free"
    ]


def test_programs_get_a_document() -> None:
    found = announcement.document(COST, Estimate(60.0, 1, 1, whole=False), None, PLAN)
    assert json.loads(json.dumps(found)) == found
    assert found["fetch"]["from"][1] == {
        "substituter": None,
        "paths": 1,
        "download": MIB,
        "unpacked": MIB,
    }
    assert found["sources"][0] == {"host": "gnu.org", "count": 2}
    assert found["build"]["emulated"] == [{"name": "linux-6.12.34", "kernel": True}]
    assert found["disk"][2] == {"place": "the output folder", "needed": GIB, "free": None}
    assert found["time"] == {"seconds": 60.0, "whole": False, "known": 1, "unknown": 1}
    assert len(found["asks"]) == 1
