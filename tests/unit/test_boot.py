"""Tests the boot check: QEMU's command lines, and errors of machines that do not boot.

No QEMU is started.
"""

import argparse
import contextlib
import itertools
import pathlib
import sys
import time

import pytest

from orchestrator.agents import room
from orchestrator.agents.boot import __main__ as boot
from orchestrator.agents.boot import disk, qemu
from orchestrator.agents.boot.__main__ import KvmFailedError, LateTimerError, Machine
from orchestrator.agents.failure import AgentError
from orchestrator.shared.spec import Firmware

DISK = qemu.Disk(pathlib.Path("/somewhere/disk.img"))


def pairs(command: list[str]) -> list[tuple[str, str]]:
    return list(itertools.pairwise(command))


KINDS = [(system, kind) for system, guest in qemu.GUESTS.items() for kind in guest.firmware]


@pytest.mark.parametrize(("system", "kind"), KINDS)
def test_the_emulated_machine(system: str, kind: Firmware) -> None:
    guest = qemu.GUESTS[system]
    command = qemu.command(system, kind, DISK, "tcg", "mon:stdio")
    found = pairs(command)
    assert command[0] == f"qemu-system-{system.partition('-')[0]}"
    assert ("-cpu", guest.cpu) in found
    assert ("-accel", "tcg,thread=multi") in found
    assert ("-serial", "mon:stdio") in found
    assert ("-boot", "menu=on,splash-time=0") in found, "or UEFI waits five seconds"
    assert set(itertools.pairwise(guest.firmware[kind])) <= set(found)
    assert ("-bios" in command) == (kind != "bios")


def test_each_firmware_of_a_guest_is_another_one() -> None:
    for system, guest in qemu.GUESTS.items():
        kinds = 1 if system == "riscv64-linux" else 2  # on riscv64 U-Boot is also the UEFI firmware
        assert len(set(guest.firmware.values())) == kinds
        assert len(guest.firmware) == 2


@pytest.mark.parametrize("system", qemu.GUESTS)
def test_the_machine_under_kvm(system: str) -> None:
    found = pairs(qemu.command(system, "uefi", DISK, "kvm", "file:x"))
    assert ("-cpu", "host") in found
    assert ("-accel", "kvm") in found


def test_a_comma_in_the_disks_name_is_no_option() -> None:
    disk = qemu.Disk(pathlib.Path("/a,snapshot=on/d.img"))
    command = qemu.command("x86_64-linux", "bios", disk, "tcg", "x")
    (drive,) = (value for option, value in pairs(command) if option == "-drive")
    assert "file=/a,,snapshot=on/d.img," in drive
    assert "format=raw" in drive, "never guessed: a guest could write a header of another format"


def test_a_seed_is_a_second_disk_that_the_guest_cannot_write_to() -> None:
    seed = pathlib.Path("/a,b/seed")
    found = pairs(qemu.command("x86_64-linux", "uefi", DISK, "tcg", "x", seed))
    drives = [value for option, value in found if option == "-drive"]
    assert drives[0].startswith("if=none,id=disk,")
    assert drives[1:] == ["if=none,id=seed,file=/a,,b/seed,format=raw,readonly=on"]
    assert ("-device", "virtio-blk-pci,drive=seed") in found
    assert ("-device", "virtio-blk-pci,drive=disk,bootindex=0") in found


def test_the_guests_ssh_is_reachable_from_here_alone() -> None:
    command = qemu.command("x86_64-linux", "uefi", DISK, "tcg", "x")
    (network,) = (value for option, value in pairs(command) if option == "-netdev")
    assert f"hostfwd=tcp:127.0.0.1:{qemu.SSH_PORT}-:22" in network


@pytest.fixture
def serial(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "serial.log"
    path.write_bytes(b"")
    return path


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_the_console_is_told_without_control_sequences(serial: pathlib.Path) -> None:
    serial.write_bytes(
        b"\x1b[2J\x1b[01;01HBdsDxe: starting\r\n\r\n   \x1b[0mone\rtwo\xff\n\x07three\n\n"
    )
    with Machine(python("import time; time.sleep(60)"), serial) as machine:
        assert machine.tail(2) == "two\N{REPLACEMENT CHARACTER}\nthree"
        assert machine.tail(100).splitlines()[0] == "BdsDxe: starting"


def test_waiting_ends_when_the_text_is_there(serial: pathlib.Path) -> None:
    code = "import time; time.sleep(.2); "
    code += f"open({str(serial)!r}, 'w').write('demo is ready'); time.sleep(60)"
    with Machine(python(code), serial) as machine:
        machine.wait_for("is ready", time.monotonic() + 20)


def test_a_machine_that_hangs_is_told_with_the_consoles_end(serial: pathlib.Path) -> None:
    serial.write_bytes(b"Kernel panic - not syncing\n")
    with (
        Machine(python("import time; time.sleep(60)"), serial) as machine,
        pytest.raises(AgentError, match=r"'is ready' did not appear") as caught,
    ):
        machine.wait_for("is ready", time.monotonic() + 0.2)
    assert (caught.value.kind, caught.value.detail) == ("boot", "Kernel panic - not syncing")


def test_a_qemu_that_ends_is_told_with_its_own_words(serial: pathlib.Path) -> None:
    with (
        Machine(python("import sys; sys.exit('could not open disk')"), serial) as machine,
        pytest.raises(AgentError, match=r"^QEMU ended: could not open disk$"),
    ):
        machine.wait_for("is ready", time.monotonic() + 20)


@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.exit(1)",
        "import sys, time; print('KVM internal error', file=sys.stderr); time.sleep(60)",
    ],
)
def test_kvm_that_fails_is_no_verdict_on_the_image(code: str, serial: pathlib.Path) -> None:
    # `kvm` in the command line shows that KVM is used.
    with Machine([*python(code), "kvm"], serial) as machine, pytest.raises(KvmFailedError):
        machine.wait_for("is ready", time.monotonic() + 20)


