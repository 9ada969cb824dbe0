"""Tests that Nix reads the documentation's blocks of Nix."""

import os
import pathlib
import subprocess

import pytest

from tests.unit.test_document_blocks import BLOCKS, Block

pytestmark = pytest.mark.needs("nix-instantiate")

NIX_BLOCKS = [block for block in BLOCKS if block.language == "nix"]


@pytest.mark.parametrize("block", NIX_BLOCKS, ids=lambda block: block.place)
def test_nix_reads_it(block: Block, tmp_path: pathlib.Path) -> None:
    folders = ("NIX_STATE_DIR", "NIX_LOG_DIR", "NIX_STORE_DIR", "NIX_DATA_DIR", "HOME")
    variables = {name: str(tmp_path / name) for name in folders}
    command = ["nix-instantiate", "--parse", "--store", "dummy://", "-"]
    done = subprocess.run(
        command, input=block.text, text=True, capture_output=True, env={**os.environ, **variables}
    )
    assert done.returncode == 0, done.stderr
