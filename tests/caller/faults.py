#!/usr/bin/env python3
"""Every container of a run killed, stopped, paused at every stage, and what is left of it.

`tests/caller/faults.py > docs/reliability.md` makes the table there; names of modes, stages,
victims or faults as arguments choose some of the cases. `clock`, which sets this machine's clock a
day ahead and back, happens only where it is named. It runs where a person would run run.sh.
"""

import base64
import concurrent.futures
import dataclasses
import itertools
import os
import pathlib
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

PROJECT = pathlib.Path(__file__).parents[2]

#: What a run says when it gets to a stage.
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

#: What is done to a victim: SIGKILL; SIGTERM, and SIGKILL a second later; it stands still; its
#: container is removed.
FAULTS = {
    "kill": ["kill"],
    "stop": ["kill", "--signal", "TERM"],
    "pause": ["pause"],
    "remove": ["rm", "-f"],
}

#: What is done to the host itself: its clock is wrong for three seconds.
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

#: Seconds after which a paused orchestrator goes on; the others never do.
PAUSE_SECONDS = 5

#: Where a run that waits for a paused container gives up (seconds).
EMULATION_SECONDS, RUN_SECONDS = 10, 40

#: Where a case is given up: then the run hangs, which is what must not be.
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
TABLE = """\
| emulation | stage | victim | fault | exit code | said | then the host was as before |
| --- | --- | --- | --- | --- | --- | --- |
"""
RIGHTS = (
    "--network none --cap-drop ALL --cap-add SYS_ADMIN --security-opt apparmor=unconfined"
    " --tmpfs /run --entrypoint python3 nixos-image-qemu-setup -u -c"
).split()


@dataclasses.dataclass(frozen=True)
class Case:
    """`fault` comes to the container of `victim` when `stage` is reached."""

    mode: str
    stage: str
    victim: str
    fault: str


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How the run ended, and what had to be done until the host was as before."""

    code: int
    word: str
    remedy: str

    @property
    def good(self) -> bool:
        """Whether it ended by itself, with a reason, and the host is as it was."""
        told = self.code == 0 or bool(self.word)
        return told and self.code not in {70, -1} and self.remedy != "dirty"


def docker(*arguments: str) -> str:
    """What a docker command says; nothing where it fails."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def cases(words: list[str]) -> Iterator[Case]:
    """All that make sense, of those that are named by `words`."""
    for mode, victims in VICTIMS.items():
        for stage, victim, fault in itertools.product(STAGES, victims, (*FAULTS, "clock")):
            if (victim == "host") != (fault == "clock") or (
                fault == "clock" and fault not in words
            ):
                continue
            # The registrar is gone by then, so is what a delivered image was built by.
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
    """This Docker host: what a run may not change."""

    def __init__(self, work: pathlib.Path) -> None:
        """Hold its table, with an entry of somebody else's in it."""
        self.work = work
        docker("rm", "-f", HOLDER)
        docker("run", "-d", "--name", HOLDER, *RIGHTS, HOLD)
        while "held" not in docker("logs", HOLDER):
            time.sleep(0.1)
        self.before = self.state()
        assert self.before[0].startswith("qemu-riscv64 ")

    def state(self) -> tuple[str, ...]:
        """The table; containers, networks, volumes of runs; files of runs that were cut off."""
        label = "label=org.nixos-image"
        return (
            docker("run", "--rm", *RIGHTS, LOOK),
            docker("ps", "-aq", "--filter", f"{label}.run"),
            docker("network", "ls", "-q", "--filter", label),
            docker("volume", "ls", "-q", "--filter", label),
            " ".join(str(path) for path in self.work.rglob(".nixos-image-*")),
        )

    def remedy(self) -> str:
        """What it takes until all is as before: nothing, `clean`, or `dirty` where that fails."""
        if self.state() == self.before:
            return ""
        subprocess.run([PROJECT / "run.sh", "clean"], capture_output=True, check=False)
        return "clean" if self.state() == self.before else "dirty"

    def run(self, case: Case) -> Outcome:
        """Do it to a run."""
        key = self.work / "key.pub"  # another one each time: something is to be built
        blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + secrets.token_bytes(32)
        key.write_text(f"ssh-ed25519 {base64.b64encode(blob).decode()} faults\n")
        command: list[str | pathlib.Path] = [
            *(PROJECT / "run.sh", "demo", "-o", self.work / "out", "--ssh-key", key),
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
        word = errors[-1].removeprefix("error: ") if errors else ""
        if not struck:
            word = "the stage was not reached"
        elif not found:
            word = f"(it had ended already) {word}".strip()
        return Outcome(-1 if hung or not struck else process.returncode, word, self.remedy())


def strike(case: Case) -> bool:
    """Do it to the victim, which may be about to start; False if it had ended already."""
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
    # Docker tells the victim's name where it was there.
    hit = bool(victim) and docker(*FAULTS[case.fault], victim) == victim
    if case.fault == "stop":
        time.sleep(1)
        docker("kill", victim)
    if case.fault == "pause" and case.victim == "orchestrator":
        time.sleep(PAUSE_SECONDS)
        docker("unpause", victim)
    return hit


def main() -> int:
    """Print the table; the exit code says whether all went well."""
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "out").mkdir()
        host = Host(pathlib.Path(folder))
        print(TABLE, end="")
        try:
            for case in cases(sys.argv[1:]):
                outcome = host.run(case)
                bad += not outcome.good
                left = {"": "by itself", "clean": "after `./run.sh clean`"}.get(
                    outcome.remedy, "no"
                )
                word = re.sub(r"[0-9a-f]{12}", "…", outcome.word).replace("|", "\\|")
                row = (*dataclasses.astuple(case), str(outcome.code), word, left)
                print(f"| {' | '.join(row)} |", flush=True)
                if not outcome.good:
                    print(f"BAD {case}: {outcome}", file=sys.stderr)
        finally:
            docker("rm", "-f", HOLDER)
    return min(bad, 1)


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
