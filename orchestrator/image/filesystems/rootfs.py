"""The root file system: its module, by its name, says how large it is and writes it.

A module of this folder for each row of shared/filesystems.toml that can be a root file system.
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
    """What a module of a root file system has."""

    def size(self, usage: tuple[int, int], free: int) -> int:
        """Bytes that it must have at least.

        `usage` are bytes in whole blocks and inodes, `free` the bytes that stay free.
        """

    def write(self, order: Order) -> None:
        """Fill the slot of `order` with its tree."""

    def examine(self, image: pathlib.Path, slot: Partition) -> None:
        """Go through what is in `slot` of `image`, where its tools can do so in place."""


def module_of(name: str) -> Filesystem:
    """The module of the file system `name`."""
    module = importlib.import_module(f"orchestrator.image.filesystems.{name}")
    return typing.cast("Filesystem", module)


def root_size(root: Root, tree: Tree) -> int:
    """Bytes that the root file system must have at least, whole MiB."""
    size = module_of(root.fsType).size(tree.usage(), root.additionalSpaceMiB * MIB)
    return -(-size // MIB) * MIB


def write_root(order: Order) -> None:
    """Write the root file system that the spec of `order` wants."""
    module_of(order.spec.root.fsType).write(order)
