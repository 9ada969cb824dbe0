"""Tests printed QEMU and libvirt commands: one per firmware, correctly quoted."""

import shlex

import pytest

from orchestrator.decide.machine_commands import describe
from orchestrator.shared.architectures import SYSTEMS
from orchestrator.shared.errors import UsageError


def commands(text: str) -> list[list[str]]:
    """Split `text` into commands and words, as a shell does."""
    plain = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    return [shlex.split(part.replace("\\\n", "")) for part in plain.split("\n\n") if part.strip()]


def test_each_firmware_has_a_command_and_libvirt_one() -> None:
    text = describe("x86_64-linux", ("uefi", "bios"), "/out/a.qcow2", "qcow2-compressed")
    uefi, bios, libvirt = commands(text)
    assert uefi[0] == bios[0] == "qemu-system-x86_64"
    assert "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd" in uefi
    assert not any("pflash" in word for word in bios)
    assert "file=/out/a.qcow2,format=qcow2,if=none,id=disk,cache=writeback,werror=report" in bios
    assert "type=1,serial=ds=nocloud" in uefi
    assert libvirt[:3] == ["virt-install", "--name", "a"]
    assert libvirt[libvirt.index("--boot") + 1] == "uefi"
    assert "path=/out/a.qcow2,format=qcow2,bus=virtio" in libvirt
    assert [line for line in text.splitlines() if line in {"# UEFI", "# BIOS", "# libvirt"}]


def test_a_machine_without_uefi_is_not_told_of_it() -> None:
    _bios, libvirt = commands(describe("i686-linux", ("bios",), "/a.img", "raw"))
    assert "--boot" not in libvirt
    (u_boot,) = commands(describe("aarch64-linux", ("u-boot",), "/a.img", "raw"))
    assert u_boot[u_boot.index("-bios") + 1] == "/usr/lib/u-boot/qemu_arm64/u-boot.bin"
    (u_boot,) = commands(describe("riscv64-linux", ("u-boot",), "/a.img", "raw"))
    assert u_boot[u_boot.index("-kernel") + 1].endswith("qemu-riscv64_smode/u-boot.bin")


def test_a_seed_is_in_the_commands_where_it_is_given() -> None:
    qemu, libvirt = commands(describe("x86_64-linux", ("bios",), "/a.img", "raw", "/s,eed.iso"))
    assert "file=/s,,eed.iso,format=raw,if=none,id=seed,readonly=on" in qemu
    assert "virtio-blk-pci,drive=seed" in qemu
    assert "path='/s,eed.iso',format=raw,bus=virtio,readonly=on" in libvirt
    assert "seed.iso" not in describe("x86_64-linux", ("bios",), "/a.img", "raw")


def test_an_iso_gets_devices_that_its_initrd_knows() -> None:
    qemu, libvirt = commands(describe("x86_64-linux", ("bios",), "/a.iso", "iso"))
    assert "nvme,serial=nixos,drive=disk" in qemu
    assert "file=/a.iso,format=raw,if=none,id=disk,cache=writeback,werror=report" in qemu
    assert "path=/a.iso,format=raw,bus=sata" in libvirt


@pytest.mark.parametrize("path", ["/it's a,b.img", '/"$HOME".img', "/a b.img", "/a\\\\b,c.img"])
def test_any_path_stays_one_word(path: str) -> None:
    qemu, libvirt = commands(describe("x86_64-linux", ("bios",), path, "raw"))
    drive = qemu[qemu.index("-drive") + 1]
    assert drive.startswith(f"file={path.replace(',', ',,')},format=raw,")
    # virt-install splits the value so (virtinst/cli.py, parse_optstr_tuples).
    split = shlex.shlex(libvirt[libvirt.index("--disk") + 1], posix=True)
    split.commenters, split.whitespace, split.whitespace_split = "", ",", True
    assert list(split) == [f"path={path}", "format=raw", "bus=virtio"]


def test_a_system_that_has_no_machine_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown system") as caught:
        describe("z80-linux", ("bios",), "/a.img", "raw")
    assert caught.value.hint


def test_every_system_has_a_machine() -> None:
    for system in SYSTEMS:
        assert commands(describe(system, ("bios",), "/a.img", "raw"))
