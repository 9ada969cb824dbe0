"""Measures time, memory and disk space of commands, including their child processes."""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import subprocess
import threading
import time
import typing
from collections.abc import Callable

#: Folder of the benchmark programs and their results, on the store's volume.
FOLDER = pathlib.Path("/nix/benchmark")

MIB = 1 << 20
REPEATS = 3
SAMPLE_SECONDS = 0.05

Json = dict[str, typing.Any]


@dataclasses.dataclass(frozen=True)
class Measured:
    """Measurement of one command with all its processes; sizes are bytes.

    `largest_rss` is the peak of the largest process, `total_rss` the peak sum of all processes;
    `disk` is the peak size of its folder, `written` the bytes written there, including removed
    files.
    """

    seconds: float
    cpu_seconds: float
    largest_rss: int
    total_rss: int
    disk: int
    written: int
    load: float


class Sampler(threading.Thread):
    """Samples memory and disk space of a session of processes."""

    def __init__(self, session: int, folder: pathlib.Path, skip: str) -> None:
        """`folder` is the session's working folder; folders called `skip` are not counted."""
        super().__init__()
        self.largest = self.total = self.disk = 0
        self._ended = threading.Event()
        self._session, self._folder, self._skip = session, folder, skip

    def run(self) -> None:
        """Take samples until `stop`."""
        while not self._ended.wait(SAMPLE_SECONDS):
            self.sample()

    def sample(self) -> None:
        """Take a sample and update the peaks."""
        total = 0
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            # The process may end meanwhile; a zombie has no sizes.
            with contextlib.suppress(OSError, KeyError):
                if os.getsid(int(process.name)) == self._session:
                    lines = (process / "status").read_text().splitlines()
                    fields = dict(line.split(":", 1) for line in lines)
                    # ru_maxrss of wait4(2) is wrong here: it includes the parent's memory before
                    # execve(2).
                    self.largest = max(self.largest, int(fields["VmHWM"].split()[0]) * 1024)
                    total += int(fields["VmRSS"].split()[0]) * 1024
        self.total = max(self.total, total)
        self.disk = max(self.disk, disk_use(self._folder, self._skip))

    def stop(self) -> None:
        """Take the last sample and end."""
        self._ended.set()
        self.join()
        self.sample()


def measure(command: list[str], folder: pathlib.Path, skip: str = "") -> Measured:
    """Run `command` in the new, empty `folder`, after a sync of pending writes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    folder.chmod(0o777)
    os.sync()
    load = os.getloadavg()[0]
    began = time.monotonic()
    with subprocess.Popen(
        command, cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL
    ) as process:
        sampler = Sampler(process.pid, folder, skip)
        sampler.start()
        _pid, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        sampler.stop()
    if process.returncode:
        raise SystemExit(f"{command}: exit code {process.returncode}")
    return Measured(
        seconds=round(seconds, 3),
        cpu_seconds=round(usage.ru_utime + usage.ru_stime, 3),
        largest_rss=sampler.largest,
        total_rss=sampler.total,
        disk=sampler.disk,
        written=usage.ru_oublock * 512,
        load=load,
    )


def best(once: Callable[[], Measured]) -> Json:
    """Return the fastest of a few runs, with the seconds of all."""
    runs = [once() for _ in range(REPEATS)]
    fastest = min(runs, key=lambda run: run.seconds)
    return {**dataclasses.asdict(fastest), "runs": [run.seconds for run in runs]}


def disk_use(folder: pathlib.Path, skip: str = "") -> int:
    """Return the disk space below `folder` in bytes, without folders called `skip`."""
    total = 0
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != skip]
        for name in files:
            with contextlib.suppress(FileNotFoundError):  # the command may have removed the file
                total += os.lstat(f"{path}/{name}").st_blocks * 512
    return total
