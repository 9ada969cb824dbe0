"""Benchmark: what the progress of a build costs, as a share of the build's CPU time.

`python3 -m benchmarks.progress` needs Nix. It builds the cheapest derivations that there are, a
shell that prints some lines, in a store of its own: any real build costs more, so its share is
smaller. Then it replays the log of 5,000 of them, without and with progress: the reporter in the
builder, its events, and the live lines. Prints JSON; seconds are CPU time.
"""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import resource
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator

from orchestrator.agents import events
from orchestrator.agents.builder.nixlog import NixLog
from orchestrator.agents.builder.reporter import INTERVAL_SECONDS, Reporter
from orchestrator.run.activity import Follower
from orchestrator.run.supervisor import read_event
from orchestrator.shared import live
from orchestrator.shared.display import Display, Terminal
from orchestrator.shared.progress import make_progress

#: Derivations that are replayed, and those that Nix builds for the comparison.
REPLAYED = 5000
BUILT = 200

#: Lines that each of them prints.
LINES = 20

#: Number of reports whose mean cost is measured.
REPORTS = 400

EXPRESSION = """
builtins.genList (number: derivation {{
  name = "benchmark-${{toString number}}";
  system = builtins.currentSystem;
  builder = "/bin/sh";
  args = [ "-c" "for i in {words}; do echo line $i; done; echo > $out" ];
}}) {count}
"""


def build(folder: pathlib.Path) -> tuple[float, float]:
    """Build BUILT derivations; returns seconds of CPU and of the clock."""
    words = " ".join(map(str, range(LINES)))
    place = folder / "default.nix"
    place.write_text(EXPRESSION.format(words=words, count=BUILT))
    own = {name: os.fspath(folder / name) for name in ("store", "state", "log", "conf", "home")}
    variables = {
        **os.environ,
        "NIX_STORE_DIR": own["store"],
        "NIX_STATE_DIR": own["state"],
        "NIX_LOG_DIR": own["log"],
        "NIX_CONF_DIR": own["conf"],
        "HOME": own["home"],
        "NIX_CONFIG": "experimental-features = nix-command\nsandbox = false\nsubstituters =\n"
        "build-users-group =\nmax-jobs = auto",
    }
    command = ["nix", "build", "--no-link", "--log-format", "internal-json"]
    command += ["--file", os.fspath(place)]
    before, began = _children(), time.monotonic()
    subprocess.run(command, env=variables, check=True, stderr=subprocess.DEVNULL)
    return _children() - before, time.monotonic() - began


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def log_lines() -> Iterator[str]:
    """Yield the lines of Nix' log of REPLAYED builds, of which two run at a time."""

    def line(**fields: object) -> str:
        return f"@nix {json.dumps(fields)}"

    yield line(action="start", id=1, level=0, parent=0, text="", type=104)
    for number in range(REPLAYED):
        path = f"/nix/store/{'a' * 32}-benchmark-{number}.drv"
        fields = [path, "", 1, 1]
        own = number + 10
        yield line(
            action="start", fields=fields, id=own, level=3, parent=0, text="building", type=105
        )
        yield line(action="result", fields=[number, REPLAYED, 2, 0], id=1, type=105)
        for text in range(LINES):
            yield line(action="result", fields=[f"line {text}"], id=own, type=101)
        if number:
            yield line(action="stop", id=own - 1)


def without(lines: list[str]) -> float:
    """Return the CPU seconds of the log's parser, which errors and the log file need anyway."""
    log = NixLog(io.StringIO())
    began = time.process_time()
    for line in lines:
        log.feed(line)
    return time.process_time() - began


def with_progress(lines: list[str], seconds: float) -> float:
    """Return the CPU seconds of the parser and of all reports of a build of `seconds`."""
    log, lock = NixLog(io.StringIO()), threading.Lock()
    began = time.process_time()
    for line in lines:
        with lock:
            log.feed(line)
    parsing = time.process_time() - began
    return parsing + seconds / INTERVAL_SECONDS * report(log, lock)


def report(log: NixLog, lock: threading.Lock) -> float:
    """Return the CPU seconds of one report, from the log's state to the redrawn lines."""
    written = io.StringIO()
    reporter, follower = Reporter(log, lock), Follower()
    progress = make_progress(Display("live"), Terminal(100, 40))
    os.environ["NIXOS_IMAGE_LOG"] = "json"
    began = time.process_time()
    for number in range(REPORTS):
        log.done = number
        with contextlib.redirect_stdout(written):
            events.configure("builder")
            reporter.tell()
        event = read_event(written.getvalue()) or {}
        follower.show(progress, "nix", event)
        # Redraw as often as in INTERVAL_SECONDS.
        for _ in range(round(INTERVAL_SECONDS / live.REDRAW_SECONDS)):
            progress._teller._drawn = 0.0  # type: ignore[attr-defined]
            progress._show()
        written.seek(0)
        written.truncate()
    used = time.process_time() - began
    progress.close()
    return used / REPORTS


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        cpu, clock = build(pathlib.Path(folder))
    scale = REPLAYED / BUILT
    lines = list(log_lines())
    plain = min(without(lines) for _ in range(3))
    shown = min(with_progress(lines, clock * scale) for _ in range(3))
    found = Result(
        derivations=REPLAYED,
        lines=len(lines),
        build=round(cpu * scale, 2),
        without=round(plain, 3),
        with_progress=round(shown, 3),
        share=round(max(0.0, shown - plain) / (cpu * scale + plain), 4),
    )
    print(json.dumps(dataclasses.asdict(found), indent=2))


@dataclasses.dataclass(frozen=True)
class Result:
    """Seconds of CPU of the builds, of the parser, of parser and progress; the latter's share."""

    derivations: int
    lines: int
    build: float
    without: float
    with_progress: float
    share: float


if __name__ == "__main__":
    main()
