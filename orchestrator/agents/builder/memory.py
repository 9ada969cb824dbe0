"""Whether the kernel has killed something in this container for want of memory."""

import pathlib
import re

#: Where the kernel counts that for a container: control groups of version 2 (`cgroup-v2.rst` of the
#: kernel's documentation), of version 1 (`cgroup-v1/memory.rst`).
COUNTERS = (
    pathlib.Path("/sys/fs/cgroup/memory.events"),
    pathlib.Path("/sys/fs/cgroup/memory/memory.oom_control"),
)


def kills(counters: tuple[pathlib.Path, ...] = COUNTERS) -> int:
    """How many processes of this container were killed so far; 0 where nobody counts."""
    for counter in counters:
        try:
            text = counter.read_text()
        except OSError:
            continue
        if match := re.search(r"^oom_kill (\d+)$", text, re.MULTILINE):
            return int(match[1])
    return 0
