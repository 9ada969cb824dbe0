"""Agent boot: starts a throwaway copy of an image in QEMU.

It runs either on a terminal, or as the boot check, which waits for the ready text and logs in by
SSH. The boot check writes its own SSH key into the root file system of its copy; the delivered
image never has it.
"""

import argparse
import contextlib
import math
import os
import pathlib
import tempfile
import threading
import time
import typing

from orchestrator.agents import events
from orchestrator.agents.boot import qemu
from orchestrator.agents.boot.disk import give_key, throwaway
from orchestrator.agents.failure import AgentError, run_agent
from orchestrator.shared import command as programs
from orchestrator.shared import retry
from orchestrator.shared.disk_formats import DISK_FORMATS
from orchestrator.shared.run import this_run
from orchestrator.shared.spec import Firmware
from orchestrator.shared.text import plain

LIFE_SECONDS = 1.0

#: A KVM guest without console output for this many seconds counts as stuck: nested KVM may be
#: available but broken.
KVM_STALL_SECONDS = 15

#: Seconds for a test of KVM with UEFI alone: it prints something, or dies if KVM is broken.
KVM_TRY_SECONDS = 3
SSH_TRY_SECONDS = 10
TAIL_LINES = 25

#: Linux' last words where ticks of the timer do not come in time. On a busy host QEMU without KVM
#: may be late: that tells nothing of the image.
LATE_TIMER = b"IO-APIC + timer doesn't work"

#: Number of further boots after such a panic.
LATE_TRIES = 3


def main() -> None:
    """Parse the arguments and boot the image."""
    parser = argparse.ArgumentParser(prog="boot")
    parser.add_argument("image", type=pathlib.Path)
    parser.add_argument("--system", choices=sorted(qemu.GUESTS), required=True)
    parser.add_argument("--firmware", choices=typing.get_args(Firmware), required=True)
    parser.add_argument("--disk-format", choices=sorted(DISK_FORMATS), default="raw")
    parser.add_argument("--identity", type=pathlib.Path)
    parser.add_argument("--user", default="root")
    parser.add_argument("--seed", type=pathlib.Path)
    parser.add_argument("--grow", type=int, default=0, help="MiB")
    parser.add_argument("--run", default="")
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--ready-text", default="")
    parser.add_argument("--timeout", type=float, default=300)
    parser.add_argument("--serial-log", type=pathlib.Path)
    parser.add_argument("--try-kvm", action="store_true")
    arguments = parser.parse_args()
    run_agent("boot", lambda: check(arguments) if arguments.test else show(arguments))


def disk_of(arguments: argparse.Namespace) -> contextlib.AbstractContextManager[qemu.Disk]:
    """Return the throwaway disk of the image, in the run's folder: that of the image is root's."""
    image, grow = arguments.image, arguments.grow
    return throwaway(image, arguments.disk_format, grow, this_run().folder)


def show(arguments: argparse.Namespace) -> None:
    """Boot on this terminal; Ctrl-A X quits QEMU."""
    with disk_of(arguments) as disk:
        print("Booting a throwaway copy. Quit with Ctrl-A X.", flush=True)
        programs.run_attached(machine_command(arguments, disk, "tcg", "mon:stdio"))


def machine_command(
    arguments: argparse.Namespace, disk: qemu.Disk, accel: str, serial: str
) -> list[str]:
    """Return QEMU's command line; raises `AgentError` if the guest has no such firmware."""
    guest = qemu.GUESTS[arguments.system]
    if arguments.firmware not in guest.firmware:
        raise AgentError(
            f"{arguments.system} machines have no {arguments.firmware}",
            hint=f"--firmware {' or '.join(guest.firmware)}",
            kind="boot",
        )
    return qemu.command(arguments.system, arguments.firmware, disk, accel, serial, arguments.seed)


