"""Makes erofs in a separate file: the offset option of mkfs.erofs 1.8.6 corrupts data."""

import os
import pathlib

from orchestrator.image.filesystems.filesystem import Order, own_file, stream
from orchestrator.image.layout import Partition
from orchestrator.image.tree import STORE_TIME
from orchestrator.shared.constants import MIB


def size(usage: tuple[int, int], _free: int) -> int:
    """Estimate the size in bytes: data and inodes; erofs has neither a journal nor free space."""
    blocks, inodes = usage
    return blocks + 128 * inodes + MIB


def write(order: Order) -> None:
    """Write `order.tree` into the partition `order.slot` as erofs."""
    spec = order.spec
    with own_file(order) as file:
        command = ["mkfs.erofs", "--quiet", f"-T{STORE_TIME}", "--all-time", "--tar=f", "-x-1"]
        command += ["-U", str(spec.identifier("root")), "-L", spec.root.label, os.fspath(file)]
        stream(
            # Without an entry of its own the root would be everybody's to write to.
            lambda pipe: order.tree.write_tar(pipe, root=True),
            command,
            {"LC_ALL": "C.UTF-8"},
        )


def examine(image: pathlib.Path, slot: Partition) -> None:
    """Check nothing: fsck.erofs has no offset option."""
