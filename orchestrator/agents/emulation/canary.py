"""Canary: a minimal program of a target system, to test whether its programs run here.

The program only exits with ALIVE, an exit code that no failure has. An entry in binfmt_misc is no
proof: it may exist and still not work in the build's container.
"""

import dataclasses
import errno
import os
import pathlib
import struct
import tempfile

from orchestrator.shared import command, retry
from orchestrator.shared.architectures import ET_EXEC, SYSTEMS, Architecture

#: Exit code of a canary that has run.
ALIVE = 42

#: Load address of the canary: above any kernel's vm.mmap_min_addr, and aligned to 64 KiB pages.
LOAD_ADDRESS = 0x400000

PT_LOAD = 1
PF_R_X = 5

RUN_SECONDS = 20
BUSY_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Result of a canary; `cause` says why it did not run."""

    runs: bool
    cause: str = ""


def program(system: Architecture) -> bytes:
    """Make the canary, a static ELF executable of `system`.

    The file has a header, one loadable segment and code (ELF specification, chapters 4 and 5).
    """
    wide = system.elf.bits == 64
    header_size, segment_size = (64, 56) if wide else (52, 32)
    offset = header_size + segment_size
    code = bytes.fromhex(system.elf.exit_42)
    size = offset + len(code)
    word = "Q" if wide else "I"
    header = system.magic[:16] + struct.pack(
        f"<HHI{word}{word}{word}IHHHHHH",
        *(ET_EXEC, system.elf.machine, 1, LOAD_ADDRESS + offset, header_size, 0),
        *(system.elf.flags, header_size, segment_size, 1, 0, 0, 0),
    )
    where = (LOAD_ADDRESS, LOAD_ADDRESS, size, size)
    if wide:
        segment = struct.pack("<IIQQQQQQ", PT_LOAD, PF_R_X, 0, *where, 0x10000)
    else:
        segment = struct.pack("<IIIIIIII", PT_LOAD, 0, *where, PF_R_X, 0x10000)
    return header + segment + code


def run(system: str, folder: pathlib.Path) -> Outcome:
    """Run the canary of `system` from `folder`, which must not be mounted noexec."""
    with tempfile.TemporaryDirectory(dir=folder) as inside:
        path = pathlib.Path(inside, "canary")
        path.write_bytes(program(SYSTEMS[system]))
        path.chmod(0o755)
        try:
            done = _execute(path)
        except command.SlowCommandError:
            return Outcome(False, f"the interpreter hung for {RUN_SECONDS} s")
        except command.CommandError as error:
            return Outcome(False, explain(error.errno))
    if done.code == ALIVE:
        return Outcome(True)
    how = f"signal {-done.code}" if done.code < 0 else f"exit code {done.code}"
    said = f": {done.last}" if done.lines else ""
    return Outcome(False, f"an interpreter ran, but failed ({how}{said})")


class _BusyError(command.CommandError):
    """The canary cannot be executed yet: another process has it open for writing."""


def _execute(path: pathlib.Path) -> command.Done:
    """Run the canary; retry while a child of another thread has the file open for writing."""

    def once() -> command.Done:
        try:
            return command.run([path], timeout=RUN_SECONDS, check=False)
        except command.CommandError as error:
            if error.errno == errno.ETXTBSY:
                raise _BusyError(str(error), error.errno) from error
            raise

    return retry.without(_BusyError, once, BUSY_SECONDS, pause=0.01)


def explain(number: int) -> str:
    """Explain an error of execve(2) with respect to binfmt_misc."""
    return {
        errno.ENOEXEC: "no binfmt_misc entry matches (none, disabled, or in another namespace)",
        errno.ENOENT: "a binfmt_misc entry matches, but without flag F its interpreter is missing",
        errno.EACCES: "a binfmt_misc entry matches, but its interpreter may not be executed",
        errno.ELOOP: "the interpreter of the binfmt_misc entry is itself a foreign program",
    }.get(number, os.strerror(number))
