"""Tests concurrent runs on one host, which share binfmt_misc and the store."""

import concurrent.futures
import re
import threading
import time
import typing

import pytest

from orchestrator.agents.emulation.ladder import rungs
from tests.integration.conftest import Alter, Forget, Run, docker, table

pytestmark = [pytest.mark.slow, pytest.mark.docker, pytest.mark.timeout(600)]


def key(number: int) -> dict[str, bytes]:
    """Return the file of a run's own SSH key, by which its image is known."""
    return {
        "/home/me/key.pub": f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA{number:042d} me\n".encode()
    }


#: The demo's root file systems in these tests: each has builds of its own.
ROOTS = ("ext4", "xfs")


def test_four_runs_at_once_all_succeed_with_images_of_their_own(
    orchestrate: Run, forget: Forget
) -> None:
    """A shared and a private run want the same build, two others another one."""
    modes = ("shared", "private", "shared", "private")
    forget()

    def one(number: int) -> str:
        options = ("--no-boot", "--emulation", modes[number], "--root-fs", ROOTS[number // 2])
        outcome = orchestrate("demo", *options, "--ssh-key", "/home/me/key.pub", files=key(number))
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


def test_two_versions_of_qemu_at_once_do_not_meet(
    orchestrate: Run, altered: Alter, forget: Forget
) -> None:
    """Private emulation: each build uses its own run's emulator, although both are registered."""
    altered(
        "nixos-image-builder",
        "RUN printf '%b' '" + LOOK.replace("\n", "\\n") + "' >> nix/demo/toplevel.sh",
    )

    def one(rung: str, root: str) -> tuple[str, set[bytes], float, float]:
        options = ("--no-boot", "--emulation", "private", "--root-fs", root)
        outcome = orchestrate("demo", *options, "--qemu", rung)
        assert outcome.code == 0, outcome.err
        (emulator,) = typing.cast("list[dict[str, str]]", outcome.result()["emulators"])
        image = next(data for name, data in outcome.files().items() if name.endswith(".img"))
        seen = re.search(rb"seen from (\S+) to (\S+): Features\s*: (fp asimd [^\n]*)", image)
        assert seen
        return emulator["version"], set(seen[3].split()), float(seen[1]), float(seen[2])

    for root in ROOTS:  # what takes longer than the last build, which looks
        one(rungs()[1], root)
    forget()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        both = pool.map(one, rungs()[:2], ROOTS)
        (older, of_older, *first), (newer, of_newer, *second) = both
    assert older.startswith(f"{rungs()[0]}.")
    assert newer.startswith(f"{rungs()[1]}.")
    assert max(first[0], second[0]) < min(first[1], second[1]), "they were not at it at once"
    # QEMU 11.1 emulates guarded control stacks, 10.0 does not.
    assert b"gcs" not in of_older
    assert b"gcs" in of_newer


def test_what_another_run_has_registered_is_not_the_hosts(
    orchestrate: Run, altered: Alter, forget: Forget
) -> None:
    """Without private emulation, another run's emulator is usable only while that run lives."""
    altered("nixos-image-builder", "RUN echo 'sleep 8' >> nix/demo/toplevel.sh")
    forget()
    before = table()
    variables = {"NIXOS_IMAGE_SECCOMP": "no-new-privileges"}

    def one(root: str) -> tuple[int, object]:
        outcome = orchestrate("demo", "--no-boot", "--root-fs", root, **variables)
        return outcome.code, outcome.err if outcome.code else outcome.result()["emulation"]

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(one, ROOTS[0])
        until = time.monotonic() + 60
        while len(table()) == len(before):
            assert time.monotonic() < until
        second = pool.submit(one, ROOTS[1])
        assert (first.result(), second.result()) == ((0, "shared"), (0, "shared"))


def test_a_run_that_is_killed_takes_nothing_from_another(orchestrate: Run, forget: Forget) -> None:
    """Both runs have entries; the killed run's are removed, the other's stay until its end."""
    forget()
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

    def one(root: str) -> int:
        return orchestrate("demo", "--no-boot", "--emulation", "shared", "--root-fs", root).code

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        killer = pool.submit(kill)
        codes = sorted(pool.map(one, ROOTS))
        killer.result()
    assert killed.is_set()
    assert codes == [0, 6]
