#!/usr/bin/env python3
"""Kill, stop, pause and remove each container of a run at each stage; record how the run ends.

Arguments choose the cases by the names of modes, stages, victims or faults. `clock`, which sets
this machine's clock a day ahead and back, is only done if it is named. Each outcome replaces its
row in `faults.csv`, and the summary in docs/reliability.md is regenerated. Run it on the host, from
any folder: it calls run.sh.
"""

import collections
import concurrent.futures
import csv
import dataclasses
import itertools
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping

PROJECT = pathlib.Path(__file__).parents[2]

#: Recorded results: the last outcome of each case.
RESULTS = pathlib.Path(__file__).with_name("faults.csv")

#: Document with the summary of `RESULTS`, from `MARK` to the end.
PAGE = PROJECT / "docs/reliability.md"
MARK = "<!-- made by tests/caller/faults.py -->\n"

#: Output that shows that a run has reached a stage.
STAGES = {
    "start": r"^start: ",
    "registered": r"^registered ",
    "build": r"^build: ",
    "assemble": r"^assemble: ",
    "boot": r"^boot: ",
    "deliver": r"^deliver: ",
}

VICTIMS = {
    "shared": ("registrar", "cleanup", "builder", "orchestrator", "boot", "host"),
    "private": ("builder", "orchestrator", "boot", "host"),
}

#: Faults of a container: SIGKILL; SIGTERM, then SIGKILL after a second; paused; removed.
FAULTS = {
    "kill": ["kill"],
    "stop": ["kill", "--signal", "TERM"],
    "pause": ["pause"],
    "remove": ["rm", "-f"],
}

#: Faults of the host: its clock is wrong for three seconds.
CLOCK = """
import time
before, began = time.time(), time.monotonic()
def jump(seconds):
    now = before + time.monotonic() - began
    time.clock_settime(time.CLOCK_REALTIME, now + seconds)
try:
    jump(86400)
    print(time.strftime("the clock says %F"), flush=True)
    time.sleep(3)
finally:
    jump(0)
"""

#: Seconds after which a paused orchestrator is resumed; other containers stay paused.
PAUSE_SECONDS = 5

#: The run's --timeout in seconds in cases with a paused container.
EMULATION_SECONDS, RUN_SECONDS = 10, 40

#: Seconds after which a case counts as hung.
HANG_SECONDS = 150

HOLDER = "host-holds-binfmt"
HOLD = """
import pathlib, time
from orchestrator.agents.emulation import binfmt
from orchestrator.shared import architectures
binfmt.mount()
riscv = architectures.SYSTEMS["riscv64-linux"]
line = binfmt.registration("qemu-riscv64", riscv, pathlib.Path("/opt/qemu/qemu-riscv64"), (5, 12))
(binfmt.MOUNT_POINT / "register").write_text(line)
print("held", flush=True)
time.sleep(36000)
"""
LOOK = """
from orchestrator.agents.emulation import binfmt
binfmt.mount()
for entry in binfmt.entries().values():
    print(entry.name, repr(entry.text))
"""
RIGHTS = (
    "--network none --cap-drop ALL --cap-add SYS_ADMIN --security-opt apparmor=unconfined"
    " --tmpfs /run --entrypoint python3 nixos-image-qemu-setup -u -c"
).split()


@dataclasses.dataclass(frozen=True)
class Case:
    """One case: `fault` happens to the container of `victim` at `stage`."""

    mode: str
    stage: str
    victim: str
    fault: str


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How the run ended, and what was needed to restore the host.

    `code` is run.sh's exit code, -1 if the run hung or did not reach the stage; `said` its error;
    `remedy` is `none`, `clean` (by ./run.sh clean) or `dirty` (that did not help).
    """

    code: int
    said: str
    remedy: str

    @property
    def good(self) -> bool:
        """Whether the run ended by itself with a reason, and the host is restored."""
        told = self.code == 0 or bool(self.said)
        return told and self.code not in {70, -1} and self.remedy != "dirty"


def docker(*arguments: str) -> str:
    """Return a docker command's output, "" if it fails."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def cases(words: list[str]) -> Iterator[Case]:
    """Return the possible cases that `words` select."""
    for mode, victims in VICTIMS.items():
        for stage, victim, fault in itertools.product(STAGES, victims, (*FAULTS, "clock")):
            if (victim == "host") != (fault == "clock") or (
                fault == "clock" and fault not in words
            ):
                continue
            # Left out: victims that have ended before the stage, or start only later.
            if victim == "registrar" and stage != "start":
                continue
            if victim in {"builder", "cleanup"} and stage in {"boot", "deliver"}:
                continue
            if victim == "boot" and stage != "boot":
                continue
            case = Case(mode, stage, victim, fault)
            if all(
                not set(words) & {*group} or getattr(case, name) in words
                for name, group in (
                    ("mode", VICTIMS),
                    ("stage", STAGES),
                    ("victim", VICTIMS["shared"]),
                    ("fault", (*FAULTS, "clock")),
                )
            ):
                yield case


