"""Makes ext4 in place: mke2fs reads a tar stream and has an offset option."""

import os
import pathlib
import uuid

from orchestrator.image.filesystems.filesystem import Order, preloaded, run, stream
from orchestrator.image.layout import Partition
from orchestrator.image.tree import BLOCK, STORE_TIME, Tree
from orchestrator.shared.constants import MIB
from orchestrator.shared.paths import ROOT

#: Library compiled from `bulk.c` into the builder's image.
BULK = ROOT / "bulk.so"

#: Size of an inode (mke2fs -I), and bytes of file system per inode (mke2fs -i).
INODE = 256
BYTES_PER_INODE = 8192

#: Journal size in bytes, the same for every file system size.
JOURNAL = 64 * MIB

#: Smallest file system in bytes: mke2fs refuses a journal of more than half of it.
SMALLEST = 2 * JOURNAL + 8 * MIB

#: Bytes for superblock copies, group descriptors and mke2fs' reserve for growing them.
FIXED = 8 * MIB

#: Share of blocks that only root may use (`mke2fs -m`), in percent.
RESERVED_PERCENT = 1

#: mke2fs' default features without the newest two: boot loaders (U-Boot, older GRUBs) and kernels
#: before 5.15 refuse a file system with unknown features.
FEATURES = (
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,"
    "large_file,huge_file,dir_nlink,extra_isize,metadata_csum"
)

#: Extended options of mke2fs: inode tables are not written, because the image is a sparse file of
#: zeros.
OPTIONS = "lazy_itable_init=1,root_owner=0:0,nodiscard"


def size(usage: tuple[int, int], free: int) -> int:
    """Smallest sensible size of an ext4 that holds `usage` and leaves `free` bytes, whole MiB."""
    blocks, inodes = usage
    # 2 % for extent trees and growing directories.
    data = blocks + blocks // 50 + free + JOURNAL + FIXED
    data += data * (RESERVED_PERCENT + 1) // 100  # 1 % for bitmaps (2 blocks in 32,768)
    by_inodes = inodes * BYTES_PER_INODE  # enough bytes for mke2fs to make that many inodes
    needed = max(data + data // BYTES_PER_INODE * INODE, by_inodes + inodes * INODE)
    return -(-max(needed, SMALLEST) // MIB) * MIB


def write(order: Order) -> None:
    """Write `order.tree` into the partition `order.slot` as ext4."""
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
    """Check the file system with e2fsck."""
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
    """Make an ext4 of `tree`, which mke2fs reads as a tar stream (e2fsprogs >= 1.47.1).

    The journal stays a hole of the file unless the image gets a block map (`mapped`): bmaptool
    skips holes, so the card could keep an older image's journal there.
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
        "LC_ALL": "C.UTF-8",  # with "C" libarchive refuses non-ASCII names
    }
    stream(tree.write_tar, command, variables)
