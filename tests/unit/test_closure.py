"""Tests the comparison of an image's store paths with Nix' database."""

from orchestrator.image.closure import Record, differing


def test_a_path_without_a_hash_is_as_wrong_as_one_with_another() -> None:
    found = {name: Record(name, "1", ()) for name in ("right", "other", "missing")}
    assert differing(found, {"right": "right", "other": "x"}) == ["missing", "other"]
