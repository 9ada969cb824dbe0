"""Tests GRUB in an image: boot code, block list and core image are in their places."""

import pathlib

import pytest

from orchestrator.image.filesystems.filesystem import FilesystemError
from orchestrator.image.layout import SECTOR, Layout, Sizes, plan_layout
from orchestrator.image.loaders import grub
from orchestrator.shared.constants import MIB
from orchestrator.shared.spec import PartitionTable, SpecError

CORE = bytes(range(1, 256)) * 7


@pytest.fixture
def modules(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "i386-pc"
    folder.mkdir()
    (folder / "boot.img").write_bytes(b"\x11" * SECTOR)
    return folder


@pytest.fixture
def mkimage(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Fake grub-mkimage that records its arguments and writes CORE."""
    (tmp_path / "core").write_bytes(CORE)
    script = tmp_path / "bin/grub-mkimage"
    script.parent.mkdir()
    script.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/said\n'
        'while [ "$1" != -o ]; do shift; done\n'
        f'cp {tmp_path}/core "$2"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
    return tmp_path / "said"


def disk(folder: pathlib.Path, table: PartitionTable) -> tuple[pathlib.Path, Layout]:
    layout = plan_layout(table, Sizes(root=MIB, boot=MIB))
    image = folder / "disk.img"
    image.write_bytes(b"\x44" * layout.size)
    return image, layout


@pytest.mark.parametrize(
    ("table", "start", "prefix", "module"),
    [
        ("legacy", 1, "(,msdos1)/boot/grub", "part_msdos"),
        ("legacy+gpt", 2048, "(,gpt1)/boot/grub", "part_gpt"),
    ],
)
def test_each_stage_finds_the_next(
    table: PartitionTable,
    start: int,
    prefix: str,
    module: str,
    modules: pathlib.Path,
    mkimage: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    image, layout = disk(tmp_path, table)
    grub.embed(image, layout, modules, (1, "ext4", "/boot/grub"), tmp_path)
    found = image.read_bytes()
    assert found[:0x5C] == b"\x11" * 0x5C
    assert int.from_bytes(found[0x5C:0x64], "little") == start, "first sector of the core"
    assert found[0x66:0x68] == b"\x90\x90", "the BIOS' drive number is kept"
    assert found[0x68:440] == b"\x11" * (440 - 0x68)
    assert found[440:SECTOR] == b"\x44" * 72, "signature and table are not touched"
    core = bytearray(CORE + bytes(-len(CORE) % SECTOR))
    core[500:508] = (start + 1).to_bytes(8, "little")
    at = start * SECTOR
    assert found[at : at + len(core)] == core
    assert set(found[at + len(core) :]) == {0x44}
    said = mkimage.read_text().split()
    assert said[said.index("-p") + 1] == prefix
    assert {module, "ext2", "linux", "normal"} <= set(said)


def test_a_core_that_does_not_fit_is_refused(
    modules: pathlib.Path, mkimage: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (mkimage.parent / "core").write_bytes(bytes(MIB))
    image, layout = disk(tmp_path, "legacy")
    before = image.read_bytes()
    with pytest.raises(FilesystemError, match=rf"{MIB} bytes, at most {MIB - SECTOR} fit"):
        grub.embed(image, layout, modules, (1, "ext4", "/boot/grub"), tmp_path)
    assert image.read_bytes() == before


def test_what_grub_cannot_read_or_have_is_refused(
    modules: pathlib.Path, mkimage: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    image, layout = disk(tmp_path, "legacy")
    with pytest.raises(SpecError, match="GRUB cannot read erofs"):
        grub.embed(image, layout, modules, (1, "erofs", "/boot/grub"), tmp_path)
    (modules / "boot.img").unlink()
    with pytest.raises(SpecError, match=r"holds no boot\.img"):
        grub.embed(image, layout, modules, (1, "ext4", "/boot/grub"), tmp_path)


def test_a_mkimage_that_fails_is_told_with_its_words(
    modules: pathlib.Path, mkimage: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (mkimage.parent / "bin/grub-mkimage").write_text("#!/bin/sh\necho no module >&2; exit 1\n")
    image, layout = disk(tmp_path, "legacy")
    with pytest.raises(FilesystemError, match="grub-mkimage: no module"):
        grub.embed(image, layout, modules, (1, "ext4", "/boot/grub"), tmp_path)
