"""Tests the record of injected faults (faults.csv) and its summary in the documentation."""

import pathlib

import pytest

from orchestrator.shared import errors
from tests.caller import faults
from tests.caller.faults import Case, Outcome

RECORDED = faults.read()


def test_the_page_has_the_summary_of_the_record() -> None:
    text = faults.PAGE.read_text()
    assert text.partition(faults.MARK)[2] == faults.summary(RECORDED)


def test_each_case_is_recorded_in_its_place() -> None:
    assert list(RECORDED) == list(faults.cases([*faults.FAULTS, "clock"]))


def test_each_recorded_run_ended_by_itself_with_a_documented_code() -> None:
    codes = {0, 137, *(kind.exit_code for kind in errors.leaves())}
    for case, outcome in RECORDED.items():
        assert outcome.good, case
        assert outcome.code in codes, case
        assert outcome.remedy in {"none", "clean"}, case


def test_a_record_is_read_as_it_was_written(tmp_path: pathlib.Path) -> None:
    odd = Outcome(5, 'a comma, a "quote" | a bar', "clean")
    outcomes = {**RECORDED, next(iter(RECORDED)): odd}
    faults.write(outcomes, tmp_path / "faults.csv")
    assert faults.read(tmp_path / "faults.csv") == outcomes


def test_a_record_with_other_columns_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "faults.csv"
    path.write_text("emulation,stage\n")
    with pytest.raises(ValueError, match="the columns are not mode, stage"):
        faults.read(path)


@pytest.mark.parametrize(
    ("codes", "shown"),
    [
        ({}, ""),
        ({("shared", "start"): 6, ("private", "start"): 6}, "6"),
        (
            {
                ("shared", "start"): 137,
                ("private", "start"): 143,
                ("shared", "build"): 143,
                ("private", "build"): 143,
                ("shared", "boot"): 137,
                ("private", "boot"): 137,
                ("shared", "assemble"): 143,
            },
            "143; 137 at start (shared), boot",
        ),
    ],
)
def test_a_cell_names_the_stages_of_what_is_rarer(
    codes: dict[tuple[str, str], int], shown: str
) -> None:
    outcomes = {
        Case(mode, stage, "orchestrator", "stop"): Outcome(code, "", "none")
        for (mode, stage), code in codes.items()
    }
    assert faults.cell(outcomes) == shown


def test_a_run_that_hung_or_left_something_is_not_good() -> None:
    assert Outcome(0, "", "none").good
    assert not Outcome(-1, "the stage was not reached", "none").good
    assert not Outcome(6, "", "none").good
    assert not Outcome(0, "", "dirty").good
    assert not Outcome(70, "a traceback", "none").good
