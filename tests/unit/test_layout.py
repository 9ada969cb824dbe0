"""Where partitions lie: aligned, apart, inside the disk, large enough."""

import pathlib

import hypothesis
import pytest
from hypothesis import strategies as st

from orchestrator.image.layout import (
    ALIGNMENT,
    EXT4_BYTES_PER_INODE,
    GPT_RESERVE,
    MIB,
    LayoutError,
    efi_layout,
    ext4_size,
    tree_usage,
)

SIZES = st.integers(1, 1 << 42)


@hypothesis.given(SIZES, SIZES, st.none() | SIZES)
def test_partitions_are_aligned_apart_and_inside(
    esp_size: int, root_size: int, disk_size: int | None
) -> None:
    try:
        layout = efi_layout(esp_size, root_size, disk_size)
    except LayoutError:
        assert disk_size is not None
        assert disk_size < esp_size + root_size + 5 * MIB
        return
    if disk_size is not None:
        assert disk_size - ALIGNMENT < layout.size <= disk_size
    esp, root = layout.partitions
    assert (esp.name, root.name) == ("ESP", "nixos")
    assert esp.size >= esp_size
    assert root.size >= root_size
    assert esp.start >= 34 * 512, "the primary GPT lies before it"
    assert esp.start + esp.size <= root.start
    assert root.start + root.size <= layout.size - 33 * 512, "the backup GPT lies behind it"
    assert all(
        number % ALIGNMENT == 0 for part in layout.partitions for number in (part.start, part.size)
    )
    assert layout.size % ALIGNMENT == 0


def test_as_large_as_needed_and_not_a_mib_more() -> None:
    layout = efi_layout(96 * MIB, 200 * MIB)
    assert layout.size == (1 + 96 + 200) * MIB + GPT_RESERVE
    assert efi_layout(96 * MIB, 200 * MIB, layout.size) == layout


def test_a_disk_too_small_is_refused_with_both_numbers() -> None:
    with pytest.raises(LayoutError, match=r"297 MiB .* need 298 MiB"):
        efi_layout(96 * MIB, 200 * MIB, 298 * MIB - 1)


COUNTS = st.integers(0, 1 << 40)


@hypothesis.given(COUNTS, COUNTS, COUNTS, COUNTS, st.integers(0, 2))
def test_more_content_never_makes_a_smaller_file_system(
    blocks: int, inodes: int, free: int, more: int, which: int
) -> None:
    grown = [blocks, inodes, free]
    grown[which] += more
    assert ext4_size(*grown) >= ext4_size(blocks, inodes, free)


GIB = 1 << 30


@hypothesis.given(st.integers(0, 4 * GIB), st.integers(0, 1 << 19), st.integers(0, 2 * GIB))
def test_the_file_system_holds_its_content(blocks: int, inodes: int, free: int) -> None:
    """Up to 6 GiB; the journals are those that mke2fs 1.47 makes of itself, seen with dumpe2fs."""
    size = ext4_size(blocks, inodes, free)
    inode_tables = size // EXT4_BYTES_PER_INODE * 256
    journal = (32 if size < 2 * GIB else 64) * MIB
    bitmaps = -(-size // (128 * MIB)) * 2 * 4096
    assert size % MIB == 0
    assert size // EXT4_BYTES_PER_INODE >= inodes
    assert size - inode_tables - journal - bitmaps >= blocks + free


def test_usage_counts_whole_blocks_and_each_inode(tmp_path: pathlib.Path) -> None:
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    (tree / "empty").touch()
    (tree / "one").write_bytes(b"x")
    (tree / "inner/two").write_bytes(bytes(4097))
    (tree / "link").symlink_to("/etc")
    (tree / "dangling").symlink_to("/nowhere")
    alone = tmp_path / "alone"
    alone.write_bytes(bytes(4096))
    # two folders, one block of `one`, two of `two`, one of `alone`
    assert tree_usage([tree, alone]) == (6 * 4096, 8)


def test_usage_does_not_follow_a_store_path_that_is_a_link(tmp_path: pathlib.Path) -> None:
    (tmp_path / "big").write_bytes(bytes(1 << 16))
    (tmp_path / "link").symlink_to(tmp_path / "big")
    assert tree_usage([tmp_path / "link"]) == (0, 1)
