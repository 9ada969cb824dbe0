"""What results hold of the store, and which of them a collection releases."""

import os
import pathlib

import pytest

from orchestrator.agents.builder.holdings import (
    LARGEST_SPEC,
    Holding,
    StorePath,
    closure,
    image_name,
    released,
    stock,
)

NOW = 1_800_000_000.0
DAY = 86_400.0

#: Two systems share a library; nothing needs the compiler. A path refers to itself and to one that
#: is not there.
PATHS = {
    "/s/a": StorePath(10, ("/s/lib", "/s/a", "/s/gone")),
    "/s/b": StorePath(20, ("/s/lib",)),
    "/s/lib": StorePath(100, ()),
    "/s/compiler": StorePath(1000, ("/s/lib",)),
}


@pytest.fixture
def roots(tmp_path: pathlib.Path) -> list[pathlib.Path]:
    """Links to /s/b, a day old, and to /s/a, ten days old."""
    found = []
    for name, days in (("b", 1), ("a", 10)):
        link = tmp_path / name
        link.symlink_to(f"/s/{name}")
        os.utime(link, (NOW - days * DAY, NOW - days * DAY), follow_symlinks=False)
        found.append(link)
    return found


def test_a_closure_is_all_that_is_there_of_what_is_needed() -> None:
    assert closure("/s/a", PATHS) == {"/s/a", "/s/lib"}
    assert closure("/s/gone", PATHS) == set()


def test_what_only_one_result_needs_would_go_with_it(roots: list[pathlib.Path]) -> None:
    found = stock(roots, PATHS)
    assert (found.paths, found.size, found.unneeded) == (4, 1130, 1000)
    assert found.holdings == (
        Holding("a", "", NOW - 10 * DAY, 110, 10),
        Holding("b", "", NOW - DAY, 120, 20),
    )


def test_a_link_of_a_builds_to_a_pipe_is_not_read(tmp_path: pathlib.Path) -> None:
    """A build without a sandbox may put anything into the folder of roots."""
    pipe = tmp_path / "0123456789abcdfghijklmnpqrsvwxyz-pipe"
    os.mkfifo(pipe)
    (tmp_path / "root").symlink_to(pipe)
    assert image_name(tmp_path / "root") == "pipe"


def test_a_result_has_its_images_name(tmp_path: pathlib.Path) -> None:
    spec = tmp_path / "0123456789abcdfghijklmnpqrsvwxyz-image-spec.json"
    spec.write_text('{"name": "pi"}')
    iso = tmp_path / "0123456789abcdfghijklmnpqrsvwxyz-nixos.iso"
    iso.write_bytes(b"\xff")
    bad = tmp_path / "0123456789abcdfghijklmnpqrsvwxyz-no-name.json"
    bad.write_text("[]")
    lines = tmp_path / "0123456789abcdfghijklmnpqrsvwxyz-two-lines.json"
    lines.write_text('{"name": "pi\\nerror: x"}')
    deep = tmp_path / "0123456789abcdfghijklmnpqrsvwxyz-deep.json"
    deep.write_text("[" * 200_000)
    large = tmp_path / "0123456789abcdfghijklmnpqrsvwxyz-large.raw"
    with large.open("wb") as file:
        file.write(b'{"name": "large"')
        file.truncate(LARGEST_SPEC + 1)
    links = []
    for target in (spec, iso, bad, lines, deep, large):
        links.append(tmp_path / f"to-{target.name}")
        links[-1].symlink_to(target)
    assert {one.name for one in stock(links, {}).holdings} == {
        *("pi", "nixos.iso", "no-name.json", "two-lines.json", "deep.json", "large.raw")
    }


def test_a_large_result_is_not_read(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = tmp_path / "0123456789abcdfghijklmnpqrsvwxyz-large.raw"
    large.write_bytes(b'{"name": "x"}')
    link = tmp_path / "link"
    link.symlink_to(large)
    monkeypatch.setattr("orchestrator.agents.builder.holdings.LARGEST_SPEC", 5)
    assert image_name(link) == "large.raw"


@pytest.mark.parametrize(
    ("limits", "gone"),
    [
        ({}, []),
        ({"keep": 2}, []),
        ({"keep": 1}, ["a"]),
        ({"keep": 0}, ["a", "b"]),
        ({"keep": 9}, []),
        ({"older_than": 11 * DAY}, []),
        ({"older_than": 9 * DAY}, ["a"]),
        ({"older_than": 0}, ["a", "b"]),
        ({"max_size": 130}, []),
        ({"max_size": 129}, ["a"]),
        ({"max_size": 119}, ["a", "b"]),
        ({"max_size": 0}, ["a", "b"]),
        ({"keep": 2, "older_than": 9 * DAY, "max_size": 119}, ["a", "b"]),
    ],
)
def test_the_oldest_results_go_first(
    limits: dict[str, float], gone: list[str], roots: list[pathlib.Path]
) -> None:
    found = released(roots, PATHS, NOW, **limits)  # type: ignore[arg-type]
    assert [root.name for root in found] == gone
