"""The root file system in each kind that a tool can fill without mounting it.

ext4 is written in place, from a tar stream. The others' tools know no offset that can be trusted
(mkfs.erofs 1.8.6 has one and corrupts data with it): they make a file, which then gets room in
front of it and becomes the image.
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import stat
import subprocess
import uuid
from collections.abc import Callable, Iterator

from orchestrator.image import staging
from orchestrator.image.filesystems import filesystem
from orchestrator.image.filesystems.filesystem import FilesystemError, preloaded, run, stream
from orchestrator.image.layout import Partition
from orchestrator.image.tree import STORE_TIME, Entry, Tree
from orchestrator.shared.constants import MIB
from orchestrator.shared.paths import ROOT
from orchestrator.shared.spec import FsType, ImageSpec, Root

#: Built from `still.c` with the builder's image.
STILL = ROOT / "still.so"

#: mkfs.xfs makes nothing smaller (xfsprogs 6.13, `mkfs/xfs_mkfs.c`).
XFS_SMALLEST = 300 * MIB

#: libxfs' limit for a link's target (XFS_SYMLINK_MAXLEN), and btrfs' for an inline extent.
LINK_BYTES = {"xfs": 1023, "btrfs": 4094}


def root_size(root: Root, tree: Tree) -> int:
    """Bytes that the root file system must have at least."""
    free = root.additionalSpaceMiB * MIB
    blocks, inodes = tree.usage()
    match root.fsType:
        case "erofs":
            # No journal, no free space: data, and a few dozen bytes for each entry.
            size = blocks + 128 * inodes + MIB
        case "btrfs":
            # Metadata is kept twice; measured with trees of 30,000 small and of 30 large files.
            size = 96 * MIB + blocks * 103 // 100 + 6144 * inodes + free
        case "xfs":
            size = max(XFS_SMALLEST, 100 * MIB + (blocks + 1024 * inodes + free) * 106 // 100)
        case _:
            return filesystem.ext4_size((blocks, inodes), free)
    return -(-size // MIB) * MIB


def write_root(
    image: pathlib.Path,
    slot: Partition,
    spec: ImageSpec,
    tree: Tree,
    scratch: pathlib.Path,
    late: tuple[Entry, ...] = (),
    *,
    mapped: bool,
) -> None:
    """Fill `slot` of the empty `image` with `tree`; `scratch` is a folder on the same volume.

    `late` are those entries of the tree which other runs must not see: they are not on the store's
    volume. `mapped` says that the image gets a block map, which ext4 alone can have.
    """
    kind = spec.root.fsType
    if kind == "ext4":
        filesystem.write_ext4(
            image,
            slot,
            label=spec.root.label,
            identifier=spec.identifier("root"),
            hash_seed=spec.identifier("hash seed"),
            tree=tree,
            mapped=mapped,
        )
        return
    file = scratch / "root"
    with file.open("xb") as empty:
        os.truncate(empty.fileno(), slot.size)
    WRITERS[kind](file, spec, tree, late)
    if file.stat().st_size > slot.size:
        raise FilesystemError(
            f"{kind} has made {file.stat().st_size // MIB} MiB of {slot.size // MIB} MiB"
        )
    _move_in(file, image, slot)


def _move_in(file: pathlib.Path, image: pathlib.Path, slot: Partition) -> None:
    """Make the file system `file` the part of `image` at `slot`, copied only where it must be."""
    total = image.stat().st_size
    insert = ["fallocate", "--insert-range", "--offset", "0", "--length", str(slot.start)]
    done = subprocess.run([*insert, os.fspath(file)], capture_output=True, check=False)
    if slot.start and done.returncode == 0:
        os.truncate(file, total)
        file.replace(image)
        return
    copy = ["dd", f"if={file}", f"of={image}", "bs=1M", f"seek={slot.start // MIB}"]
    run([*copy, "conv=sparse,notrunc", "status=none"], {})
    file.unlink()


def _write_erofs(file: pathlib.Path, spec: ImageSpec, tree: Tree, _late: tuple[Entry, ...]) -> None:
    command = ["mkfs.erofs", "--quiet", f"-T{STORE_TIME}", "--all-time", "--tar=f", "-x-1"]
    command += ["-U", str(spec.identifier("root")), "-L", spec.root.label, os.fspath(file)]
    stream(tree, command, {"LC_ALL": "C.UTF-8"})


def _write_btrfs(file: pathlib.Path, spec: ImageSpec, tree: Tree, late: tuple[Entry, ...]) -> None:
    with _staged(tree, "btrfs", late, file.parent) as staged:
        command = ["mkfs.btrfs", "-q", "-f", "-K", "-m", "dup", "-d", "single"]
        command += ["-L", spec.root.label, "-U", str(spec.identifier("root"))]
        command += ["--device-uuid", str(spec.identifier("btrfs device"))]
        command += ["--rootdir", os.fspath(staged.root), os.fspath(file)]
        table = staged.owners.with_name("files")
        lines = [f"{source} {path}\n" for path, source in staged.elsewhere.items()]
        table.write_text("".join(lines))
        more = {"STILL_SIZE": "1", "STILL_FILES": str(table)}
        run(command, _still(spec.identifier("btrfs"), staged.owners) | more)


def _write_xfs(file: pathlib.Path, spec: ImageSpec, tree: Tree, late: tuple[Entry, ...]) -> None:
    with _staged(tree, "xfs", late, file.parent) as staged:
        prototype, farm = staged.owners.with_name("prototype"), staged.owners.with_name("farm")
        farm.mkdir()
        owners = _owners(tree, staged.root)
        lines = _prototype(staged.root, owners, farm, staged.elsewhere)
        with prototype.open("wb") as target:
            target.writelines(
                b"%s\n" % line for line in (b"/", b"0 0", b"d--755 0 0", *lines, b"$")
            )
        command = ["mkfs.xfs", "-q", "-f", "-K", "-L", spec.root.label]
        command += ["-m", f"uuid={spec.identifier('root')},crc=1,finobt=1,rmapbt=1,reflink=1"]
        command += ["-d", "agcount=4,noalign", "-l", "size=64m", "-s", "size=512"]
        command += ["-p", f"file={prototype},slashes_are_spaces=1", os.fspath(file)]
        run(command, _still(spec.identifier("xfs"), staged.owners))


WRITERS: dict[FsType, Callable[[pathlib.Path, ImageSpec, Tree, tuple[Entry, ...]], None]] = {
    "erofs": _write_erofs,
    "btrfs": _write_btrfs,
    "xfs": _write_xfs,
}


@dataclasses.dataclass(frozen=True)
class _Staged:
    """A tree of hard links to the store, and a file that says whose its entries are.

    Files that are empty there have their content `elsewhere`: where, by their path in the tree.
    """

    root: pathlib.Path
    owners: pathlib.Path
    elsewhere: dict[str, pathlib.Path]


@contextlib.contextmanager
def _staged(
    tree: Tree, kind: str, late: tuple[Entry, ...], scratch: pathlib.Path
) -> Iterator[_Staged]:
    """Stage `tree` for the time of a `with` block, its `late` entries in `scratch`."""
    files = {entry.path: entry for entry in late if entry.kind == "file"}
    with staging.staging() as folder:
        staged = _Staged(folder / "root", folder / "owners", {})
        tree.blanked(files.keys()).stage(staged.root, LINK_BYTES[kind])
        for number, entry in enumerate(files.values()):
            place = scratch / f"late-{number}"
            place.touch(mode=0o600)
            place.write_bytes(entry.data)
            staged.elsewhere[f"{staged.root}/{entry.path}"] = place
        table = _owners(tree, staged.root).items()
        lines = [f"{user} {group} {path}\n" for path, (user, group) in table]
        staged.owners.write_text("".join(lines))
        with tree.unchanged(staged.root):
            yield staged


def _owners(tree: Tree, root: pathlib.Path) -> dict[str, tuple[int, int]]:
    """Entries that are not root's, by their path in the staged tree."""
    return {
        f"{root}/{entry.path}": (entry.user, entry.group)
        for entry in tree.entries
        if entry.user or entry.group
    }


