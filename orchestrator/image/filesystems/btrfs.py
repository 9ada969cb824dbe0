"""Makes btrfs in a separate file: mkfs.btrfs reads a folder and has no offset option."""

import os
import pathlib

from orchestrator.image.filesystems.filesystem import Order, own_file
from orchestrator.image.filesystems.staged_tree import staged
from orchestrator.image.layout import Partition
from orchestrator.shared.constants import MIB


def size(usage: tuple[int, int], free: int) -> int:
    """Estimate the size in bytes, with metadata twice; measured with small and large files."""
    blocks, inodes = usage
    return 96 * MIB + blocks * 103 // 100 + 6144 * inodes + free


def write(order: Order) -> None:
    """Write `order.tree` into the partition `order.slot` as btrfs."""
    spec = order.spec
    with own_file(order) as file, staged(order) as stage:
        command = ["mkfs.btrfs", "-q", "-f", "-K", "-m", "dup", "-d", "single"]
        command += ["-L", spec.root.label, "-U", str(spec.identifier("root"))]
        command += ["--device-uuid", str(spec.identifier("btrfs device"))]
        command += ["--rootdir", os.fspath(stage.root), os.fspath(file)]
        stage.feed(command, spec.identifier("btrfs"), {"STILL_SIZE": "1"})


def examine(image: pathlib.Path, slot: Partition) -> None:
    """Check nothing: btrfs check has no offset option."""
