"""Tests that nix/formats.json is what Nix evaluates nix/formats.nix to."""

import json
import subprocess

import pytest

from tests.unit.test_format_table import RAW, ROOT


@pytest.mark.needs("nix-instantiate")
def test_the_table_is_what_nix_says() -> None:
    said = subprocess.run(
        ["nix-instantiate", "--eval", "--strict", "--json", "nix/formats.nix"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert json.loads(said) == RAW