class Host:
    """State of this Docker host that a run must not change."""

    def __init__(self, work: pathlib.Path) -> None:
        """Keep binfmt_misc mounted, with an entry of another program."""
        self.work = work
        docker("rm", "-f", HOLDER)
        docker("run", "-d", "--name", HOLDER, *RIGHTS, HOLD)
        while "held" not in docker("logs", HOLDER):
            time.sleep(0.1)
        self.before = self.state()
        assert self.before[0].startswith("qemu-riscv64 ")

    def state(self) -> tuple[str, ...]:
        """Return binfmt_misc's entries; containers, networks, volumes and partial files of runs."""
        label = "label=org.nixos-image"
        return (
            docker("run", "--rm", *RIGHTS, LOOK),
            docker("ps", "-aq", "--filter", f"{label}.run"),
            docker("network", "ls", "-q", "--filter", label),
            docker("volume", "ls", "-q", "--filter", label),
            " ".join(str(path) for path in self.work.rglob(".nixos-image-*")),
        )

    def remedy(self) -> str:
        """Restore the host; return what was needed, as in `Outcome.remedy`."""
        if self.state() == self.before:
            return "none"
        subprocess.run([PROJECT / "run.sh", "clean"], capture_output=True, check=False)
        return "clean" if self.state() == self.before else "dirty"

    def run(self, case: Case) -> Outcome:
        """Run the appliance and inject the fault."""
        subprocess.run([PROJECT / "tests/forget-demo"], check=True)  # then something is built
        command: list[str | pathlib.Path] = [
            *(PROJECT / "run.sh", "demo", "-o", self.work / "out"),
            *("--emulation", case.mode, "--timeout", str(RUN_SECONDS)),
            *("--emulation-timeout", str(EMULATION_SECONDS)),
            *(["--no-boot"] if case.stage != "boot" else []),
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        watchdog = threading.Timer(HANG_SECONDS, process.kill)
        watchdog.start()
        lines: list[str] = []
        struck: concurrent.futures.Future[bool] | None = None
        assert process.stderr
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            for raw in process.stderr:
                lines.append(raw.decode(errors="replace").rstrip())
                if not struck and re.search(STAGES[case.stage], lines[-1]):
                    struck = pool.submit(strike, case)
        found = bool(struck and struck.result())
        hung = process.wait() < 0 or not watchdog.is_alive()
        watchdog.cancel()
        errors = [line for line in lines if line.startswith("error: ")]
        said = errors[-1].removeprefix("error: ") if errors else ""
        said = re.sub(r"[0-9a-f]{12}", "…", said)  # leave out a run's ID
        if not struck:
            said = "the stage was not reached"
        elif not found:
            said = f"(it had ended already) {said}".strip()
        return Outcome(-1 if hung or not struck else process.returncode, said, self.remedy())


def strike(case: Case) -> bool:
    """Inject the fault into the victim, which may be starting; False if it has ended already."""
    if case.fault == "clock":
        rights = [*RIGHTS]
        rights[rights.index("SYS_ADMIN")] = "SYS_TIME"
        tomorrow = time.strftime("%F", time.gmtime(time.time() + 86400))
        assert tomorrow in docker("run", "--rm", *rights, CLOCK)
        return True
    names = {"orchestrator": r"^nixos-image-[0-9a-f]{12}$"}
    pattern = names.get(case.victim, rf"^nixos-image-[0-9a-f]{{12}}-{case.victim}-1$")
    for _ in range(100):
        found = docker("ps", "--format", "{{.Names}}", "--filter", "label=org.nixos-image.run")
        victim = next((one for one in found.split() if re.search(pattern, one)), "")
        if victim:
            break
        time.sleep(0.02)
    # Docker prints the victim's name if it existed.
    hit = bool(victim) and docker(*FAULTS[case.fault], victim) == victim
    if case.fault == "stop":
        time.sleep(1)
        docker("kill", victim)
    if case.fault == "pause" and case.victim == "orchestrator":
        time.sleep(PAUSE_SECONDS)
        docker("unpause", victim)
    return hit


HEADER = (*(field.name for field in dataclasses.fields(Case)), "exit_code", "said", "remedy")


def read(path: pathlib.Path = RESULTS) -> dict[Case, Outcome]:
    """The recorded outcomes. Raises `ValueError` where the file has other columns."""
    with path.open(newline="") as file:
        rows = csv.reader(file)
        if tuple(next(rows, ())) != HEADER:
            raise ValueError(f"{path}: the columns are not {', '.join(HEADER)}")
        return {Case(*row[:4]): Outcome(int(row[4]), row[5], row[6]) for row in rows}


def write(outcomes: Mapping[Case, Outcome], path: pathlib.Path = RESULTS) -> None:
    """Write `outcomes` in the order of `cases`; obsolete cases are omitted."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(HEADER)
        for case in cases([*FAULTS, "clock"]):
            if case in outcomes:
                rows.writerow(dataclasses.astuple(case) + dataclasses.astuple(outcomes[case]))


def summary(outcomes: Mapping[Case, Outcome]) -> str:
    """Return the summary: two sentences of counts, and exit codes by victim and fault."""
    remedies = collections.Counter(one.remedy for one in outcomes.values())
    faults = [*FAULTS, "clock"]
    head = " | ".join(f"`{fault}`" for fault in faults)
    counts = (
        f"{len(outcomes)} cases were tried. The host was as before at the end of"
        f" {remedies['none']} runs, after `./run.sh clean` in {remedies['clean']} cases, and not"
        f" even then in {remedies['dirty']}."
    )
    lines = [counts, "", f"| victim | {head} |", f"| --- |{' --- |' * len(faults)}"]
    for victim in VICTIMS["shared"]:
        row = [
            cell({c: o for c, o in outcomes.items() if (c.victim, c.fault) == (victim, fault)})
            for fault in faults
        ]
        lines.append(f"| {victim} | {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def cell(outcomes: Mapping[Case, Outcome]) -> str:
    """The exit code of most cases, then each other code with the stages that it came at.

    A stage has the mode in parentheses where the code came in one of the two modes alone.
    """
    codes: dict[int, list[Case]] = {}
    for case, outcome in outcomes.items():
        codes.setdefault(outcome.code, []).append(case)
    words: list[str] = []
    for code, found in sorted(codes.items(), key=lambda item: -len(item[1])):
        stages = []
        for stage in STAGES:
            modes = [case.mode for case in found if case.stage == stage]
            tried = {case.mode for case in outcomes if case.stage == stage}
            if modes:
                stages.append(stage if {*modes} == tried else f"{stage} ({modes[0]})")
        words.append(f"{code} at {', '.join(stages)}" if words else str(code))
    return "; ".join(words)


def main() -> int:
    """Run and record the cases; the exit code is 1 if any went wrong."""
    bad = 0
    outcomes = read()
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "out").mkdir()
        host = Host(pathlib.Path(folder))
        try:
            for case in cases(sys.argv[1:]):
                outcomes[case] = outcome = host.run(case)
                write(outcomes)
                bad += not outcome.good
                print(
                    "ok " if outcome.good else "BAD",
                    *dataclasses.astuple(case),
                    *dataclasses.astuple(outcome),
                    flush=True,
                )
        finally:
            docker("rm", "-f", HOLDER)
    above, mark, _ = PAGE.read_text().partition(MARK)
    PAGE.write_text(above + mark + summary(read()))
    return min(bad, 1)


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
