"""ext4, written in place: mke2fs takes a tar stream and an offset."""

import os
import pathlib
import uuid

from orchestrator.image.filesystems.filesystem import Order, preloaded, run, stream
from orchestrator.image.layout import Partition
from orchestrator.image.tree import BLOCK, STORE_TIME, Tree
from orchestrator.shared.constants import MIB
from orchestrator.shared.paths import ROOT

#: Built from `bulk.c` with the builder's image.
BULK = ROOT / "bulk.so"

#: ext4's inode size, and one inode for this many bytes.
INODE = 256
BYTES_PER_INODE = 8192

#: The journal's size, given to mke2fs: enough for any image's first boots, and the same whatever
#: the file system's size.
JOURNAL = 64 * MIB

#: mke2fs refuses a journal that takes more than half of the file system.
SMALLEST = 2 * JOURNAL + 8 * MIB

#: Superblock copies, group descriptors and what mke2fs reserves for growing them.
FIXED = 8 * MIB

#: Share of blocks that only root may use (`mke2fs -m`), in percent.
RESERVED_PERCENT = 1

#: What mke2fs' defaults are, without the newest two: boot loaders (U-Boot, older GRUBs) and kernels
#: before 5.15 refuse a file system with features that they do not know.
FEATURES = (
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,"
    "large_file,huge_file,dir_nlink,extra_isize,metadata_csum"
)

#: Extended options: the file's holes are zeros already, so inode tables are not written.
OPTIONS = "lazy_itable_init=1,root_owner=0:0,nodiscard"


def size(usage: tuple[int, int], free: int) -> int:
    """Smallest sensible size of an ext4 that holds `usage` and leaves `free` bytes, whole MiB."""
    blocks, inodes = usage
    # Extent trees and directories' growth: below 2 %.
    data = blocks + blocks // 50 + free + JOURNAL + FIXED
    data += data * (RESERVED_PERCENT + 1) // 100  # and the bitmaps: 2 blocks in 32,768
    by_inodes = inodes * BYTES_PER_INODE  # mke2fs makes one inode for each that many bytes
    needed = max(data + data // BYTES_PER_INODE * INODE, by_inodes + inodes * INODE)
    return -(-max(needed, SMALLEST) // MIB) * MIB


def write(order: Order) -> None:
    """Fill the slot of `order` with its tree."""
    make(
        order.image,
        order.slot,
        label=order.spec.root.label,
        identifier=order.spec.identifier("root"),
        hash_seed=order.spec.identifier("hash seed"),
        tree=order.tree,
        mapped=order.mapped,
    )


def examine(image: pathlib.Path, slot: Partition) -> None:
    """Go through all of it."""
    run(["e2fsck", "-fn", f"{image}?offset={slot.start}"], {})


def make(
    image: pathlib.Path,
    slot: Partition,
    *,
    label: str,
    identifier: uuid.UUID,
    hash_seed: uuid.UUID,
    tree: Tree,
    mapped: bool = False,
) -> None:
    """Make an ext4 of `tree`, which mke2fs takes as a tar stream (e2fsprogs >= 1.47.1).

    The journal is left a hole, too, unless the image gets a block map: a card that is written by it
    may hold another image's journal there.
    """
    extended = [f"offset={slot.start}", f"hash_seed={hash_seed}", OPTIONS]
    extended.append(f"lazy_journal_init={0 if mapped else 1}")
    command = [
        *("mke2fs", "-q", "-F", "-t", "ext4", "-d", "-", "-L", label, "-U", str(identifier)),
        *("-O", FEATURES, "-I", str(INODE), "-b", str(BLOCK)),
        *("-i", str(BYTES_PER_INODE), "-m", str(RESERVED_PERCENT)),
        *("-J", f"size={JOURNAL // MIB}", "-E", ",".join(extended)),
        *(os.fspath(image), f"{slot.size // 1024}k"),
    ]
    variables = {
        "LD_PRELOAD": preloaded(BULK),
        "BULK_OFFSET": str(slot.start),
        "SOURCE_DATE_EPOCH": str(STORE_TIME),
        "MKE2FS_SYNC": "0",
        "LC_ALL": "C.UTF-8",  # or libarchive refuses names that are not ASCII
    }
    stream(tree, command, variables)
