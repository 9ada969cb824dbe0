"""Tests the table of architectures: complete rows, and values derived from them."""

import platform
import typing

import pytest

from orchestrator.shared.architectures import (
    DEBIAN_ARCHITECTURES,
    MACHINES,
    PCS,
    RUNS_TOO,
    SYSTEMS,
    Architecture,
    foreign_system,
    this_system,
)
from orchestrator.shared.spec import LOADERS, Firmware

ROWS = pytest.mark.parametrize("row", SYSTEMS.values(), ids=SYSTEMS)

#: EFI names (UEFI specification, table "UEFI Image Types"), and mtools' short names for FAT.
EFI_NAMES = {
    "x86_64-linux": ("BOOTX64.EFI", b"BOOTX64 EFI"),
    "aarch64-linux": ("BOOTAA64.EFI", b"BOOTAA64EFI"),
    "armv7l-linux": ("BOOTARM.EFI", b"BOOTARM EFI"),
    "riscv64-linux": ("BOOTRISCV64.EFI", b"BOOTRI~1EFI"),
    "i686-linux": ("BOOTIA32.EFI", b"BOOTIA32EFI"),
}


@pytest.mark.parametrize(("name", "expected"), EFI_NAMES.items(), ids=EFI_NAMES)
def test_uefis_names(name: str, expected: tuple[str, bytes]) -> None:
    row = SYSTEMS[name]
    assert (row.efi_name, row.efi_entry) == expected


@ROWS
def test_a_row_is_whole(row: Architecture) -> None:
    assert row.name.endswith("-linux")
    assert row.elf.bits in {32, 64}
    assert bytes.fromhex(row.elf.exit_42)
    assert row.emulator.startswith("qemu-")
    assert row.machine.program.startswith("qemu-system-")
    assert set(row.runs_too) <= SYSTEMS.keys() - {row.name}
    assert len(row.efi_entry) == 11


@ROWS
def test_its_words_are_those_of_the_spec(row: Architecture) -> None:
    loaders = {loader for loaders in LOADERS.values() for loader in loaders}
    assert row.loaders
    assert set(row.loaders) <= loaders
    kinds = set(typing.get_args(Firmware))
    assert row.machine.firmware.keys() <= kinds
    assert not row.guest or row.guest.firmware.keys() <= kinds


@pytest.mark.parametrize(
    "fact",
    [
        lambda row: row.emulator,
        lambda row: row.elf,
        lambda row: row.machine.program,
        lambda row: row.machine.libvirt,
        lambda row: row.efi_entry,
    ],
)
def test_what_tells_architectures_apart_differs(
    fact: typing.Callable[[Architecture], object],
) -> None:
    assert len({fact(row) for row in SYSTEMS.values()}) == len(SYSTEMS)


def test_what_is_made_of_the_rows() -> None:
    assert MACHINES == {
        "x86_64": "x86_64-linux",
        "amd64": "x86_64-linux",
        "aarch64": "aarch64-linux",
        "arm64": "aarch64-linux",
    }
    assert {"x86_64-linux": {"i686-linux"}} == RUNS_TOO
    assert {"x86_64-linux", "i686-linux"} == PCS
    assert DEBIAN_ARCHITECTURES["x86_64-linux"] == "amd64"


def test_this_system_is_one_that_builders_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert this_system() in MACHINES.values()
    assert foreign_system(this_system()) != this_system()
    monkeypatch.setattr(platform, "machine", lambda: "z80")
    assert this_system() == "z80-linux"
