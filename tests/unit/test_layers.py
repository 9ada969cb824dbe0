"""Tests the layers of docs/architecture.md: each folder imports only those below it."""

import ast
import functools
import re
import sys

import pytest

from orchestrator.shared.paths import ROOT

#: Folders from top to bottom. Modules outside of folders are the entry point, above all.
FOLDERS = (
    "manual",
    "verbs",
    "run",
    "deliver",
    "decide",
    "ask",
    "blueprint",
    "docker",
    "agents",
    "image",
    "shared",
)

PACKAGE = ROOT / "orchestrator"


@functools.cache
def names(text: str) -> frozenset[str]:
    """Return what a module imports, anywhere in it, by its full name."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return frozenset(found)


def imported(text: str) -> set[str]:
    """Return the folders of this package that a module imports from."""
    return {name.split(".")[1] for name in names(text) if name.startswith("orchestrator.")}


def test_every_folder_has_its_place() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders == set(FOLDERS)


def test_only_the_entry_lies_beside_the_folders() -> None:
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_only_what_lies_below(folder: str) -> None:
    allowed = set(FOLDERS[FOLDERS.index(folder) :])
    modules = sorted((PACKAGE / folder).rglob("*.py"))
    assert modules
    for path in modules:
        above = imported(path.read_text()) - allowed
        assert not above, f"{path.relative_to(ROOT)} imports from {', '.join(sorted(above))}"


@pytest.mark.parametrize(
    ("text", "folders"),
    [
        ("from orchestrator.run import runs", {"run"}),
        ("import orchestrator.ask.caller", {"ask"}),
        ("def f():\n    from orchestrator import verbs", {"verbs"}),
        ("import os", set()),
    ],
)
def test_imports_are_seen_wherever_they_stand(text: str, folders: set[str]) -> None:
    assert imported(text) == folders


def below(folder: str, imports: dict[str, set[str]]) -> set[str]:
    """Return the folders that `folder` imports from, directly or indirectly."""
    return imports[folder].union(*(below(one, imports) for one in imports[folder]))


def test_the_picture_shows_the_imports() -> None:
    """Return direct imports without those that follow from others."""
    imports = {
        folder: set().union(
            *(imported(path.read_text()) for path in (PACKAGE / folder).rglob("*.py"))
        )
        - {folder}
        for folder in FOLDERS
    }
    needed = {
        (folder, one)
        for folder, found in imports.items()
        for one in found
        if not any(one in below(other, imports) for other in found)
    }
    page = (ROOT / "docs/architecture.md").read_text()
    (picture,) = re.findall(r"^flowchart TD\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"(\w+) --> (\w+)", picture)) == needed


def test_agents_need_only_what_their_images_have() -> None:
    """Agents' images only have the standard library, locks/agents.txt and three folders."""
    known = {"orchestrator", "requests", "requests_aws4auth", "structlog", "tenacity"}
    for folder in ("agents", "image"):
        for path in (PACKAGE / folder).rglob("*.py"):
            foreign = {name.split(".")[0] for name in names(path.read_text())} - known
            assert foreign <= sys.stdlib_module_names, f"{path.relative_to(ROOT)} imports {foreign}"