def check(arguments: argparse.Namespace) -> None:
    """Boot, wait until ready, log in with the check's key, run `uname -m` and --run's command."""
    accelerators = ["tcg"]
    if arguments.try_kvm and os.access("/dev/kvm", os.R_OK | os.W_OK):
        accelerators = ["kvm", "tcg"] if kvm_works(arguments.system) else ["tcg"]
    for accel in [*accelerators, *["tcg"] * LATE_TRIES]:
        with disk_of(arguments) as disk:
            key = arguments.identity or give_key(disk)
            try:
                answer, seconds = boot_and_log_in(arguments, disk, key, accel)
            except KvmFailedError as error:
                events.emit("no-kvm", message=f"KVM does not work ({error}): using QEMU's TCG")
                continue
            except LateTimerError:
                events.emit("late-timer", message="QEMU's timer was late: booting once more")
                continue
        machine, _, said = answer.partition("\n")
        expected = arguments.system.partition("-")[0]
        if machine != expected:
            raise AgentError(
                f"uname -m in the guest printed {machine!r}, expected {expected}", kind="boot"
            )
        took = f"{seconds['login']:.1f} s"
        message = f"booted ({accel}), SSH login after {took}, uname -m: {machine}"
        events.emit(
            "booted",
            message=message,
            accelerator=accel,
            machine=machine,
            seconds=seconds,
            said=said,
        )
        return
    raise AgentError(
        "the image did not boot: QEMU's timer was late at each try",
        hint="try again when this computer is less busy",
        kind="boot",
    )


def kvm_works(system: str) -> bool:
    """Whether UEFI, with an empty disk, runs in KVM; emits an event if not."""
    with tempfile.TemporaryDirectory() as folder:
        empty, serial = pathlib.Path(folder, "empty.img"), pathlib.Path(folder, "serial.log")
        empty.write_bytes(bytes(1 << 20))
        serial.touch()
        command = qemu.command(system, "uefi", qemu.Disk(empty), "kvm", f"file:{serial}")
        until = time.monotonic() + KVM_TRY_SECONDS
        with Machine(command, serial) as machine:

            def lives() -> bool:
                if serial.stat().st_size:
                    return True
                machine.still_alive("", until + LIFE_SECONDS)
                return False

            try:
                retry.until(lives, KVM_TRY_SECONDS)
            except KvmFailedError as error:
                events.emit("no-kvm", message=f"KVM does not work ({error}): using QEMU's TCG")
                return False
    return True


class KvmFailedError(Exception):
    """KVM is available, but a guest dies in it."""


class LateTimerError(Exception):
    """The guest has given up, because QEMU's timer was late."""


def boot_and_log_in(
    arguments: argparse.Namespace, disk: qemu.Disk, key: pathlib.Path, accel: str
) -> tuple[str, dict[str, float]]:
    """Boot once; return what `uname -m` and --run's command printed, and the durations.

    The durations are seconds until "ready" and "login".
    """
    serial: pathlib.Path = arguments.serial_log or disk.path.parent / "serial.log"
    serial.write_bytes(b"")
    began = time.monotonic()
    deadline = began + arguments.timeout
    machine = machine_command(arguments, disk, accel, f"file:{serial}")
    with Machine(machine, serial) as running:
        if arguments.ready_text:
            running.wait_for(arguments.ready_text, deadline)
        ready = time.monotonic() - began
        answer = log_in(running, key, deadline, arguments.user)
        seconds = {"ready": round(ready, 2), "login": round(time.monotonic() - began, 2)}
        if arguments.run:
            said = run_there(key, arguments.user, arguments.run, deadline)
            answer = f"{answer}\n{said}" if said else answer
        return answer, seconds


