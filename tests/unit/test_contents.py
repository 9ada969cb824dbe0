"""Sources of nixosImage.contents, as nixpkgs' make-disk-image.nix takes them."""

import pathlib

import pytest

from orchestrator.image.assemble import matches
from orchestrator.image.tree import TreeError
from orchestrator.shared.spec import Content


def test_a_source_has_the_targets_name() -> None:
    assert matches(Content("/nix/store/x", "/etc/y/"), pathlib.Path) == [
        (pathlib.Path("/nix/store/x"), "etc/y")
    ]


def test_what_a_pattern_matches_is_put_into_the_target(tmp_path: pathlib.Path) -> None:
    for name in ("b.conf", "a.conf", "c.txt", ".d.conf"):
        (tmp_path / name).touch()
    assert matches(Content(f"{tmp_path}/*.conf", "/etc/app"), pathlib.Path) == [
        (tmp_path / "a.conf", "etc/app/a.conf"),
        (tmp_path / "b.conf", "etc/app/b.conf"),
    ]


def test_a_pattern_without_a_match_is_told(tmp_path: pathlib.Path) -> None:
    with pytest.raises(TreeError, match=r"contents: nothing matches .*\*\.conf"):
        matches(Content(f"{tmp_path}/*.conf", "/etc/app"), pathlib.Path)