def _still(seed: uuid.UUID, owners: pathlib.Path) -> dict[str, str]:
    return {"LD_PRELOAD": preloaded(STILL), "STILL_SEED": seed.hex, "STILL_OWNERS": str(owners)}


def _prototype(
    folder: pathlib.Path,
    owners: dict[str, tuple[int, int]],
    farm: pathlib.Path,
    elsewhere: dict[str, pathlib.Path],
) -> Iterator[bytes]:
    """Lines of mkfs.xfs' prototype for what is in `folder` (mkfs.xfs(8), -p), without the end.

    A blank in a name is written as a slash. A source's path may have none, so such a file gets a
    link in the folder `farm`. Files may have their content `elsewhere`.
    """
    for path in sorted(folder.iterdir(), key=lambda path: os.fsencode(path.name)):
        name, status = os.fsencode(path.name), path.lstat()
        if name.startswith(b":") or name == b"$" or re.search(rb"[\t\n]", name):
            raise FilesystemError(f"{path.name!r}: mkfs.xfs cannot make a file of that name")
        user, group = owners.get(str(path), (0, 0))
        mode = stat.S_IMODE(status.st_mode)
        special = b"u" if mode & stat.S_ISUID else b"-", b"g" if mode & stat.S_ISGID else b"-"
        kind = {stat.S_IFDIR: b"d", stat.S_IFLNK: b"l"}.get(stat.S_IFMT(status.st_mode), b"-")
        line = b"%s %s%s%s%03o %d %d" % (
            *(name.replace(b" ", b"/"), kind, *special),
            *(mode & 0o777, user, group),
        )
        if kind == b"d":
            yield line
            yield from _prototype(path, owners, farm, elsewhere)
            yield b"$"
        elif kind == b"l":
            target = os.fsencode(path.readlink())
            if target.startswith(b":") or re.search(rb"\s", target):
                raise FilesystemError(f"{path.name!r}: mkfs.xfs cannot make a link to {target!r}")
            yield b"%s %s" % (line, target)
        else:
            source = os.fsencode(elsewhere.get(str(path), path))
            if re.search(rb"\s", source):
                link = farm / str(len(list(farm.iterdir())))
                link.symlink_to(path)
                source = os.fsencode(link)
            yield b"%s %s" % (line, source)
