"""Makes FAT file systems in place: mkfs.vfat and mtools have an offset option."""

import collections
import dataclasses
import os
import pathlib
import shutil

from orchestrator.image.filesystems.filesystem import FilesystemError, run
from orchestrator.image.layout import SECTOR, Partition
from orchestrator.shared import command as programs
from orchestrator.shared.constants import MIB

#: Time of all files on a FAT, 1980-01-01T00:00:00Z: FAT has no earlier one. mtools read it from
#: SOURCE_DATE_EPOCH.
FAT_TIME = 315532800

#: Smallest number of clusters of a FAT32 (Microsoft's FAT specification 1.03, page 14), and its
#: reserved sectors (mkfs.vfat's default).
FAT32_CLUSTERS = 65525
FAT32_RESERVED = 32

#: From this partition size on, FAT32 with one sector per cluster has enough clusters.
FAT32_BYTES = 33 * MIB

#: Below this partition size FAT12 is used: FAT16 needs at least 4,085 clusters.
FAT16_BYTES = 3 * MIB

#: Sectors per track: mkfs.vfat's largest value.
TRACK_SECTORS = 63

#: Number of entries in the root folder of a FAT16 or FAT12 (mkfs.vfat's default).
FAT16_ROOT_ENTRIES = 512

#: Highest letter that mtools writes as it is: it has 16 bits for each.
LAST_LETTER = 0xFFFF


@dataclasses.dataclass(frozen=True)
class _Fat:
    """Geometry of a FAT file system: `bits` of a table entry, sectors per `cluster`.

    `fixed` counts the sectors that belong to neither tables nor clusters: the reserved ones; for
    FAT12 and FAT16 also the root folder's.
    """

    bits: int
    cluster: int
    fixed: int

    @classmethod
    def of(cls, size: int) -> "_Fat":
        """Choose the geometry for a partition of `size` bytes.

        Microsoft's FAT specification 1.03: page 14 for the numbers of clusters, 20 for their size.
        mkfs.vfat would guess from the size of the whole image; firmware refuses a FAT32 with too
        few clusters.
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
        """Number of data clusters in a partition of `size` bytes."""
        # mkfs.vfat uses only whole tracks.
        sectors = size // SECTOR // TRACK_SECTORS * TRACK_SECTORS - self.fixed
        table = -(-(sectors // self.cluster + 2) * self.bits // 8 // SECTOR)
        table = -(-table // self.cluster) * self.cluster  # mkfs.vfat aligns the data area
        return (sectors - 2 * table) // self.cluster


def fat_size(tree: pathlib.Path) -> int:
    """Size in bytes of the smallest FAT32 that holds the folder `tree` (512-byte clusters)."""
    clusters = max(_clusters(tree, SECTOR), FAT32_CLUSTERS)
    return (FAT32_RESERVED + clusters + 2 * -(-4 * (clusters + 2) // SECTOR)) * SECTOR


def _clusters(tree: pathlib.Path, size: int) -> int:
    """Number of clusters of `size` bytes that `tree` and its content need."""
    total = 0
    for path in [tree, *tree.rglob("*")]:
        if path.is_file():
            needed = path.stat().st_size
        else:  # a folder: long names take one 32-byte entry per 13 letters
            needed = 64 + sum(32 * (2 + len(inner.name) // 13) for inner in path.iterdir())
        total += -(-needed // size)
    return total


def write_fat(
    image: pathlib.Path, slot: Partition, *, label: str, serial: str, tree: pathlib.Path
) -> None:
    """Make a FAT of the folder `tree`, whose file times are changed; `serial`: 8 hex digits."""
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
    # Reproducible copies: mcopy keeps the order of its arguments and, with -m, the files' times.
    # `mcopy -s` would copy a folder's entries in the host's readdir order.
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
    _check_names(place, tree, variables)


def _check_names(place: str, tree: pathlib.Path, variables: dict[str, str]) -> None:
    """Raise `FilesystemError` if the FAT at `place` does not have the names of `tree`.

    Case is ignored: mtools writes a short name's letters beyond ASCII as capitals (café as cafÉ).
    """
    names = sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*"))
    if not names:  # mdir finds no file in an empty FAT, which is an error for it
        return
    wanted = {_caseless(name): name for name in names}
    command = ["mdir", "-/", "-b", "-a", "-i", place, "::/"]
    said = programs.run(command, variables=variables, fails=FilesystemError).text
    lines = said.split("\n")  # a name may have other letters that end a line
    found = {_caseless(line.removeprefix("::/").rstrip("/")) for line in lines}
    found.remove("")  # the root folder, and the end
    missing = [name for key, name in wanted.items() if key not in found]
    if wrong := missing or sorted(found - wanted.keys()):
        raise FilesystemError(f"{wrong[0]}: the FAT does not have this name as it is")


def fat_tree(files: dict[str, str | pathlib.Path], folder: pathlib.Path) -> pathlib.Path:
    """Write `files` (text, or a file to copy) into the new folder `folder`; check their names.

    A name that ends with a slash is an empty folder. Raises `FilesystemError`.
    """
    folder.mkdir()
    for name, content in files.items():
        _check_name(name)
        try:
            _write(folder / name, content, is_folder=name.endswith("/"))
        except OSError as error:
            raise FilesystemError(f"{name}: {error.strerror}") from error
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    times = collections.Counter(map(_folded, names))
    if twice := sorted(name for name, number in times.items() if number > 1):
        raise FilesystemError(f"{twice[0]}: two names differ only in case, which FAT ignores")
    return folder


def _check_name(name: str) -> None:
    bad = [
        letter
        for letter in name
        if letter in '"*:<>?\\|' or ord(letter) < 32 or "\ud800" <= letter <= "\udfff"
    ]
    parts = pathlib.PurePosixPath(name).parts
    if (
        bad
        or not parts
        or ".." in parts
        or name.startswith("/")
        or any(len(part) > 255 or part[-1] in ". " for part in parts)
    ):
        raise FilesystemError(f"{name}: FAT does not allow this file name")
    if any(ord(letter) > LAST_LETTER for letter in name):
        raise FilesystemError(f"{name}: mtools writes no letter above U+FFFF to a FAT")
    folders = parts if name.endswith("/") else parts[:-1]
    if any(letter in part for part in folders for letter in "[]"):
        raise FilesystemError(f"{name}: mtools takes brackets in a folder's name for a pattern")


def _write(target: pathlib.Path, content: str | pathlib.Path, *, is_folder: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_folder:
        target.mkdir(exist_ok=True)
    elif isinstance(content, str):
        target.write_text(content)
    else:
        shutil.copyfile(content, target)


def _folded(name: str) -> str:
    """Return `name` as FAT compares it: letter by letter, without case."""
    capitals = (one if len(one := letter.upper()) == 1 else letter for letter in name)
    return "".join(capitals).lower()


def _caseless(name: str) -> str:
    """Return `name` with small letters for those capitals that are the only ones of their letters.

    A dotless i stays another letter than i, and the Kelvin sign another one than k, which are the
    same for `_folded`: a name in which mtools changes one into the other is not the same name.
    """
    return "".join(one if (one := letter.lower()).upper() == letter else letter for letter in name)
