"""Tests that files, sections and tests that the documentation names exist."""

import pathlib
import re

import pytest

from orchestrator.shared.paths import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)

#: Pattern of the first folder in a path of this checkout, as documents write it in code quotes.
TOP = r"(?:tests|orchestrator|caller|benchmarks|nix|docs|locks|config|\.ci|\.github)"

#: Rows of the table in docs/privileges.md of who can do what, by their first words.
TRUST = (ROOT / "docs/privileges.md").read_text()
ACTORS = (
    "caller",
    "checkout",
    "appliance.toml",
    "flake",
    "build",
    "builder's machine",
    "other machine",
    "client of a worker",
    "image",
    "engine",
    "kit",
    "registry",
    "cache",
    "other run",
    "other user",
)


def anchors(page: pathlib.Path) -> set[str]:
    """Return GitHub's anchors of a page's headings."""
    headings = re.findall(r"^#+ +(.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@EVERY_PAGE
def test_links_lead_somewhere(page: pathlib.Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        place = page.parent / path if path else page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), target


@EVERY_PAGE
def test_files_that_are_named_are_there(page: pathlib.Path) -> None:
    for path in re.findall(rf"`({TOP}/[^`\s:]+)", page.read_text()):
        if path.startswith("config/") and not (ROOT / "config").exists():
            continue  # config/ is the user's: the test image lacks it
        if path == "locks/images":
            continue  # `images push` writes it
        named = path.replace("NAME", "*")
        assert list(ROOT.glob(named)), path


def test_modules_of_the_architecture_are_there() -> None:
    """Modules are named by their path in the package, or by their own name."""
    text = (ROOT / "docs/architecture.md").read_text()
    named = re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.(?:py|c|toml))`", text)
    assert len(named) > 30
    modules = [path.as_posix() for path in (ROOT / "orchestrator").rglob("*") if path.is_file()]
    for name in named:
        assert (ROOT / name).exists() or any(module.endswith(f"/{name}") for module in modules), (
            name
        )


def rows() -> list[list[str]]:
    """Return the cells of each row of the table of who can do what."""
    table = TRUST.partition("<!-- who can do what -->\n")[2].partition("<!-- end -->")[0]
    return [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]


def test_everybody_has_a_row_and_what_does_not_hold_is_said() -> None:
    table = rows()
    assert list(dict.fromkeys(row[0] for row in table)) == list(ACTORS)
    assert {len(row) for row in table} == {5}
    assert {row[2] for row in table} == {"yes", "no"}


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]} {row[1]}"[:60])
def test_what_holds_is_held_by_tests(row: list[str]) -> None:
    who, what, holds, _, tests = row
    named = re.findall(r"`(tests/[^`:]+)::([^`]+)`", tests)
    assert named or (holds == "no" and tests == "-"), f"no test says that {who} cannot: {what}"
    for path, name in named:
        text = (ROOT / path).read_text()
        if path.endswith(".py"):
            assert re.search(rf"^(?:async )?def {re.escape(name)}\(", text, re.MULTILINE), name
        else:
            command = r"^\s*(?:[A-Z_]+=\S+ )*(?:builds|check|expect|refused)"
            assert re.search(rf'{command} "{re.escape(name)}" ', text, re.MULTILINE), name
