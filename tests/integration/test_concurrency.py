"""Tests concurrent runs on one host, which share binfmt_misc and the store."""

import concurrent.futures
import re
import secrets
import threading
import time
import typing

import pytest

from orchestrator.agents.emulation.ladder import rungs
from tests.integration.conftest import Alter, Run, docker, table

pytestmark = [pytest.mark.slow, pytest.mark.docker, pytest.mark.timeout(600)]


def key(number: int) -> dict[str, bytes]:
    """Each run has its own SSH key, so that each has something to build."""
    return {
        "/home/me/key.pub": f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA{number:042d} me\n".encode()
    }


def test_four_runs_at_once_all_succeed_with_images_of_their_own(orchestrate: Run) -> None:
    modes = ("shared", "private", "shared", "private")

    def one(number: int) -> str:
        options = ("--no-boot", "--emulation", modes[number], "--ssh-key", "/home/me/key.pub")
        outcome = orchestrate("demo", *options, files=key(number))
        assert outcome.code == 0, outcome.err
        result = outcome.result()
        assert result["emulation"] == modes[number]
        name = next(name for name in outcome.files() if name.endswith(".img"))
        assert f"{number:042d}".encode() in outcome.files()[name]
        return str(result["sha256"])

    with concurrent.futures.ThreadPoolExecutor(len(modes)) as pool:
        assert len(set(pool.map(one, range(len(modes))))) == len(modes)


#: Build step that puts /proc/cpuinfo and the time into the image.
LOOK = """\
while read -r line; do case $line in Features*) break ;; esac; done < /proc/cpuinfo
read -r began rest < /proc/uptime
sleep 6
read -r ended rest < /proc/uptime
echo "seen from $began to $ended: $line" > "$out/features"
"""


def test_two_versions_of_qemu_at_once_do_not_meet(orchestrate: Run, altered: Alter) -> None:
    """Private emulation: each build uses its own run's emulator, although both are registered."""
    altered(
        "nixos-image-builder",
        "RUN printf '%b' '" + LOOK.replace("\n", "\\n") + "' >> nix/demo/etc.sh",
    )

    def one(rung: str, number: int) -> tuple[str, set[bytes], float, float]:
        options = ("--no-boot", "--emulation", "private", "--ssh-key", "/home/me/key.pub")
        outcome = orchestrate("demo", *options, "--qemu", rung, files=key(number))
        assert outcome.code == 0, outcome.err
        (emulator,) = typing.cast("list[dict[str, str]]", outcome.result()["emulators"])
        image = next(data for name, data in outcome.files().items() if name.endswith(".img"))
        seen = re.search(rb"seen from (\S+) to (\S+): Features\s*: (fp asimd [^\n]*)", image)
        assert seen
        return emulator["version"], set(seen[3].split()), float(seen[1]), float(seen[2])

    number = secrets.randbelow(10**40)  # a new number: a path that the store has is not built
    one(rungs()[1], number)  # building this image takes longer than the build
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        both = pool.map(one, rungs()[:2], (number + 1, number + 2))
        (older, of_older, *first), (newer, of_newer, *second) = both
    assert older.startswith(f"{rungs()[0]}.")
    assert newer.startswith(f"{rungs()[1]}.")
    assert max(first[0], second[0]) < min(first[1], second[1]), "they were not at it at once"
    # QEMU 11.1 emulates guarded control stacks, 10.0 does not.
    assert b"gcs" not in of_older
    assert b"gcs" in of_newer


def test_what_another_run_has_registered_is_not_the_hosts(orchestrate: Run, altered: Alter) -> None:
    """Without private emulation, another run's emulator is usable only while that run lives."""
    altered("nixos-image-builder", "RUN echo 'sleep 8' >> nix/demo/etc.sh")
    before = table()
    options = ("--no-boot", "--ssh-key", "/home/me/key.pub")
    variables = {"NIXOS_IMAGE_SECCOMP": "no-new-privileges"}

    def one(number: int) -> tuple[int, object]:
        outcome = orchestrate("demo", *options, files=key(number), **variables)
        return outcome.code, outcome.err if outcome.code else outcome.result()["emulation"]

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(one, secrets.randbelow(10**40))
        until = time.monotonic() + 60
        while len(table()) == len(before):
            assert time.monotonic() < until
        second = pool.submit(one, secrets.randbelow(10**40))
        assert (first.result(), second.result()) == ((0, "shared"), (0, "shared"))


def test_a_run_that_is_killed_takes_nothing_from_another(orchestrate: Run) -> None:
    """Both runs have entries; the killed run's are removed, the other's stay until its end."""
    before = table()
    killed = threading.Event()

    def kill() -> None:
        """Return the victim's builder, when both runs have registered."""
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
