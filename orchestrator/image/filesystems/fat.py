"""FAT, written in place: mkfs.vfat and mtools take an offset."""

import dataclasses
import os
import pathlib
import shutil

from orchestrator.image.filesystems.filesystem import FilesystemError, run
from orchestrator.image.layout import SECTOR, Partition
from orchestrator.shared.constants import MIB

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
