"""Tests the results of emulators on kernels: reading, merging, tables in the documentation."""

import dataclasses
import pathlib

import pytest

from orchestrator.agents.emulation import ladder
from tests.emulators.compatibility import (
    Result,
    cell,
    foreign,
    merged,
    parse,
    read,
    registration,
    results,
    table,
)

ROOT = pathlib.Path(__file__).parents[2]
SUITE = ROOT / "tests/emulators/suite.c"
MEASURED = read((ROOT / "tests/emulators/results.json").read_text())

ONE = Result("amd64", "6.1.0", "1:7.2+dfsg-7", "aarch64-linux", {"start": "ok"})


def test_the_documentation_has_the_table() -> None:
    text = (ROOT / "docs/compatibility.md").read_text()
    assert text.partition("<!-- made by tests/emulators/make-compatibility -->\n")[2] == table(
        MEASURED
    )


def test_the_documentation_has_the_ladder() -> None:
    text = (ROOT / "docs/compatibility.md").read_text()
    for rung, suite in zip(ladder.rungs(), ladder.SUITES, strict=True):
        assert f"\n| {rung} | {suite} | " in text


@pytest.mark.parametrize("host", sorted({"amd64", *(one.host for one in MEASURED)}))
def test_every_rung_was_measured_for_every_target(host: str) -> None:
    wanted = {(rung, system.name) for rung in ladder.rungs() for system in foreign(host)}
    found = {(ladder.rung_name(one.qemu), one.target) for one in MEASURED if one.host == host}
    assert found == wanted


def test_no_rung_crashes() -> None:
    """Pinned emulators may lack only features that programs can do without."""
    without = {"openat2", "clone3"}
    for one in MEASURED:
        bad = {check for check, outcome in one.outcomes.items() if outcome != "ok"}
        if binfmt_keeps_argv0(one.kernel):
            assert bad <= without, one
        else:
            assert bad <= without | {"argv0"}, one
        assert {one.outcomes[check] for check in bad & without} <= {"ENOSYS"}, one


def binfmt_keeps_argv0(kernel: str) -> bool:
    major, minor, *_ = kernel.split(".")
    return (int(major), int(minor)) >= (5, 12)


def test_what_a_machine_says_is_read_by_rung_and_target() -> None:
    said = (
        "[    0.1] noise\r\nkernel 6.1.0-39-cloud-amd64\r\n"
        "result 10.0 aarch64-linux start ok\r\nresult 10.0 aarch64-linux fork signal 11\r\n"
        "result 7.2 riscv64-linux start not run: Exec format error\r\nend\r\n"
    )
    assert parse(said) == (
        "6.1.0-39-cloud-amd64",
        {
            ("10.0", "aarch64-linux"): {"start": "ok", "fork": "signal 11"},
            ("7.2", "riscv64-linux"): {"start": "not run: Exec format error"},
        },
    )


def test_what_was_not_said_whole_is_no_result() -> None:
    versions = {"7.2": "1:7.2+dfsg-7"}
    lines = [f"result 7.2 {one.name} {check} ok" for one in foreign("amd64") for check in "ab"]
    said = "\n".join(["kernel 6.1.0", *lines])
    assert {one.target for one in results("amd64", said, versions)} == {
        system.name for system in foreign("amd64")
    }
    for broken in (said.partition("\n")[2], said.rpartition("\n")[0], f"noise {said}"):
        with pytest.raises(SystemExit, match="not all was said"):
            results("amd64", broken, versions)


def test_what_was_measured_anew_takes_the_place_of_what_was() -> None:
    newer = dataclasses.replace(ONE, qemu="1:7.2+dfsg-8", outcomes={"start": "signal 11"})
    other = dataclasses.replace(ONE, kernel="6.12.9")
    between = dataclasses.replace(ONE, kernel="6.2.0")
    assert merged([ONE, other, between], [newer]) == [newer, between, other]


def test_a_table_has_a_row_for_each_kernel_and_version() -> None:
    text = table([ONE, dataclasses.replace(ONE, target="riscv64-linux")])
    measured = {"aarch64-linux": "all", "riscv64-linux": "all"}
    cells = " | ".join(measured.get(one.name, "") for one in foreign("amd64"))
    assert f"| 6.1.0 | 7.2+dfsg-7 | {cells} |" in text.splitlines()


@pytest.mark.parametrize(
    ("outcomes", "shown"),
    [
        ({"start": "ok", "fork": "ok"}, "all"),
        (
            {"start": "ok", "openat2": "ENOSYS", "clone3": "ENOSYS", "fork": "signal 11"},
            "ENOSYS: openat2, clone3; signal 11: fork",
        ),
    ],
)
def test_a_cell_says_what_does_not_work(outcomes: dict[str, str], shown: str) -> None:
    assert cell(outcomes) == shown


def test_an_emulator_is_registered_as_the_product_does() -> None:
    (arm,) = (system for system in foreign("amd64") if system.name == "aarch64-linux")
    line = registration(arm, pathlib.Path("/7.2"), (5, 10))
    assert line.startswith(":aarch64-linux:M::\\x7f\\x45")
    assert line.endswith(":/7.2/qemu-aarch64:F")
