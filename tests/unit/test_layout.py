"""Tests the layout: aligned, disjoint, large enough partitions, numbered as in nixpkgs."""

import typing

import hypothesis
import pytest
from hypothesis import strategies as st

from orchestrator.image.layout import (
    ALIGNMENT,
    RESERVE,
    Layout,
    LayoutError,
    Sizes,
    plan_layout,
)
from orchestrator.shared.constants import MIB
from orchestrator.shared.spec import PartitionTable

TABLES: tuple[PartitionTable, ...] = typing.get_args(PartitionTable)
SIZES = st.integers(1, 1 << 42)


def needed(sizes: Sizes) -> int:
    return sizes.root + sizes.boot + sizes.esp + sizes.firmware + sizes.firmware_offset


@hypothesis.given(
    st.sampled_from(TABLES),
    st.builds(Sizes, SIZES, SIZES, SIZES, SIZES, st.just(8 * MIB), st.just(0) | SIZES),
)
def test_partitions_are_aligned_apart_and_inside(table: PartitionTable, sizes: Sizes) -> None:
    try:
        layout = plan_layout(table, sizes)
    except LayoutError:
        assert 0 < sizes.disk < needed(sizes) + 8 * MIB
        return
    if sizes.disk:
        assert sizes.disk - ALIGNMENT < layout.size <= sizes.disk
    first = layout.partitions[0]
    assert first.start >= (34 * 512 if layout.label else 0), "the table lies before it"
    end = 0
    for part in layout.partitions:
        assert part.start >= end
        assert part.start % ALIGNMENT == part.size % ALIGNMENT == 0
        end = part.start + part.size
    behind = 33 * 512 if layout.label == "gpt" else 0
    assert end <= layout.size - behind, "the backup GPT lies behind it"
    assert layout.root.size >= sizes.root
    wanted = {"BOOT": sizes.boot, "FIRMWARE": sizes.firmware}
    wanted["ESP"] = sizes.esp if layout.find("BOOT") else sizes.boot
    for name, size in wanted.items():
        slot = layout.find(name)
        assert slot is None or slot.size >= size


def shape(layout: Layout) -> list[tuple[int, str, bool]]:
    return [(part.number, part.name, part.active) for part in layout.partitions]


@pytest.mark.parametrize(
    ("table", "label", "expected"),
    [
        ("none", "", [(0, "nixos", False)]),
        ("legacy", "dos", [(1, "nixos", True)]),
        ("legacy+boot", "dos", [(1, "BOOT", True), (2, "nixos", False)]),
        ("legacy+gpt", "gpt", [(1, "BIOS", False), (2, "nixos", False)]),
        ("efi", "gpt", [(1, "ESP", False), (2, "nixos", False)]),
        ("efixbootldr", "gpt", [(1, "ESP", False), (2, "BOOT", False), (3, "nixos", False)]),
        ("hybrid", "gpt", [(2, "BIOS", False), (1, "ESP", False), (3, "nixos", False)]),
        ("sd-card", "dos", [(1, "FIRMWARE", False), (2, "nixos", True)]),
    ],
)
def test_each_tables_partitions(
    table: PartitionTable, label: str, expected: list[tuple[int, str, bool]]
) -> None:
    layout = plan_layout(table, Sizes(root=MIB, boot=MIB, esp=MIB, firmware=MIB))
    assert layout.label == label
    assert shape(layout) == expected


def test_an_sd_cards_firmware_lies_where_its_offset_says() -> None:
    sizes = Sizes(root=MIB, firmware=30 * MIB, firmware_offset=8 * MIB)
    layout = plan_layout("sd-card", sizes)
    assert [part.start // MIB for part in layout.partitions] == [8, 38]
    assert layout.size == 39 * MIB


def test_as_large_as_needed_and_not_a_mib_more() -> None:
    layout = plan_layout("efi", Sizes(root=200 * MIB, boot=96 * MIB))
    assert layout.size == (1 + 96 + 200) * MIB + RESERVE
    again = plan_layout("efi", Sizes(root=200 * MIB, boot=96 * MIB, disk=layout.size))
    assert again == layout


def test_the_root_takes_what_is_left() -> None:
    layout = plan_layout("efi", Sizes(root=200 * MIB, boot=96 * MIB, disk=1024 * MIB))
    assert layout.root.start + layout.root.size == layout.size - RESERVE == 1023 * MIB


def test_a_disk_too_small_is_refused_with_both_numbers_and_the_option() -> None:
    with pytest.raises(LayoutError, match=r"297 MiB .* need 298 MiB \(--disk-size\)"):
        plan_layout("efi", Sizes(root=200 * MIB, boot=96 * MIB, disk=298 * MIB - 1))
