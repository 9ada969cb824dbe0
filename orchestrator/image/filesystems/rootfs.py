"""Finds the module of a root file system by name, for its size and for writing it.

Each root file system of shared/filesystems.toml has a module in this folder.
"""

import importlib
import pathlib
import typing

from orchestrator.image.filesystems.filesystem import Order
from orchestrator.image.layout import Partition
from orchestrator.image.tree import Tree
from orchestrator.shared.constants import MIB
from orchestrator.shared.spec import Root


class Filesystem(typing.Protocol):
    """Interface of a root file system's module."""

    def size(self, usage: tuple[int, int], free: int) -> int:
        """Return the size in bytes of the smallest file system that holds a tree of this usage.

        `usage`: bytes in whole blocks, and number of inodes; `free`: bytes to leave free.
        """

    def write(self, order: Order) -> None:
        """Make the file system of `order.tree` in the image's partition `order.slot`."""

    def examine(self, image: pathlib.Path, slot: Partition) -> None:
        """Check the file system in `slot` of `image`, if its fsck works in place."""


def module_of(name: str) -> Filesystem:
    """Import the module of the file system `name`."""
    module = importlib.import_module(f"orchestrator.image.filesystems.{name}")
    return typing.cast("Filesystem", module)


def root_size(root: Root, tree: Tree) -> int:
    """Return the smallest size of the root file system in bytes, whole MiB."""
    size = module_of(root.fsType).size(tree.usage(), root.additionalSpaceMiB * MIB)
    return -(-size // MIB) * MIB


def write_root(order: Order) -> None:
    """Make the spec's file system of `order.tree` in the image's partition `order.slot`."""
    module_of(order.spec.root.fsType).write(order)
