"""What all unit tests share: no Docker, no leftovers in structlog, repeatable hypothesis runs."""

import os
import pathlib
import sys
from collections.abc import Iterator

import hypothesis
import pytest
import structlog

from orchestrator.ask.request import Caller
from tests.unit.requests import CALLER

# The same examples on every run: a suite that a user runs to see whether the appliance works must
# not roll dice. No deadline: a loaded CI machine is no failure.
hypothesis.settings.register_profile("unit", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("unit")

_FORBIDDEN = frozenset({"docker", "docker-compose", "podman"})
_guarding = False


class DockerCalledError(BaseException):
    """A unit test started Docker; not an `Exception`, so that no code under test can swallow it."""


def _words(arguments: object) -> list[str]:
    given = arguments if isinstance(arguments, list | tuple) else [arguments]
    return [os.fsdecode(word) for word in given if isinstance(word, str | bytes | os.PathLike)]


def _refuse_docker(event: str, arguments: tuple[object, ...]) -> None:
    """Audit hook: sees every start of a program.

    Whatever way the code under test has imported `subprocess`.
    """
    if not _guarding or event not in {"subprocess.Popen", "os.exec", "os.posix_spawn", "os.system"}:
        return
    executable = _words(arguments[0])
    command = _words(arguments[1]) if len(arguments) > 1 else []
    programs = {
        pathlib.PurePosixPath(word.split(maxsplit=1)[0]).name
        for word in [*executable, *command[:1]]
        if word.strip()
    }
    if programs & _FORBIDDEN:
        raise DockerCalledError(f"a unit test started {' '.join([*executable, *command])}")


sys.addaudithook(_refuse_docker)


@pytest.fixture(autouse=True)
def no_docker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make real Docker calls impossible; where one gets through in a shell, it finds no engine."""
    global _guarding  # an audit hook cannot be removed, only told to be quiet
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    _guarding = True
    yield
    _guarding = False


@pytest.fixture(autouse=True)
def fresh_structlog() -> Iterator[None]:
    """Undo what a test configured: structlog's state belongs to the process."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def who() -> Caller:
    """A caller on a terminal-less Linux host."""
    return CALLER
