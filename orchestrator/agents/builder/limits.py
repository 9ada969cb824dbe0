"""Counts how often this container has met its limits of memory and of processes."""

import dataclasses
import pathlib
import re

#: Files with the OOM killer's count: control groups of version 2 (`cgroup-v2.rst` of the kernel's
#: documentation), and of version 1 (`cgroup-v1/memory.rst`).
KILLS = (
    pathlib.Path("/sys/fs/cgroup/memory.events"),
    pathlib.Path("/sys/fs/cgroup/memory/memory.oom_control"),
)

#: Files with the number of processes that were refused, likewise (`cgroup-v1/pids.rst`).
REFUSALS = (
    pathlib.Path("/sys/fs/cgroup/pids.events"),
    pathlib.Path("/sys/fs/cgroup/pids/pids.events"),
)


@dataclasses.dataclass(frozen=True)
class Met:
    """Numbers of processes that the OOM killer has killed, and that the kernel did not start."""

    kills: int
    refusals: int

    def __sub__(self, earlier: "Met") -> "Met":
        """Return what was met since `earlier`."""
        return Met(self.kills - earlier.kills, self.refusals - earlier.refusals)


def met(
    kills: tuple[pathlib.Path, ...] = KILLS, refusals: tuple[pathlib.Path, ...] = REFUSALS
) -> Met:
    """Return what this container has met so far; 0 for what has no counter."""
    return Met(_count("oom_kill", kills), _count("max", refusals))


def _count(name: str, counters: tuple[pathlib.Path, ...]) -> int:
    for counter in counters:
        try:
            text = counter.read_text()
        except OSError:
            continue
        if match := re.search(rf"^{name} ([0-9]{{1,18}})$", text, re.MULTILINE):
            return int(match[1])
    return 0
