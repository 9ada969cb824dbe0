"""Tests the table of disk formats: a file name's suffix identifies the format."""

import pytest

from orchestrator.shared.disk_formats import ASSEMBLED, DISK_FORMATS, of_suffix


@pytest.mark.parametrize(
    ("suffix", "name"),
    [
        (".qcow2", "qcow2"),
        (".VHD", "vpc"),
        (".vhdx", "vhdx"),
        (".vdi", "vdi"),
        (".vmdk", "vmdk"),
        (".box", "vagrant"),
        (".iso", "iso"),
        (".img", "raw"),
        (".tar", "raw"),
        ("", "raw"),
    ],
)
def test_a_files_suffix_says_what_it_is(suffix: str, name: str) -> None:
    assert of_suffix(suffix) == name


def test_our_assembler_makes_all_but_isos() -> None:
    assert DISK_FORMATS.keys() - set(ASSEMBLED) == {"iso"}


def test_whatever_is_no_raw_disk_is_examined() -> None:
    unseen = [name for name, row in DISK_FORMATS.items() if not row.examined]
    assert unseen == ["raw"]
    assert [name for name, row in DISK_FORMATS.items() if row.stick] == ["iso"]
