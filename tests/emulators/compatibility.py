"""Measures what each pinned emulator supports, on several kernels.

`measure` runs the suite (suite.c) on this machine's kernel (`here`) or, in a virtual machine, on
one of Debian's (`ARCHITECTURE/SUITE`); it reads results.json and prints it with the new results.
`table` makes tables of it. `make-compatibility` calls both, in a container that has the compilers
and QEMU's system emulators.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

from orchestrator.agents import debian
from orchestrator.agents.emulation import binfmt, ladder, qemu_user
from orchestrator.agents.failure import AgentError
from orchestrator.shared.architectures import (
    DEBIAN_ARCHITECTURES,
    RUNS_TOO,
    SYSTEMS,
    Architecture,
    this_system,
)

SUITE = pathlib.Path(__file__).with_name("suite.c")

#: QEMU command and console device of a virtual machine, by the host's architecture.
MACHINE = {
    "amd64": ("qemu-system-x86_64 -machine q35 -cpu max", "ttyS0"),
    "arm64": ("qemu-system-aarch64 -machine virt -cpu max,pauth-impdef=on", "ttyAMA0"),
}

COMPILERS = {name: f"{row.gnu}-gcc" for name, row in SYSTEMS.items()}

#: Seconds after which a check counts as hung, here and in a virtual machine.
HERE_SECONDS, THERE_SECONDS = 30, 180

#: Time limit in seconds of a whole virtual machine.
MACHINE_SECONDS = 3600

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t tmpfs tmpfs /tmp
[ ! -e /binfmt_misc.ko ] || insmod /binfmt_misc.ko
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
cd /tmp
ulimit -c 0
echo
echo "kernel $(uname -r)"
for line in /lines/*; do
  cat $line > /proc/sys/fs/binfmt_misc/register
  name=${line##*/}
  /suite/host run SECONDS /suite/${name#*,} \\
    | while read -r said; do echo "result ${name%,*} ${name#*,} $said"; done
  echo -1 > /proc/sys/fs/binfmt_misc/$name
done
echo end
poweroff -f
"""


@dataclasses.dataclass(frozen=True)
class Result:
    """Results of the suite for one emulator.

    `host` is Debian's name of the machine's architecture, `kernel` what `uname -r` says, `qemu`
    Debian's version, `target` a Nix system. `outcomes` are the suite's own words by check.
    """

    host: str
    kernel: str
    qemu: str
    target: str
    outcomes: dict[str, str]

    @property
    def key(self) -> tuple[object, ...]:
        """Sort key of results in the tables; results with equal keys replace each other."""
        numbers = tuple(int(number) for number in re.findall(r"\d+", self.kernel))
        order = [*ladder.rungs(), ladder.rung_name(self.qemu)]
        rung = order.index(ladder.rung_name(self.qemu))
        return (self.host, numbers, self.kernel, rung, [*SYSTEMS].index(self.target))


def native(host: str) -> str:
    """Return the Nix system of Debian's architecture `host`."""
    return next(name for name, arch in DEBIAN_ARCHITECTURES.items() if arch == host)


def foreign(host: str) -> list[Architecture]:
    """Return the systems that need an emulator on Debian's architecture `host`."""
    own = {native(host)} | RUNS_TOO.get(native(host), frozenset())
    return [system for system in SYSTEMS.values() if system.name not in own]


def parse(said: str) -> tuple[str, dict[tuple[str, str], dict[str, str]]]:
    """Parse the kernel's version and, by rung and target, each check's outcome."""
    kernel = re.search(r"^kernel (\S+)", said, re.MULTILINE)
    found: dict[tuple[str, str], dict[str, str]] = {}
    for rung, target, check, outcome in re.findall(
        r"^result (\S+) (\S+) (\S+) (.*?)\r?$", said, re.MULTILINE
    ):
        found.setdefault((rung, target), {})[check] = outcome
    return kernel[1] if kernel else "", found


# --- measuring ------------------------------------------------------------------------------------


def compile_suites(folder: pathlib.Path) -> None:
    """Compile the suite for every system, static and, if possible, as PIE: so is ldconfig."""
    for system, compiler in COMPILERS.items():
        static = "-static" if system == "armv7l-linux" else "-static-pie"
        command = [compiler, "-O1", "-Wall", "-Wextra", "-Werror", static]
        subprocess.run([*command, "-o", folder / system, SUITE], check=True)


def fetch(pin: debian.Pin, target: pathlib.Path) -> None:
    """Download `pin`, or exit with an error."""
    if not debian.fetch(pin, str(json.loads(ladder.LOCK.read_text())["snapshot"]), target):
        sys.exit(f"{pin.package} {pin.version} cannot be fetched")


