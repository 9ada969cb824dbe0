"""A tiny program of a target system, made here byte by byte: if it runs, foreign binaries run.

The program does nothing but exit with a code that no failure has. Running it is the only proof that
is believed: an entry in binfmt_misc may be there and yet not work where the build is.
"""

import dataclasses
import errno
import os
import pathlib
import struct
import tempfile

from orchestrator.shared import command, retry
from orchestrator.shared.architectures import ET_EXEC, SYSTEMS, Architecture

#: Exit code of a canary that ran.
ALIVE = 42

#: Where the program is loaded: above every kernel's vm.mmap_min_addr, and page-aligned for 64 KiB
#: pages too.
LOAD_ADDRESS = 0x400000

PT_LOAD = 1
PF_R_X = 5

RUN_SECONDS = 20
BUSY_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a canary; `cause` says in words why it did not run."""

    runs: bool
    cause: str = ""


def program(system: Architecture) -> bytes:
    """A static ELF executable of `system`.

    Header, one loadable segment, code (ELF specification, chapters 4 and 5).
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
    """Run the canary of `system` from `folder`, which must allow programs to be executed."""
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
    return Outcome(False, f"an interpreter answered, but wrongly ({how}{said})")


class _BusyError(command.CommandError):
    """The program is still open for writing."""


def _execute(path: pathlib.Path) -> command.Done:
    """Run it; another thread's child may for a moment still have it open for writing."""

    def once() -> command.Done:
        try:
            return command.run([path], timeout=RUN_SECONDS, check=False)
        except command.CommandError as error:
            if error.errno == errno.ETXTBSY:
                raise _BusyError(str(error), error.errno) from error
            raise

    return retry.without(_BusyError, once, BUSY_SECONDS, pause=0.01)


def explain(number: int) -> str:
    """What an error of execve(2) says about binfmt_misc."""
    return {
        errno.ENOEXEC: "no entry of binfmt_misc matches here (none, disabled, or in another table)",
        errno.ENOENT: "an entry matches, but its interpreter is not found here: flag F is missing",
        errno.EACCES: "an entry matches, but its interpreter may not be executed here",
        errno.ELOOP: "the entry's interpreter is itself a foreign program",
    }.get(number, os.strerror(number))
