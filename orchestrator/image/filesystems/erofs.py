"""erofs, made as a file of its own: mkfs.erofs 1.8.6 knows an offset and corrupts data with it."""

import os
import pathlib

from orchestrator.image.filesystems.filesystem import Order, own_file, stream
from orchestrator.image.layout import Partition
from orchestrator.image.tree import STORE_TIME
from orchestrator.shared.constants import MIB


def size(usage: tuple[int, int], _free: int) -> int:
    """Data, and a few dozen bytes for each entry: no journal, no free space."""
    blocks, inodes = usage
    return blocks + 128 * inodes + MIB


def write(order: Order) -> None:
    """Fill the slot of `order` with its tree."""
    spec = order.spec
    with own_file(order) as file:
        command = ["mkfs.erofs", "--quiet", f"-T{STORE_TIME}", "--all-time", "--tar=f", "-x-1"]
        command += ["-U", str(spec.identifier("root")), "-L", spec.root.label, os.fspath(file)]
        stream(order.tree, command, {"LC_ALL": "C.UTF-8"})


def examine(image: pathlib.Path, slot: Partition) -> None:
    """Its tools check only a file that begins with it."""