def fetch_emulators(host: str, folder: pathlib.Path) -> dict[str, str]:
    """Unpack each rung's emulators to a folder of its name; return Debian's versions."""
    versions = {}
    for rung in ladder.rungs():
        (folder / rung).mkdir(parents=True)
        pin = debian.read_emulator(ladder.LOCK, host, rung)
        fetch(pin, folder / "deb")
        qemu_user.unpack(folder / "deb", folder / rung)
        versions[rung] = pin.version
    return versions


def measure_here(host: str, work: pathlib.Path, versions: dict[str, str]) -> list[Result]:
    """Measure on this machine's kernel, in a user namespace with its own binfmt_misc."""
    table = ["unshare", "--user", "--map-root-user", "--mount"]
    command = [*table, sys.executable, "-m", "tests.emulators.compatibility", "here", host]
    done = subprocess.run([*command, work], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit("this machine's own kernel cannot be measured")
    return results(host, done.stdout, versions)


def here(host: str, work: pathlib.Path) -> None:
    """Measure within that namespace, with the output format of the virtual machines."""
    binfmt.mount()
    print(f"kernel {platform.release()}", flush=True)
    os.chdir(work)
    for rung in ladder.rungs():
        for system in foreign(host):
            line = registration(system, work / host / rung)
            (binfmt.MOUNT_POINT / "register").write_text(line)
            command: list[str | pathlib.Path] = [
                *(work / "suite" / native(host), "run", str(HERE_SECONDS))
            ]
            suite = work / "suite" / system.name
            done = subprocess.run([*command, suite], stdout=subprocess.PIPE, text=True, check=True)
            for said in done.stdout.splitlines():
                print(f"result {rung} {system.name} {said}", flush=True)
            (binfmt.MOUNT_POINT / system.name).write_text("-1")


def registration(
    system: Architecture, folder: pathlib.Path, kernel: tuple[int, int] | None = None
) -> str:
    """Return the registration line of the emulator of `system` in `folder`."""
    interpreter = folder / system.emulator
    return binfmt.registration(system.name, system, interpreter, kernel or binfmt.kernel_version())


def measure_there(
    host: str, suite: str, work: pathlib.Path, versions: dict[str, str]
) -> list[Result]:
    """Measure in a virtual machine, on the kernel of `suite` for `host`."""
    kernel, initrd = make_machine(host, suite, work)
    program, console = MACHINE[host]
    command = [
        *program.split(),
        *("-accel", "tcg,thread=multi", "-smp", "2", "-m", "2G", "-nographic", "-no-reboot"),
        *("-nodefaults", "-serial", "stdio", "-kernel", os.fspath(kernel)),
        *("-initrd", os.fspath(initrd), "-append", f"console={console} loglevel=1 panic=-1"),
    ]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=MACHINE_SECONDS,
        check=False,
    )
    said = done.stdout.decode(errors="replace")
    if not re.search(r"^end\r?$", said, re.MULTILINE):
        sys.exit(f"{said[-3000:]}\nthe virtual machine of {suite} for {host} has ended early")
    return results(host, said, versions)


def kernel_packages(host: str, suite: str) -> list[debian.Pin]:
    """Return the packages of the cloud kernel of `suite`: one or, since Linux 7, three."""
    with tempfile.TemporaryDirectory() as state:
        index = debian.Index(pathlib.Path(state), host, (), suite)
        image = index.resolve("kernel")
        found = [image]
        for part in ("binary", "modules"):
            with contextlib.suppress(AgentError):
                name = image.package.replace("-image-", f"-{part}-", 1)
                found.append(index.newest("kernel", name))
    return found


def unpack(pin: debian.Pin, folder: pathlib.Path) -> None:
    """Fetch the package `pin`, and unpack all of it."""
    with tempfile.TemporaryDirectory() as place:
        deb = pathlib.Path(place, "deb")
        fetch(pin, deb)
        subprocess.run(["dpkg-deb", "-x", deb, folder], check=True)


