"""Nothing of a configuration is dropped in silence: each row of gaps.toml is evaluated.

    NIXPKGS=FOLDER pytest tests/nixos/gaps.py

It needs Nix, and a tree of nixpkgs; a row takes some seconds.
"""

import json
import os
import pathlib
import re
import subprocess
import tomllib
import typing

import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
ROWS = tomllib.loads((HERE / "gaps.toml").read_text())
NIXPKGS = os.environ.get("NIXPKGS", "")

#: Warnings of this project's.
OURS = (
    "nixosImage|take the place|takes a virtual machine|no such group|cannot run|has to emulate"
    "|no format has"
)

#: The longest that an evaluation may take, in seconds.
SECONDS = 300

pytestmark = [
    pytest.mark.skipif(not NIXPKGS, reason="NIXPKGS names no tree to evaluate"),
    pytest.mark.timeout(SECONDS),
]


def evaluate(row: dict[str, typing.Any], folder: pathlib.Path) -> subprocess.CompletedProcess[str]:
    """Evaluate the row's image: its spec and its derivation are on stdout."""
    module = folder / "given.nix"
    text = (
        f"{{ ... }}: let hardware = {HERE}/hardware-configuration.nix; in\n"
        f"{{ imports = [ {HERE}/configuration.nix\n({row['given']}) ]; }}\n"
    )
    module.write_text(text)
    given = f"({text})" if row.get("inline") else module
    name = row.get("format", "raw-efi")
    system = row.get("system", "x86_64-linux")
    features = " ".join(f'"{one}"' for one in row.get("features", ()))
    library = f'nixpkgs = {NIXPKGS}; buildSystem = "x86_64-linux";'
    if "features" in row:
        library += f" features = [ {features} ];"
    expression = (
        f"let image = ((import {ROOT}/nix {{ {library} }})"
        f'.images {{ system = "{system}"; formats = [ "{name}" ]; modules = [ {given} ]; }})'
        f'."{name}"; in {{ inherit (image) drvPath; spec = image.spec or {{ }}; }}'
    )
    words = ["nix", "--extra-experimental-features", "nix-command", "eval", "--impure", "--json"]
    # With room for all values Nix collects no garbage, which is a fifth of its time.
    heap = {**os.environ, "GC_INITIAL_HEAP_SIZE": "2G"}
    return subprocess.run(
        [*words, "--expr", expression], capture_output=True, text=True, check=False, env=heap
    )


@pytest.mark.needs("nix")
@pytest.mark.parametrize("name", ROWS)
def test_what_becomes_of_it(name: str, tmp_path: pathlib.Path) -> None:
    row = ROWS[name]
    done = evaluate(row, tmp_path)
    if refused := row.get("refused"):
        assert done.returncode != 0, done.stdout
        assert any(re.search(refused, line) for line in done.stderr.splitlines()), done.stderr
        return
    assert done.returncode == 0, done.stderr
    warned = [line for line in done.stderr.splitlines() if "evaluation warning: " in line]
    ours = [line for line in warned if re.search(OURS, line)]
    if replaced := row.get("replaced"):
        assert any(re.search(replaced, line) for line in ours), done.stderr
        assert len(ours) == row.get("lines", len(ours)), done.stderr
    else:
        assert not ours
    spec = json.loads(done.stdout)["spec"]
    for field, value in row.get("spec", {}).items():
        found: typing.Any = spec
        for part in field.split("."):
            found = found[part]
        assert found == value, field
