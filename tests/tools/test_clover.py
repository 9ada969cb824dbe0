"""Tests Clover's boot stages in an image, with a stand-in for Clover's archive."""

import pathlib
import plistlib
import subprocess

import pytest

from orchestrator.image.filesystems.fat import fat_tree, write_fat
from orchestrator.image.layout import SECTOR, Layout, Sizes, plan_layout
from orchestrator.image.loaders import clover
from orchestrator.shared.constants import MIB
from orchestrator.shared.spec import SpecError

pytestmark = pytest.mark.needs("mkfs.vfat", "fsck.vfat", "mcopy")


LOADER = "EFI/systemd/systemd-bootx64.efi"


@pytest.fixture
def archive(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "archive"
    (folder / "CLOVER/drivers/BIOS").mkdir(parents=True)
    (folder / "CLOVER/drivers/BIOS/VirtioBlk.efi").write_text("driver")
    (folder / "CLOVER/CLOVERX64.efi").write_text("clover")
    (folder / "CLOVER/config.plist").write_text("the archive's own")
    (folder / "boot0ss").write_bytes(b"\x11" * SECTOR)
    (folder / "boot1f32").write_bytes(b"\x22" * SECTOR)
    (folder / "boot7").write_bytes(b"\x33" * 4096)
    return folder


@pytest.fixture
def image(tmp_path: pathlib.Path) -> tuple[pathlib.Path, Layout]:
    """Make an ESP as the assembler does, and an MBR of known bytes."""
    layout = plan_layout("efi", Sizes(root=MIB, boot=40 * MIB))
    path = tmp_path / "disk.img"
    path.write_bytes(b"\x44" * SECTOR)
    with path.open("r+b") as disk:
        disk.truncate(layout.size)
    esp = layout.find("ESP")
    assert esp is not None
    tree = fat_tree({"a": "content"}, tmp_path / "esp")
    write_fat(path, esp, label="ESP", serial="01234567", tree=tree)
    return path, layout


def test_the_esp_gets_the_third_stage_clover_and_our_settings(archive: pathlib.Path) -> None:
    files = clover.files(archive, LOADER)
    assert files.keys() == {
        "boot",
        "EFI/CLOVER/config.plist",
        "EFI/CLOVER/CLOVERX64.efi",
        "EFI/CLOVER/drivers/BIOS/VirtioBlk.efi",
    }
    assert files["boot"] == archive / "boot7"
    settings = plistlib.loads(str(files["EFI/CLOVER/config.plist"]).encode())
    (entry,) = settings["GUI"]["Custom"]["Entries"]
    assert (
        entry["Path"] == settings["Boot"]["DefaultLoader"] == "\\EFI\\systemd\\systemd-bootx64.efi"
    )


@pytest.mark.parametrize("stage", clover.STAGES)
def test_an_archive_without_a_stage_is_refused(stage: str, archive: pathlib.Path) -> None:
    (archive / stage).unlink()
    with pytest.raises(SpecError, match=f"holds no {stage}"):
        clover.files(archive, LOADER)


def test_code_and_description_are_merged(
    archive: pathlib.Path, image: tuple[pathlib.Path, Layout]
) -> None:
    path, layout = image
    esp = layout.find("ESP")
    assert esp is not None
    before = path.read_bytes()
    clover.embed(path, layout, archive)
    after = path.read_bytes()
    assert after[:440] == b"\x11" * 440
    assert after[440:446] == before[440:446], "the disk's signature"
    assert after[446] == 0x80
    assert after[447:SECTOR] == before[447:SECTOR], "the table and its signature"
    record, was = (text[esp.start : esp.start + SECTOR] for text in (after, before))
    assert record[:3] == b"\x22" * 3
    assert record[3:90] == was[3:90], "what describes the file system"
    assert record[90:510] == b"\x22" * 420
    assert record[510:] == b"\x55\xaa"
    backup = esp.start + 6 * SECTOR
    assert after[backup : backup + SECTOR] == record
    ours = [slice(0, 447), slice(esp.start, esp.start + SECTOR), slice(backup, backup + SECTOR)]
    rest, rest_before = bytearray(after), bytearray(before)
    for part in ours:
        rest[part] = rest_before[part] = bytes(part.stop - part.start)
    assert rest == rest_before, "nothing else is written"


def test_the_file_system_is_sound_afterwards(
    archive: pathlib.Path, image: tuple[pathlib.Path, Layout], tmp_path: pathlib.Path
) -> None:
    path, layout = image
    esp = layout.find("ESP")
    assert esp is not None
    clover.embed(path, layout, archive)
    alone = tmp_path / "esp.img"
    alone.write_bytes(path.read_bytes()[esp.start : esp.start + esp.size])
    done = subprocess.run(["fsck.vfat", "-n", alone], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    place = f"{path}@@{esp.start}"
    shown = subprocess.run(["mtype", "-i", place, "::/a"], capture_output=True, check=True)
    assert shown.stdout == b"content"


def test_an_esp_too_small_for_fat32_is_refused(
    archive: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    layout = plan_layout("efi", Sizes(root=MIB, boot=16 * MIB))
    with pytest.raises(SpecError, match="FAT32"):
        clover.embed(tmp_path / "disk.img", layout, archive)
