"""Tests the documentation's recording, and the program that makes it."""

import itertools
import json
import pathlib
import re
import runpy
import subprocess
import sys

import pytest

from orchestrator.shared.paths import ROOT

RECORD = ROOT / "benchmarks/record.py"
RECORDING = ROOT / "docs/pictures/demo.cast"


def read(file: pathlib.Path) -> tuple[dict[str, object], list[tuple[float, str]]]:
    """Return a recording's head, and what was shown with its time; checks asciicast's version 2."""
    head, *lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert head["version"] == 2
    assert all(len(line) == 3 for line in lines)
    assert {line[1] for line in lines} == {"o"}
    times = [line[0] for line in lines]
    assert times == sorted(times)
    return head, [(line[0], line[2]) for line in lines]


def test_a_command_is_recorded_with_its_times_and_its_end(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "x.cast"
    script = "stty size; printf 'one\\n'; sleep 1.5; printf '\\342\\234\\223\\n'; exit 3"
    command = [sys.executable, str(RECORD), str(file), "sh", "-c", script]
    assert subprocess.run(command).returncode == 3
    head, shown = read(file)
    text = "".join(words for _, words in shown)
    assert text.split() == [str(head["height"]), str(head["width"]), "one", "✓"]
    times = [0.0, *(time for time, _ in shown)]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert max(gaps) == pytest.approx(runpy.run_path(str(RECORD))["IDLE_SECONDS"]), (
        "silence is shortened"
    )


def test_the_demos_recording_is_whole_and_says_nothing_of_its_computer() -> None:
    _, shown = read(RECORDING)
    text = "".join(words for _, words in shown)
    assert re.search(r"/home/ada/out/\S+\.img", text)
    assert not re.search(r"/tmp/|/root/|https?://", text)
