"""Tests the detection of an emulator's crash in messages of QEMU and Nix."""

import pytest

from orchestrator.agents.emulation.crash import sign, system_of

EXIT_1 = "Cannot build '/nix/store/x-a.drv'.\nReason: builder failed with exit code 1."


@pytest.mark.parametrize(
    "line",
    [
        "qemu: uncaught target signal 11 (Segmentation fault) - core dumped",
        "qemu: uncaught target signal 4 (Illegal instruction) - core dumped",
        "qemu-aarch64: QEMU internal SIGSEGV {code=128, addr=0}",
        "qemu-arm-static: Unable to reserve 0xfffff000 bytes of virtual address space at 0x1000",
        "qemu-arm: ./x: Unable to find a guest_base to satisfy all guest address mapping needs",
        "../tcg/tcg.c:4711: tcg fatal error",
        "ERROR:../../accel/tcg/cpu-exec.c:953:cpu_exec_setjmp: assertion failed: (cpu == x)",
        "fakeroot, while creating message channels: Function not implemented",
        "semop(1): encountered an error: Function not implemented",
    ],
)
def test_an_emulators_words_are_found_in_the_log(line: str) -> None:
    log = f"checking for gcc... yes\n{line}\nmake: *** [Makefile:3: all] Error 1"
    assert sign(EXIT_1, log) == line


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "Cannot build 'x.drv'.\nReason: builder failed with exit code 139",
            "failed with exit code 139",
        ),
        (
            "Cannot build 'x.drv'.\nReason: builder failed with exit code 132;",
            "failed with exit code 132",
        ),
        (
            "Cannot build 'x.drv'.\nReason: builder failed due to signal 11 (Segmentation fault)",
            "failed due to signal 11 (Segmentation fault)",
        ),
        ("Cannot build 'x.drv'.\nReason: builder failed with exit code 1390", ""),
        ("Cannot build 'x.drv'.\nReason: builder failed with exit code 134", ""),
        ("Cannot build 'x.drv'.\nReason: builder failed due to signal 9 (Killed)", ""),
    ],
)
def test_the_builders_own_end_tells_too(said: str, expected: str) -> None:
    assert sign(said, "nothing of interest") == expected


@pytest.mark.parametrize(
    "line",
    [
        "qemu: uncaught target signal 6 (Aborted) - core dumped",
        "error: implicit declaration of function 'semop'",
        "checking for qemu... no",
        "ERROR: test_signal.py failed",
        "",
    ],
)
def test_a_programs_own_failure_is_none_of_the_emulators(line: str) -> None:
    assert sign(EXIT_1, line) == ""


def test_the_last_words_count() -> None:
    log = "x: Function not implemented\nqemu-arm: QEMU internal SIGBUS {code=ADRERR}"
    assert sign(EXIT_1, log).startswith("qemu-arm: ")


@pytest.mark.parametrize(
    "text",
    [
        'Derive([("out","/o","","")],[("/i.drv",["dev","out"])],["/s"],"{}","/bin/sh",["a"],[])',
        'Derive([("out","/o","r:sha256","x"),("dev","/p","","")],[],[],"{}","/bin/sh",[],[])',
    ],
)
def test_a_derivation_tells_its_system(text: str) -> None:
    assert system_of(text.format("riscv64-linux")) == "riscv64-linux"
    assert system_of("") == ""
