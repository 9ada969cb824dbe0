"""The root file system as a folder, for tools that take no stream."""

import contextlib
import dataclasses
import pathlib
import uuid
from collections.abc import Iterator

from orchestrator.image import staging
from orchestrator.image.filesystems.filesystem import Order, preloaded
from orchestrator.image.tree import Tree
from orchestrator.shared.filesystems import FILESYSTEMS
from orchestrator.shared.paths import ROOT

#: Built from `still.c` with the builder's image.
STILL = ROOT / "still.so"


@dataclasses.dataclass(frozen=True)
class Staged:
    """A tree of hard links to the store, and a file that says whose its entries are.

    Files that are empty there have their content `elsewhere`: where, by their path in the tree.
    """

    root: pathlib.Path
    owners: pathlib.Path
    elsewhere: dict[str, pathlib.Path]


@contextlib.contextmanager
def staged(order: Order) -> Iterator[Staged]:
    """Stage the tree of `order` for the time of a `with` block, its late entries in its scratch."""
    tree = order.tree
    files = {entry.path: entry for entry in order.late if entry.kind == "file"}
    with staging.staging() as folder:
        stage = Staged(folder / "root", folder / "owners", {})
        link_bytes = FILESYSTEMS[order.spec.root.fsType].link_bytes
        tree.blanked(files.keys()).stage(stage.root, link_bytes)
        for number, entry in enumerate(files.values()):
            place = order.scratch / f"late-{number}"
            place.touch(mode=0o600)
            place.write_bytes(entry.data)
            stage.elsewhere[f"{stage.root}/{entry.path}"] = place
        table = owners_of(tree, stage.root).items()
        lines = [f"{user} {group} {path}\n" for path, (user, group) in table]
        stage.owners.write_text("".join(lines))
        with tree.unchanged(stage.root):
            yield stage


def owners_of(tree: Tree, root: pathlib.Path) -> dict[str, tuple[int, int]]:
    """Entries that are not root's, by their path in the staged tree."""
    return {
        f"{root}/{entry.path}": (entry.user, entry.group)
        for entry in tree.entries
        if entry.user or entry.group
    }


def still(seed: uuid.UUID, owners: pathlib.Path) -> dict[str, str]:
    """Variables for a tool that is to know neither clock nor chance, and the owners of a table."""
    return {"LD_PRELOAD": preloaded(STILL), "STILL_SEED": seed.hex, "STILL_OWNERS": str(owners)}
