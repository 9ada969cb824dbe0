"""Tests the canary: valid ELF for every system, and causes if it does not run."""

import errno
import os
import pathlib
import struct

import pytest

from orchestrator.agents.emulation import canary
from orchestrator.shared.architectures import RUNS_TOO, SYSTEMS, Architecture, this_system

NATIVE = {this_system()} | RUNS_TOO.get(this_system(), frozenset())
EVERY_SYSTEM = pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)


@EVERY_SYSTEM
def test_the_header_is_sound(system: Architecture) -> None:
    program = canary.program(system)
    wide = system.elf.bits == 64
    word = "Q" if wide else "I"
    assert program[:7] == b"\x7fELF" + bytes([2 if wide else 1, 1, 1])
    fields = struct.unpack_from(f"<HHI{word}{word}{word}IHHHHHH", program, 16)
    (
        kind,
        machine,
        version,
        entry,
        segments,
        sections,
        _flags,
        header_size,
        segment_size,
        count,
        _,
        section_count,
        _,
    ) = fields
    assert (kind, machine, version) == (2, system.elf.machine, 1)
    assert (header_size, segment_size, count) == ((64, 56, 1) if wide else (52, 32, 1))
    assert (segments, sections, section_count) == (header_size, 0, 0)

    if wide:
        kind, flags, offset, address, _, in_file, in_memory, align = struct.unpack_from(
            "<IIQQQQQQ", program, segments
        )
    else:
        kind, offset, address, _, in_file, in_memory, flags, align = struct.unpack_from(
            "<IIIIIIII", program, segments
        )
    assert (kind, flags) == (1, 5), "one loadable segment, readable and executable"
    assert in_file == in_memory == len(program)
    assert address % align == offset % align
    assert program[entry - address :] == bytes.fromhex(system.elf.exit_42)


@EVERY_SYSTEM
def test_only_programs_of_the_system_match_its_magic_under_its_mask(system: Architecture) -> None:
    def matches(program: bytes) -> bool:
        head = program[: len(system.magic)]
        return all(
            (a ^ b) & m == 0 for a, b, m in zip(head, system.magic, system.mask, strict=True)
        )

    assert len(system.magic) == len(system.mask) == 20
    assert [other.name for other in SYSTEMS.values() if matches(canary.program(other))] == [
        system.name
    ]
    program = bytearray(canary.program(system))
    program[16] = 3  # ET_DYN: most programs today
    program[7] = 3  # ELFOSABI_LINUX
    assert matches(bytes(program))
    program[16] = 1  # ET_REL: an object file is not a program
    assert not matches(bytes(program))


@pytest.mark.parametrize("system", sorted(NATIVE))
def test_it_runs_natively(system: str, tmp_path: pathlib.Path) -> None:
    assert canary.run(system, tmp_path) == canary.Outcome(True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("system", sorted(SYSTEMS.keys() - NATIVE))
def test_a_foreign_one_does_not_run_and_says_why(system: str, tmp_path: pathlib.Path) -> None:
    """Foreign canaries fail, unless the host has its own emulator."""
    outcome = canary.run(system, tmp_path)
    assert outcome.runs or outcome.cause == canary.explain(errno.ENOEXEC)


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        (
            "#!/bin/sh\necho first >&2; echo last >&2; exit 3\n",
            "an interpreter ran, but failed (exit code 3: last)",
        ),
        ("#!/bin/sh\nexit 0\n", "an interpreter ran, but failed (exit code 0)"),
        ("#!/bin/sh\nkill -9 $$\n", "an interpreter ran, but failed (signal 9)"),
        ("#!/nonexistent\n", canary.explain(errno.ENOENT)),
        ("#!/bin/sh\nexec sleep 9\n", "the interpreter hung for 0.3 s"),
    ],
)
def test_only_its_own_exit_code_counts(
    script: str, cause: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary, "program", lambda _system: script.encode())
    monkeypatch.setattr(canary, "RUN_SECONDS", 0.3)
    assert canary.run("aarch64-linux", tmp_path) == canary.Outcome(False, cause)


def test_causes_differ_and_name_the_flag() -> None:
    numbers = (errno.ENOEXEC, errno.ENOENT, errno.EACCES, errno.ELOOP, errno.ENOMEM)
    causes = {canary.explain(number) for number in numbers}
    assert len(causes) == len(numbers)
    assert "without flag F" in canary.explain(errno.ENOENT)
    assert "binfmt_misc" in canary.explain(errno.ENOEXEC)
    assert canary.explain(errno.ENOMEM) == os.strerror(errno.ENOMEM)
