"""Stages the root file system as a folder, for mkfs tools that cannot read a tar stream."""

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

#: Library compiled from `still.c` into the builder's image.
STILL = ROOT / "still.so"


@dataclasses.dataclass(frozen=True)
class Staged:
    """A tree of hard links to the store, and a table file of its entries' owners.

    `elsewhere` maps the path of an empty file in the tree to the file with its content.
    """

    root: pathlib.Path
    owners: pathlib.Path
    elsewhere: dict[str, pathlib.Path]


@contextlib.contextmanager
def staged(order: Order) -> Iterator[Staged]:
    """Stage `order.tree` as a folder; the content of late entries stays in the scratch folder."""
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
    """Return (user, group) of entries that do not belong to root, by path in the staged tree."""
    return {
        f"{root}/{entry.path}": (entry.user, entry.group)
        for entry in tree.entries
        if entry.user or entry.group
    }


def still(seed: uuid.UUID, owners: pathlib.Path) -> dict[str, str]:
    """Return variables that preload still.so: fixed clock, random numbers from `seed`, owners."""
    return {"LD_PRELOAD": preloaded(STILL), "STILL_SEED": seed.hex, "STILL_OWNERS": str(owners)}
