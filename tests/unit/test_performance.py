"""Tests that docs/performance.md has the recorded results of the benchmarks."""

import csv
import pathlib

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs/performance.md").read_text()


def test_the_page_has_each_mode_that_was_run_again_and_again() -> None:
    with (ROOT / "benchmarks/results/load.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["mode"] for row in rows} == {"shared", "private"}
    columns = ("mode", "last_to_second", "last_ten_to_first_ten", "bare_after_to_before", "grown")
    lines = [f"| {' | '.join(row[name] for name in columns)} |\n" for row in rows]
    assert "".join(lines) in PAGE
    assert {row["runs"] for row in rows} == {"100"}, "the page says a hundred"
