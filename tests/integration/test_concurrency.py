"""Several runs on one host: they share the kernel's table, the store and the work volume."""

import concurrent.futures
import threading
import time

import pytest

from tests.integration.conftest import Run, docker, table

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


def key(number: int) -> dict[str, bytes]:
    """Another key for each run, so that each has something to build."""
    return {"/home/me/key.pub": f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5{number:048d} me\n".encode()}


def test_four_runs_at_once_all_succeed_with_images_of_their_own(orchestrate: Run) -> None:
    modes = ("shared", "private", "shared", "private")

    def one(number: int) -> str:
        options = ("--no-boot", "--emulation", modes[number], "--ssh-key", "/home/me/key.pub")
        outcome = orchestrate("demo", *options, files=key(number))
        assert outcome.code == 0, outcome.err
        result = outcome.result()
        assert result["emulation"] == modes[number]
        name = next(name for name in outcome.files() if name.endswith(".img"))
        assert f"{number:048d}".encode() in outcome.files()[name]
        return str(result["sha256"])

    with concurrent.futures.ThreadPoolExecutor(len(modes)) as pool:
        assert len(set(pool.map(one, range(len(modes))))) == len(modes)


def test_a_run_that_is_killed_takes_nothing_from_another(orchestrate: Run) -> None:
    """Both have entries in the table; the victim's go, the other's stay until it is done."""
    before = table()
    killed = threading.Event()

    def kill() -> None:
        """The victim's builder, as soon as both runs have registered."""
        until = time.monotonic() + 60
        while len(table()) < len(before) + 2 and time.monotonic() < until:
            time.sleep(0.1)
        names = docker("ps", "--format", "{{.Names}}", "--filter", "name=-builder-1").split()
        docker("kill", names[0])
        killed.set()

    def one(number: int) -> int:
        options = ("--no-boot", "--emulation", "shared", "--ssh-key", "/home/me/key.pub")
        return orchestrate("demo", *options, files=key(number)).code

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        killer = pool.submit(kill)
        codes = sorted(pool.map(one, (10, 11)))
        killer.result()
    assert killed.is_set()
    assert codes == [0, 6]
