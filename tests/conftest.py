"""Shared by all tests: selection of tests, required programs, forbidden programs, fixtures.

`slow` tests run with `--all`, and where their file is named. `--all` fuzzes at length, too.
With `--share K/N` only a part of each family of slow cases runs (`tests/shares.py`).
"""

import http.server
import os
import pathlib
import shutil
import sys
import tempfile
import threading
import typing
from collections.abc import Iterator

import hypothesis
import pytest
import structlog

from orchestrator.ask.request import Caller
from tests.shares import Share, left_to_others, share
from tests.unit.requests import CALLER

TESTS = pathlib.Path(__file__).parent
ROOT = TESTS.parent
UNIT, TOOLS, INTEGRATION = (TESTS / name for name in ("unit", "tools", "integration"))

IN_TEST_IMAGE = "NIXOS_IMAGE_IN_TEST_IMAGE" in os.environ

# Hypothesis uses the same examples in every run, because users run the suite to check the
# appliance. It has no deadline, because a loaded CI machine is not a failure.
for name, examples in (("quick", 12), ("long", 100)):
    hypothesis.settings.register_profile(
        name, deadline=None, derandomize=True, database=None, max_examples=examples
    )


# --- which tests run ------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="slow tests too, and fuzzing at length")
    parser.addoption("--every", action="store_true", help="each case of what slow tests sample")
    parser.addoption(
        "--share",
        type=share,
        default=Share(),
        metavar="K/N",
        help="only each N-th of the slow tests and of their cases, from the K-th on",
    )


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.load_profile("long" if config.getoption("--all") else "quick")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Start workers, if pytest-xdist is there, unless files are named: that takes a second.

    Two, and for tests/unit alone, which also waits for time limits, a third.
    """
    if hasattr(config, "workerinput") or config.getoption("usepdb"):
        return
    if config.getoption("numprocesses", 0) is None and not named_files(config):
        alone = {pathlib.Path(word).resolve() for word in config.args} == {UNIT}
        config.option.tx, config.option.dist = ["popen"] * (3 if alone else 2), "loadscope"
        # In the order of the folders: tests/integration, which one worker runs, takes longest.
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left = left_to_others(items, config.getoption("--share"))
    if not config.getoption("--all"):
        named = named_files(config)
        slow = [item for item in items if item.get_closest_marker("slow")]
        left += [item for item in slow if item.path not in named and item not in left]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in set(left)]


def named_files(config: pytest.Config) -> set[pathlib.Path]:
    """Return the files among pytest's arguments; slow tests run only if their file is named."""
    paths = {pathlib.Path(word.partition("::")[0]).resolve() for word in config.args}
    return {path for path in paths if path.is_file()}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Put tests into groups of workers; `--dist loadgroup` does not find marks in pytest 9.2."""
    from tests.workers import ByGroup  # tests.workers needs xdist

    return ByGroup(config, log)


# --- what tests need ------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests that need a missing program or file."""
    if missing := [name for mark in item.iter_markers("needs") for name in absent(*mark.args)]:
        pytest.skip(f"needs {', '.join(missing)}")
    if IN_TEST_IMAGE:
        return
    for mark in item.iter_markers("test_image"):
        pytest.skip(f"needs the test image: {mark.args[0]}")
    if item.get_closest_marker("own_store"):
        pytest.skip("needs the test image: it writes to /nix")


def absent(*names: str) -> list[str]:
    """Return missing requirements: programs on PATH or, with a slash or `.so`, files."""
    files = [name for name in names if "/" in name or name.endswith(".so")]
    return [
        name
        for name in names
        if not ((ROOT / name).exists() if name in files else shutil.which(name))
    ]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> typing.Generator[None, pytest.TestReport, pytest.TestReport]:
    """In the test image, which has all required programs, a skipped test is a failure."""
    report = yield
    if IN_TEST_IMAGE and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in the test image: {report.longrepr}"
    return report


# --- what tests may start and write ---------------------------------------------------------------