def make_machine(host: str, suite: str, work: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """Make kernel and initrd: busybox, the suites, the emulators and registration lines."""
    tree, root = work / "kernel", work / "root"
    pins = kernel_packages(host, suite)
    for pin in pins:
        unpack(pin, tree)
    unpack(debian.read_lock(ladder.LOCK, host, ["busybox"])[0], root)
    (kernel,) = tree.rglob("vmlinuz*")
    for module in tree.rglob("binfmt_misc.ko*"):
        (root / module.name).write_bytes(module.read_bytes())
        if module.suffix == ".xz":
            subprocess.run(["xz", "--decompress", root / module.name], check=True)
    for name in ("bin", "proc", "tmp", "lines", "suite"):
        (root / name).mkdir(exist_ok=True)
    (root / "usr/bin/busybox").rename(root / "bin/busybox")
    (root / "suite/host").write_bytes((work / "suite" / native(host)).read_bytes())
    version = re.search(r"linux-image-(\d+)\.(\d+)", pins[0].package)
    assert version
    for system in foreign(host):
        (root / "suite" / system.name).write_bytes((work / "suite" / system.name).read_bytes())
        for rung in ladder.rungs():
            place = root / rung
            place.mkdir(exist_ok=True)
            emulator = work / host / rung / system.emulator
            shutil.copy(emulator, place / system.emulator)
            line = registration(system, pathlib.Path("/", rung), (int(version[1]), int(version[2])))
            name = f"{rung},{system.name}"
            (root / "lines" / name).write_text(line.replace(f":{system.name}:", f":{name}:", 1))
    (root / "init").write_text(INIT.replace("SECONDS", str(THERE_SECONDS)))
    subprocess.run(["chmod", "-R", "a+rx", root], check=True)
    initrd = work / "initrd"
    pack = "find . | cpio --quiet -o -H newc"
    with initrd.open("wb") as file:
        subprocess.run(["sh", "-c", pack], cwd=root, stdout=file, check=True)
    return kernel, initrd


def results(host: str, said: str, versions: dict[str, str]) -> list[Result]:
    """Parse the results of all suites on `host`."""
    kernel, found = parse(said)
    wanted = {(rung, system.name) for rung in versions for system in foreign(host)}
    checks = {frozenset(outcomes) for outcomes in found.values()}
    if not kernel or found.keys() != wanted or len(checks) != 1:
        sys.exit(f"{said[-3000:]}\nnot all was said, or not all of it was understood")
    return [
        Result(host, kernel, versions[rung], target, outcomes)
        for (rung, target), outcomes in found.items()
    ]


# --- results --------------------------------------------------------------------------------------


def read(document: str) -> list[Result]:
    """Read earlier results, in the format of `measure`."""
    return [Result(**one) for one in json.loads(document)]


def merged(old: list[Result], new: list[Result]) -> list[Result]:
    """Return `new` and those of `old` that `new` does not replace."""
    return sorted({one.key: one for one in [*old, *new]}.values(), key=lambda one: one.key)


def cell(outcomes: dict[str, str]) -> str:
    """Return a table cell: the failed checks, grouped by outcome."""
    bad: dict[str, list[str]] = {}
    for check, outcome in outcomes.items():
        if outcome != "ok":
            bad.setdefault(outcome, []).append(check)
    return "; ".join(f"{outcome}: {', '.join(checks)}" for outcome, checks in bad.items()) or "all"


def table(measured: list[Result]) -> str:
    """Return a Markdown table for each kind of host."""
    parts = []
    for host in dict.fromkeys(one.host for one in measured):
        targets = [system.name for system in foreign(host)]
        parts.append(f"### On {native(host).removesuffix('-linux')} hosts\n")
        parts.append(f"| kernel | QEMU | {' | '.join(targets)} |")
        parts.append(f"| --- | --- |{' --- |' * len(targets)}")
        rows: dict[tuple[str, str], dict[str, str]] = {}
        for one in measured:
            if one.host == host:
                version = one.qemu.partition(":")[2]
                rows.setdefault((one.kernel, version), {})[one.target] = cell(one.outcomes)
        for (kernel, version), cells in rows.items():
            shown = " | ".join(cells.get(target, "") for target in targets)
            parts.append(f"| {kernel} | {version} | {shown} |")
        parts.append("")
    return "\n".join(parts)


def measure(machine: str) -> list[Result]:
    """Measure everything on one kernel."""
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        work.chmod(0o755)
        (work / "suite").mkdir()
        compile_suites(work / "suite")
        if machine == "here":
            host = DEBIAN_ARCHITECTURES[this_system()]
            return measure_here(host, work, fetch_emulators(host, work / host))
        host, _, suite = machine.partition("/")
        return measure_there(host, suite, work, fetch_emulators(host, work / host))


def main() -> None:
    """Read the command line."""
    match sys.argv[1:]:
        case ["measure", machine]:
            new = merged(read(sys.stdin.read()), measure(machine))
            print(json.dumps([dataclasses.asdict(one) for one in new], indent=1))
        case ["here", host, work]:
            here(host, pathlib.Path(work))
        case ["table"]:
            print(table(read(sys.stdin.read())), end="")


if __name__ == "__main__":
    main()
