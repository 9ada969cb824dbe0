"""File systems written straight into a slot of the image.

No mount, no root, no second copy, no clock. Every identifier and time is fixed, so the same input
gives the same bytes.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import subprocess
import uuid

from orchestrator.image.layout import SECTOR, Partition
from orchestrator.image.tree import BLOCK, STORE_TIME, Tree
from orchestrator.shared.constants import MIB
from orchestrator.shared.paths import ROOT

#: Built from `bulk.c` with the builder's image.
BULK = ROOT / "bulk.so"

#: FAT cannot tell times before 1980, mtools take this one from SOURCE_DATE_EPOCH:
#: 1980-01-01T00:00:00Z.
FAT_TIME = 315532800

#: A FAT32 has at least this many clusters, or it is no FAT32 (Microsoft's FAT specification 1.03,
#: page 14); and this many reserved sectors, by mkfs.vfat's default.
FAT32_CLUSTERS = 65525
FAT32_RESERVED = 32

#: From here on FAT32 with clusters of one sector has enough of them.
FAT32_BYTES = 33 * MIB

#: Below it, FAT12: a FAT16 has at least 4,085 clusters.
FAT16_BYTES = 3 * MIB

#: The longest track that mkfs.vfat reckons with.
TRACK_SECTORS = 63

#: Files and folders at the top of a FAT16, mkfs.vfat's default.
FAT16_ROOT_ENTRIES = 512

#: ext4's inode size, and one inode for this many bytes.
EXT4_INODE = 256
EXT4_BYTES_PER_INODE = 8192

#: The journal's size, given to mke2fs: enough for any image's first boots, and the same whatever
#: the file system's size.
EXT4_JOURNAL = 64 * MIB

#: mke2fs refuses a journal that takes more than half of the file system.
EXT4_SMALLEST = 2 * EXT4_JOURNAL + 8 * MIB

#: Superblock copies, group descriptors and what mke2fs reserves for growing them.
EXT4_FIXED = 8 * MIB

#: Share of blocks that only root may use (`mke2fs -m`), in percent.
EXT4_RESERVED_PERCENT = 1

#: What mke2fs' defaults are, without the newest two: boot loaders (U-Boot, older GRUBs) and kernels
#: before 5.15 refuse a file system with features that they do not know.
EXT4_FEATURES = (
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,"
    "large_file,huge_file,dir_nlink,extra_isize,metadata_csum"
)

#: Extended options: the file's holes are zeros already, so inode tables are not written.
EXT4_OPTIONS = "lazy_itable_init=1,root_owner=0:0,nodiscard"


class FilesystemError(Exception):
    """A tool that makes a file system failed; the message has its name and its last words."""


def ext4_size(usage: tuple[int, int], free: int) -> int:
    """Smallest sensible size of an ext4 that holds `usage` and leaves `free` bytes, whole MiB."""
    blocks, inodes = usage
    # Extent trees and directories' growth: below 2 %.
    data = blocks + blocks // 50 + free + EXT4_JOURNAL + EXT4_FIXED
    data += data * (EXT4_RESERVED_PERCENT + 1) // 100  # and the bitmaps: 2 blocks in 32,768
    by_inodes = inodes * EXT4_BYTES_PER_INODE  # mke2fs makes one inode for each that many bytes
    size = max(data + data // EXT4_BYTES_PER_INODE * EXT4_INODE, by_inodes + inodes * EXT4_INODE)
    size = max(size, EXT4_SMALLEST)
    return -(-size // MIB) * MIB


def write_ext4(
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
    extended = [f"offset={slot.start}", f"hash_seed={hash_seed}", EXT4_OPTIONS]
    extended.append(f"lazy_journal_init={0 if mapped else 1}")
    command = [
        *("mke2fs", "-q", "-F", "-t", "ext4", "-d", "-", "-L", label, "-U", str(identifier)),
        *("-O", EXT4_FEATURES, "-I", str(EXT4_INODE), "-b", str(BLOCK)),
        *("-i", str(EXT4_BYTES_PER_INODE), "-m", str(EXT4_RESERVED_PERCENT)),
        *("-J", f"size={EXT4_JOURNAL // MIB}", "-E", ",".join(extended)),
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


def preloaded(library: pathlib.Path) -> str:
    """`library` as ld.so takes it: where it is not there, ld.so would go on without it."""
    if not library.exists():
        raise FilesystemError(f"{library} is missing: the builder's image is not whole")
    return os.fspath(library)


def stream(tree: Tree, command: list[str], variables: dict[str, str]) -> None:
    """Run `command` with the tar stream of `tree` as its input."""
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, **variables},
    ) as sink:
        assert sink.stdin is not None
        complaint = ""
        # A pipe that breaks, here or at the close: the reader has ended, and says why.
        with contextlib.suppress(BrokenPipeError), sink.stdin as pipe:
            complaint = tree.write_tar(pipe)
        sink.stdin = None
        said = sink.communicate()[1].decode(errors="replace")
    if complaint and "Broken pipe" not in complaint:
        raise FilesystemError(complaint)
    if sink.returncode != 0:
        raise FilesystemError(f"{command[0]}: {_reason(said) or f'exit code {sink.returncode}'}")


@dataclasses.dataclass(frozen=True)
class _Fat:
    """Geometry of a FAT: `bits` wide entries, `cluster` sectors each, `fixed` sectors before."""

    bits: int
    cluster: int
    fixed: int

    @classmethod
    def of(cls, size: int) -> "_Fat":
        """What fits a partition of `size` bytes.

        Microsoft's FAT specification 1.03: page 14 for the numbers of clusters, 20 for their size.
        Given explicitly because mkfs.vfat guesses from the size of the whole image, and firmware
        refuses a FAT32 that has too few clusters.
        """
        if size >= FAT32_BYTES:
            return cls(32, 1 if size <= 260 << 20 else 8, FAT32_RESERVED)
        top = FAT16_ROOT_ENTRIES * 32 // SECTOR
        if size < FAT16_BYTES:
            return cls(12, 1, 1 + top)
        cluster = 1
        while size // SECTOR // cluster >= FAT32_CLUSTERS:
            cluster *= 2
        return cls(16, cluster, cluster + top)

    def room(self, size: int) -> int:
        """Clusters in a partition of `size` bytes, with both tables taken off."""
        # mkfs.vfat lets what does not fill a track go to waste.
        sectors = size // SECTOR // TRACK_SECTORS * TRACK_SECTORS - self.fixed
        table = -(-(sectors // self.cluster + 2) * self.bits // 8 // SECTOR)
        table = -(-table // self.cluster) * self.cluster  # mkfs.vfat aligns what is before the data
        return (sectors - 2 * table) // self.cluster


def fat_size(tree: pathlib.Path) -> int:
    """Smallest FAT32 that holds the folder `tree`, in bytes; clusters are of one sector."""
    clusters = max(_clusters(tree, SECTOR), FAT32_CLUSTERS)
    return (FAT32_RESERVED + clusters + 2 * -(-4 * (clusters + 2) // SECTOR)) * SECTOR


def _clusters(tree: pathlib.Path, size: int) -> int:
    """Clusters of `size` bytes that what is below `tree` takes."""
    total = 0
    for path in [tree, *tree.rglob("*")]:
        if path.is_file():
            needed = path.stat().st_size
        else:  # a folder: long names take an entry for 13 letters, 32 bytes each
            needed = 64 + sum(32 * (2 + len(inner.name) // 13) for inner in path.iterdir())
        total += -(-needed // size)
    return total


def write_fat(
    image: pathlib.Path, slot: Partition, *, label: str, serial: str, tree: pathlib.Path
) -> None:
    """Make a FAT32 of `tree`, whose files' times are changed; `serial` is 8 hex digits."""
    fat = _Fat.of(slot.size)
    needed = _clusters(tree, fat.cluster * SECTOR)
    if needed > fat.room(slot.size):
        enough = slot.size
        while _clusters(tree, _Fat.of(enough).cluster * SECTOR) > _Fat.of(enough).room(enough):
            enough += MIB
        raise FilesystemError(
            f"partition {slot.name} has {slot.size // MIB} MiB, its files need {enough // MIB} MiB"
            f" ({'--firmware-size' if slot.name == 'FIRMWARE' else '--boot-size'})"
        )
    variables = {"SOURCE_DATE_EPOCH": str(FAT_TIME), "MTOOLS_SKIP_CHECK": "1", "TZ": "UTC"}
    variables["LC_ALL"] = "C.UTF-8"
    mkfs = [
        *("mkfs.vfat", "--invariant", "-F", str(fat.bits), "-n", label, "-i", serial),
        *("-S", str(SECTOR), "-s", str(fat.cluster), "--offset"),
        *(str(slot.start // SECTOR), os.fspath(image), str(slot.size // 1024)),
    ]
    run(mkfs, variables)
    # mcopy keeps the order of its arguments and, with -m, the files' own times: both are made equal
    # here. Not with -s: it takes folders' entries in the order in which the host has them.
    place = f"{image}@@{slot.start}"
    for folder in sorted({tree, *(path for path in tree.rglob("*") if path.is_dir())}):
        files = sorted(path for path in folder.iterdir() if path.is_file())
        for path in files:
            os.utime(path, (FAT_TIME, FAT_TIME))
        inside = f"::/{folder.relative_to(tree)}"
        if folder != tree:
            run(["mmd", "-i", place, inside], variables)
        if files:
            names = [os.fspath(path) for path in files]
            run(["mcopy", "-p", "-m", "-Q", "-i", place, *names, inside], variables)


def fat_tree(files: dict[str, str | pathlib.Path], folder: pathlib.Path) -> pathlib.Path:
    """Put `files` (text, or a file to copy) below the new folder `folder`, checking their names."""
    folder.mkdir()
    for name, content in files.items():
        bad = [letter for letter in name if letter in '"*:<>?\\|' or ord(letter) < 32]
        parts = pathlib.PurePosixPath(name).parts
        if (
            bad
            or not parts
            or ".." in parts
            or name.startswith("/")
            or any(len(part) > 255 or part[-1] in ". " for part in parts)
        ):
            raise FilesystemError(f"{name}: FAT cannot hold a file of that name")
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            target.write_text(content)
        else:
            shutil.copyfile(content, target)
    folded = [path.relative_to(folder).as_posix().lower() for path in folder.rglob("*")]
    if twice := sorted({name for name in folded if folded.count(name) > 1}):
        raise FilesystemError(f"{twice[0]}: FAT cannot tell names apart that differ in case only")
    return folder


def run(command: list[str], variables: dict[str, str]) -> None:
    """Run a tool; its last words are the error."""
    done = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise FilesystemError(
            f"{command[0]}: {_reason(done.stderr) or f'exit code {done.returncode}'}"
        )


def _reason(text: str) -> str:
    """The line that says why: the first one that does not only warn.

    What follows tells which step could not go on because of it.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "arning" not in line), lines[-1] if lines else "")