_DOCKER = frozenset({"docker", "docker-compose", "podman"})
#: Programs that tests/unit may start, because every Linux has them; tests of others belong to
#: tests/tools.
_EVERYWHERE = frozenset("bash cat dd ln mkdir mv ps sh sha256sum sleep tar true".split())
_OWN_PYTHON = {sys.executable, os.path.realpath(sys.executable)}
_SYSTEM = ("/bin/", "/sbin/", "/usr/", "/lib", "/opt/test/")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_SYSTEMS = ("/boot/", "/etc/", "/nix/", "/opt/", "/run/", "/var/")
_CACHE = "__pycache__"
_TEMPORARY = (tempfile.gettempdir(), os.fspath(ROOT), sys.prefix)
_guarded: frozenset[pathlib.Path] = frozenset()


class ForbiddenProgramError(BaseException):
    """A test started a forbidden program; not an `Exception`, so that nobody catches it."""


class ForbiddenPlaceError(BaseException):
    """A unit test wrote to a system folder; not an `Exception`, so that nobody catches it."""


def _words(arguments: object) -> list[str]:
    given = arguments if isinstance(arguments, list | tuple) else [arguments]
    return [os.fsdecode(word) for word in given if isinstance(word, str | bytes | os.PathLike)]


def _refuse_programs(event: str, arguments: tuple[object, ...]) -> None:
    """Audit hook that sees every start of a program.

    The hook sees them whatever way the code under test has imported `subprocess`.
    """
    if not _guarded or event not in {"subprocess.Popen", "os.exec", "os.posix_spawn", "os.system"}:
        return
    executable = _words(arguments[0])
    command = _words(arguments[1]) if len(arguments) > 1 else []
    programs = [word.split(maxsplit=1)[0] for word in [*executable, *command[:1]] if word.strip()]
    for program in programs:
        name = pathlib.PurePosixPath(program).name
        if name in _DOCKER or (UNIT in _guarded and _is_a_tool(program, name)):
            raise ForbiddenProgramError(f"a test started {' '.join([*executable, *command])}")


def _refuse_places(event: str, arguments: tuple[object, ...]) -> None:
    """Audit hook that sees every file opened and every folder made.

    A unit test that writes to the system's folders passes for root and fails for everybody else.
    """
    if UNIT not in _guarded or event not in {"open", "os.mkdir"}:
        return
    place, _, flags = (*arguments, None, None)[:3]
    writes = event == "os.mkdir" or (isinstance(flags, int) and flags & _WRITES)
    if writes and isinstance(place, str | bytes | os.PathLike):
        path = os.fsdecode(place)
        # Python keeps bytecode beside the modules that it compiles.
        if path.startswith(_SYSTEMS) and not path.startswith(_TEMPORARY) and _CACHE not in path:
            raise ForbiddenPlaceError(f"a test of tests/unit writes to {path}")


def _is_a_tool(program: str, name: str) -> bool:
    """Whether `program` is one that not every Linux has."""
    found = program if "/" in program else shutil.which(program) or ""
    return found.startswith(_SYSTEM) and found not in _OWN_PYTHON and name not in _EVERYWHERE


sys.addaudithook(_refuse_programs)
sys.addaudithook(_refuse_places)


@pytest.fixture(autouse=True)
def programs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Refuse Docker in tests/unit and tests/tools, and programs in tests/unit.

    A call of Docker that gets through, by a shell, finds no engine.
    """
    global _guarded  # an audit hook cannot be removed, only disabled
    folders = {UNIT, TOOLS}.intersection(request.path.parents)
    if folders:
        monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    _guarded = frozenset(folders)
    yield
    _guarded = frozenset()


@pytest.fixture(autouse=True)
def fresh_structlog() -> Iterator[None]:
    """Undo what a test configured: structlog's state belongs to the process."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


# --- what several files use -----------------------------------------------------------------------


@pytest.fixture
def mine(request: pytest.FixtureRequest) -> Share:
    """The share of `--share`, for a test that tries several cases itself."""
    found: Share = request.config.getoption("--share")
    return found


@pytest.fixture
def who() -> Caller:
    """A caller on a Linux host without a terminal."""
    return CALLER


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a server that answers each request with an error status."""
    monkeypatch.setenv("no_proxy", "*")
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