def test_kvm_that_stands_still_is_no_verdict_either(
    serial: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boot, "KVM_STALL_SECONDS", 0.1)
    serial.write_bytes(b"GRUB")
    sleeping = python("import time; time.sleep(60)")
    with (
        Machine([*sleeping, "kvm"], serial) as machine,
        pytest.raises(KvmFailedError, match="the console showed nothing"),
    ):
        machine.wait_for("is ready", time.monotonic() + 20)
    with Machine(sleeping, serial) as machine, pytest.raises(AgentError, match="in time"):
        machine.wait_for("is ready", time.monotonic() + 0.3)


PANIC = b"[    0.07] Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with"


def test_a_late_timer_is_no_verdict_on_the_image(serial: pathlib.Path) -> None:
    serial.write_bytes(PANIC)
    with (
        Machine(python("import time; time.sleep(60)"), serial) as machine,
        pytest.raises(LateTimerError),
    ):
        machine.wait_for("is ready", time.monotonic() + 20)


@pytest.mark.parametrize("late", [0, 2, 9])
def test_a_boot_with_a_late_timer_is_done_again(
    late: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boots: list[str] = []

    def boots_late(*arguments: object) -> tuple[str, dict[str, float]]:
        boots.append(str(arguments[-1]))
        if len(boots) <= late:
            raise LateTimerError
        return "x86_64", {"login": 1.0}

    monkeypatch.setattr(boot, "disk_of", lambda _: contextlib.nullcontext(DISK))
    monkeypatch.setattr(boot, "boot_and_log_in", boots_late)
    arguments = argparse.Namespace(try_kvm=False, identity=tmp_path, system="x86_64-linux")
    if late <= boot.LATE_TRIES:
        boot.check(arguments)
        assert boots == ["tcg"] * (late + 1)
    else:
        with pytest.raises(AgentError, match="timer was late") as caught:
            boot.check(arguments)
        assert (caught.value.kind, len(boots)) == ("boot", boot.LATE_TRIES + 1)


@pytest.mark.parametrize(
    ("code", "works"),
    [
        ("import sys; sys.exit('KVM internal error')", False),
        ("import sys; sys.exit(0)", False),
        ("import time; time.sleep(60)", True),
        ("import sys, time; open(sys.argv[1], 'w').write('BdsDxe'); time.sleep(60)", True),
    ],
)
def test_kvm_is_tried_with_the_firmware_alone(
    code: str, works: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boot, "KVM_TRY_SECONDS", 0.15 if works else 20)
    monkeypatch.setattr(
        qemu,
        "command",
        lambda _guest, _firmware, _disk, accel, serial: [
            *python(code),
            serial.removeprefix("file:"),
            accel,
        ],
    )
    began = time.monotonic()
    assert boot.kvm_works("x86_64-linux") == works
    assert time.monotonic() - began < 10


def test_a_machine_without_that_firmware_is_refused() -> None:
    arguments = argparse.Namespace(system="aarch64-linux", firmware="bios")
    with pytest.raises(AgentError, match="have no bios") as caught:
        boot.machine_command(arguments, DISK, "tcg", "x")
    assert caught.value.hint == "--firmware uefi or u-boot"


def test_the_machine_is_gone_after_the_block(serial: pathlib.Path) -> None:
    with Machine(python("import time; time.sleep(60)"), serial) as machine:
        process = machine._process
    assert process.returncode == -9


# --- a tool says that a disk is full --------------------------------------------------------------


@pytest.mark.parametrize(("scarce", "kind"), [(True, "disk"), (False, "boot")])
def test_a_disk_is_full_only_if_it_was_measured(
    scarce: bool, kind: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SCARCE", (1 << 62) if scarce else 0)
    with pytest.raises(AgentError) as caught, disk._full_disk_told(tmp_path):
        raise AgentError("cp: error writing: No space left on device", kind="boot")
    assert caught.value.kind == kind