class Machine:
    """A running QEMU with its console in a file; killed at the end of the `with` block."""

    def __init__(self, command: list[str], serial: pathlib.Path) -> None:
        """Start QEMU with `command`; it writes the console to `serial`."""
        self._process = programs.start(command, stdout=programs.NOTHING)
        self._serial = serial
        self._complaints: list[str] = []
        self._kvm = "kvm" in command
        self._moved = (0, time.monotonic())
        self._reader = threading.Thread(target=self._read_complaints, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *_: object) -> None:
        programs.kill(self._process)
        self._reader.join()

    def wait_for(self, text: str, deadline: float) -> None:
        """Wait until the console shows `text`."""
        reported = time.monotonic()

        def shown() -> bool:
            nonlocal reported
            if text.encode() in self._serial.read_bytes():
                return True
            self.still_alive(f"{text!r} did not appear", deadline)
            if time.monotonic() - reported >= LIFE_SECONDS:
                reported = time.monotonic()
                events.emit("booting", message=self.tail(1) or "the firmware is starting")
            return False

        retry.until(shown, math.inf)  # endless: at the deadline still_alive raises an error

    def still_alive(self, what: str, deadline: float) -> None:
        """Raise an error, with the console's last lines, if QEMU, KVM or the time has ended."""
        if self._kvm and any(
            "KVM internal error" in line or "failed to initialize kvm" in line
            for line in self._complaints
        ):
            raise KvmFailedError(self._complaints[0])
        written = self._serial.stat().st_size
        if written != self._moved[0]:
            self._moved = (written, time.monotonic())
            if LATE_TIMER in self._serial.read_bytes():
                raise LateTimerError
        if self._kvm and time.monotonic() - self._moved[1] > KVM_STALL_SECONDS:
            raise KvmFailedError(f"the console showed nothing for {KVM_STALL_SECONDS} s")
        if (code := self._process.poll()) is not None:
            self._reader.join()
            if self._kvm:
                raise KvmFailedError(f"QEMU ended with exit code {code}")
            said = self._complaints[-1] if self._complaints else f"exit code {code}"
            raise AgentError(f"QEMU ended: {said}", detail=self.tail(TAIL_LINES), kind="boot")
        if time.monotonic() > deadline:
            raise AgentError(
                f"the image did not boot in time: {what}", detail=self.tail(TAIL_LINES), kind="boot"
            )

    def tail(self, count: int) -> str:
        """Return the console's last `count` lines, without control sequences."""
        text = self._serial.read_bytes().decode(errors="replace").replace("\r", "\n")
        lines = [line.strip() for line in plain(text).splitlines() if line.strip()]
        return "\n".join(lines[-count:])

    def _read_complaints(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as complaints:
            for line in complaints:
                self._complaints.append(line.decode(errors="replace").strip())


def log_in(
    running: Machine,
    key: pathlib.Path,
    deadline: float,
    user: str = "root",
    program: tuple[str, ...] = ("uname", "-m"),
) -> str:
    """Retry SSH until the login works; returns the output of `program` in the guest."""
    said = "no answer"

    def answer() -> programs.Done | None:
        nonlocal said
        with contextlib.suppress(programs.SlowCommandError):
            done = _ssh(key, user, program, 2 * SSH_TRY_SECONDS)
            if done.code == 0:
                return done
            said = done.last if done.lines else "no answer"
        running.still_alive(f"SSH login failed ({said})", deadline)
        events.emit("booting", message=f"waiting for SSH: {said}")
        return None

    # Endless: at the deadline still_alive raises an error.
    done = retry.until(answer, math.inf, pause=0.5)
    assert done
    return done.text.strip()


def run_there(key: pathlib.Path, user: str, command: str, deadline: float) -> str:
    """Run `command` in the guest with the shell of `user`; returns its output."""
    try:
        done = _ssh(key, user, (command,), max(deadline - time.monotonic(), 1))
    except programs.SlowCommandError as error:
        raise AgentError(
            f"--run {command}: the command did not end in time", kind="boot"
        ) from error
    if done.code != 0:
        detail = f"{done.text}{done.stderr.decode(errors='replace')}".strip()
        raise AgentError(f"--run {command}: exit code {done.code}", detail=detail, kind="boot")
    return done.text.strip()


def _ssh(key: pathlib.Path, user: str, program: tuple[str, ...], seconds: float) -> programs.Done:
    options = {
        "BatchMode": "yes",
        "LogLevel": "ERROR",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "IdentitiesOnly": "yes",
        "ConnectTimeout": str(SSH_TRY_SECONDS),
    }
    command = ["ssh", "-i", str(key), "-p", str(qemu.SSH_PORT)]
    command += [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    whole = [*command, f"{user}@127.0.0.1", *program]
    return programs.run(whole, timeout=seconds, check=False)


if __name__ == "__main__":
    main()
