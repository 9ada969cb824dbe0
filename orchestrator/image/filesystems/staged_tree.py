"""Stages the root file system as a folder, for mkfs tools that cannot read a tar stream.

The tools find names, links and modes in the folder, which only this run's containers have, and get
the files' content from a tar stream: so nobody can change what was hashed before a tool reads it.
"""

import contextlib
import dataclasses
import os
import pathlib
import uuid
from collections.abc import Iterator

from orchestrator.image import staging
from orchestrator.image.filesystems.filesystem import Order, preloaded, stream
from orchestrator.image.tree import Tree
from orchestrator.shared.filesystems import FILESYSTEMS
from orchestrator.shared.paths import ROOT

#: Library compiled from `still.c` into the builder's image.
STILL = ROOT / "still.so"


@dataclasses.dataclass(frozen=True)
class Staged:
    """The tree `tree` as the folder `root`, with empty files, and a table file of their owners."""

    tree: Tree
    root: pathlib.Path
    owners: pathlib.Path

    def feed(self, command: list[str], seed: uuid.UUID, variables: dict[str, str]) -> None:
        """Run a mkfs tool that finds `root` and reads the files' content from a stream.

        A fixed clock and random numbers from `seed` make equal images of equal trees.
        """
        own = {
            "LD_PRELOAD": preloaded(STILL),
            "STILL_SEED": seed.hex,
            "STILL_OWNERS": os.fspath(self.owners),
            "STILL_ROOT": f"{self.root}/",
        }
        stream(lambda pipe: self.tree.write_content(self.root, pipe), command, own | variables)


@contextlib.contextmanager
def staged(order: Order) -> Iterator[Staged]:
    """Stage `order.tree` in the scratch folder; it is removed afterwards."""
    stage = Staged(order.tree, order.scratch / "staged", order.scratch / "owners")
    with staging.removed_afterwards(stage.root):
        order.tree.stage(stage.root, FILESYSTEMS[order.spec.root.fsType].link_bytes)
        table = owners_of(order.tree, stage.root).items()
        lines = [f"{user} {group} {path}\n" for path, (user, group) in table]
        stage.owners.write_text("".join(lines))
        yield stage


def owners_of(tree: Tree, root: pathlib.Path) -> dict[str, tuple[int, int]]:
    """Return (user, group) of entries that do not belong to root, by path in the staged tree."""
    return {
        f"{root}/{entry.path}": (entry.user, entry.group)
        for entry in tree.entries
        if entry.user or entry.group
    }
