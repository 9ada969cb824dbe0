"""Counts processes of this container that the kernel's OOM killer has killed."""

import pathlib
import re

#: Files with the OOM killer's count: control groups of version 2 (`cgroup-v2.rst` of the kernel's
#: documentation), and of version 1 (`cgroup-v1/memory.rst`).
COUNTERS = (
    pathlib.Path("/sys/fs/cgroup/memory.events"),
    pathlib.Path("/sys/fs/cgroup/memory/memory.oom_control"),
)


def kills(counters: tuple[pathlib.Path, ...] = COUNTERS) -> int:
    """Return the number of OOM kills in this container so far; 0 if there is no counter."""
    for counter in counters:
        try:
            text = counter.read_text()
        except OSError:
            continue
        if match := re.search(r"^oom_kill (\d+)$", text, re.MULTILINE):
            return int(match[1])
    return 0
