"""What run.sh answers by itself is what the parsers and tables say, and needs no Docker."""

import os
import pathlib
import shutil
import subprocess
import time

import pytest

from orchestrator.shared.paths import ROOT
from orchestrator.shared.version import NAME, product_version
from orchestrator.verbs import help as help_verb
from orchestrator.verbs import registry
from orchestrator.verbs.version import versions

pytestmark = pytest.mark.needs("dash", "bash")

PAGES = help_verb.pages()

#: Exit code of run.sh without Docker (docs/exit-codes.md).
NO_DOCKER = 3

#: What `docker version` prints where the engine answers.
ENGINE = "Docker 26.1.5, linux/amd64"


@pytest.fixture(params=["dash", "bash"])
def shell(request: pytest.FixtureRequest) -> list[str]:
    path = shutil.which(request.param)
    assert path, f"{request.param} is not here"
    return [path]


@pytest.fixture
def stub(tmp_path: pathlib.Path) -> pathlib.Path:
    """A `docker` that fails, and leaves a file `called` beside it."""
    path = tmp_path / "docker"
    path.write_text('#!/bin/sh\necho "$@" > "$(dirname "$0")/called"\nexit 1\n')
    path.chmod(0o755)
    return path


def run_sh(shell: list[str], folder: pathlib.Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Call run.sh with what is in `folder` before all other programs."""
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
    command = [*shell, str(ROOT / "run.sh"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_the_files_are_what_the_parsers_say() -> None:
    """Made by `python3 -m orchestrator.verbs.help`."""
    folders = (ROOT / "docs/help", ROOT / "docs/answers")
    there = {path.relative_to(ROOT).as_posix() for one in folders for path in one.iterdir()}
    assert there == set(PAGES)
    for path, text in PAGES.items():
        assert (ROOT / path).read_text() == text, path


@pytest.mark.parametrize(
    ("words", "page"),
    [
        (["--help"], "help/build"),
        (["-h"], "help/build"),
        (["--flake", ".#x", "--help"], "help/build"),
        (["help"], "answers/help"),
        (["formats"], "answers/formats"),
        (["boot", "x", "--test", "-h"], "help/boot"),
        *(([name, "--help"], f"help/{name}") for name in registry.names()),
        *((["help", name], f"help/{name}") for name in registry.names()),
    ],
)
def test_help_needs_no_docker(
    words: list[str], page: str, shell: list[str], stub: pathlib.Path
) -> None:
    done = run_sh(shell, stub.parent, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == PAGES[f"docs/{page}.txt"]
    assert not (stub.parent / "called").exists()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["formats", "iso"],
        ["help", "../help/boot"],
        ["../help/boot", "--help"],
        ["boot", "--", "--help"],  # an image of that name
        ["test", "-k", "lease", "--help"],  # pytest's
        ["compose", "up", "--help"],  # Compose's
        ["up", "--help"],
    ],
)
def test_what_is_no_question_about_us_goes_on(
    words: list[str], shell: list[str], stub: pathlib.Path
) -> None:
    done = run_sh(shell, stub.parent, *words)
    assert (done.returncode, done.stdout) == (NO_DOCKER, "")
    assert (stub.parent / "called").exists()


def test_words_for_another_program_are_those_of_the_same_verbs() -> None:
    """caller/help.sh names them, as each of these verbs does."""
    names = [name for name in registry.names() if registry.verb(name).passes_on]
    assert f"case $first in {' | '.join(names)}) return" in (ROOT / "caller/help.sh").read_text()


def test_version_is_read_from_the_checkout(shell: list[str], stub: pathlib.Path) -> None:
    done = run_sh(shell, stub.parent, "version")
    assert (done.returncode, done.stdout, done.stderr) == (0, versions(), "")
    assert versions().splitlines()[0].split() == [NAME, product_version()]


def test_version_tells_of_an_engine_that_answers(shell: list[str], stub: pathlib.Path) -> None:
    stub.write_text(f"#!/bin/sh\necho {ENGINE}\n")
    lines = run_sh(shell, stub.parent, "version").stdout.splitlines()
    assert lines[:-1] == versions().splitlines()
    assert lines[-1].split(maxsplit=1) == ["engine", ENGINE]


def test_version_does_not_wait_for_an_engine_that_hangs(
    shell: list[str], stub: pathlib.Path
) -> None:
    stub.write_text("#!/bin/sh\necho $$ > $(dirname $0)/pid\nexec sleep 60\n")
    began = time.monotonic()
    done = run_sh(shell, stub.parent, "version")
    assert (done.returncode, done.stdout, done.stderr) == (0, versions(), "")
    assert time.monotonic() - began < 10  # half a second where the machine is idle
    pid = int((stub.parent / "pid").read_text())
    assert not pathlib.Path(f"/proc/{pid}").exists()


def test_the_version_stands_in_one_place() -> None:
    """Wherever else it is needed, `product_version` reads it."""
    version = product_version()
    assert version.count(".") == 2
    for path in [ROOT / "run.sh", *(ROOT / "orchestrator").rglob("*.py")]:
        assert f'"{version}"' not in path.read_text(), path
