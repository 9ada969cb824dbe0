"""Tests that a folder's hash and time are those that Nix finds."""

import json
import os
import pathlib
import subprocess
import typing

import pytest

from orchestrator.agents.builder.flakes import known
from orchestrator.shared.nar import hash_folder
from orchestrator.shared.task import Copy

pytestmark = pytest.mark.needs("nix")


def test_a_folders_hash_is_nix_own(tmp_path: pathlib.Path) -> None:
    top = tmp_path / "a folder"
    (top / "empty").mkdir(parents=True)
    (top / "a.b").mkdir()
    for name, data in (
        ("a", b""),
        ("a.b/x", b"1234567"),
        ("ünï", b"12345678"),
        ("b", b"9" * 3000000),
    ):
        (top / name).write_bytes(data)
    (top / "a.b/run").write_text("#!/bin/sh\n")
    (top / "a.b/run").chmod(0o755)
    (top / "link").symlink_to("nowhere/at all")
    (top / os.fsdecode(b"\xff")).touch()
    for number, path in enumerate(sorted(top.rglob("*"))):
        os.utime(path, (1e9 + number, 1e9 + number), follow_symlinks=False)
    os.utime(top, (1e9 + 500, 1e9 + 500))
    found = hash_folder(top)
    words = ["nix", "--extra-experimental-features", "nix-command", "hash", "path", "--sri"]
    said = subprocess.run([*words, str(top)], capture_output=True, text=True, check=True).stdout
    assert found.nar_hash == said.strip()
    assert found.modified == 1_000_000_500


def metadata(reference: str) -> dict[str, typing.Any]:
    words = ["nix", "--extra-experimental-features", "nix-command flakes", "flake", "metadata"]
    done = subprocess.run([*words, "--json", reference], capture_output=True, text=True, check=True)
    return typing.cast("dict[str, typing.Any]", json.loads(done.stdout))


@pytest.mark.own_store
def test_a_tree_that_the_store_has_is_the_same_flake(tmp_path: pathlib.Path) -> None:
    """Nix copies the folder the first time; then it is not read, and hash and time are the same."""
    top = tmp_path / "a folder"
    (top / "sub").mkdir(parents=True)
    (top / "flake.nix").write_text(f"{{ outputs = {{ ... }}: {{ }}; }} # {tmp_path}")
    os.utime(top / "flake.nix", (1e9, 1e9))
    os.utime(top / "sub", (1e9 + 7, 1e9 + 7))
    os.utime(top, (1e9 + 3, 1e9 + 3))
    reference = f"path:{tmp_path}/a%20folder"
    plain, found = metadata(reference), hash_folder(top)
    assert found == (plain["locked"]["narHash"], plain["lastModified"])
    subprocess.run(["nix-store", "--delete", plain["path"]], capture_output=True, check=True)

    copies = (Copy(str(top), *found),)
    first = known(reference, copies)
    assert first == f"{reference}?lastModified=1000000007"
    one = metadata(first)
    second = known(f"{reference}?dir=sub", copies)
    assert second == f"path:{one['path']}?dir=sub&lastModified=1000000007"
    (top / "flake.nix").unlink()
    again = metadata(known(reference, copies))
    for name in ("narHash", "lastModified"):
        assert one["locked"][name] == again["locked"][name] == plain["locked"][name]
    assert known("path:/another", copies) == "path:/another"
