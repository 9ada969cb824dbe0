"""Tests file systems in an image: written by the real tools, read back by other tools."""

import hashlib
import mmap
import os
import pathlib
import random
import re
import subprocess
import tempfile
import time
import types
import typing
import uuid
from collections.abc import Callable, Sequence

import hypothesis
import pytest
from hypothesis import strategies as st

from orchestrator.image.bmap import block_map
from orchestrator.image.filesystems import ext4 as ext4_module
from orchestrator.image.filesystems import fat as fat_module
from orchestrator.image.filesystems import rootfs
from orchestrator.image.filesystems.ext4 import make as write_ext4
from orchestrator.image.filesystems.ext4 import size as ext4_size
from orchestrator.image.filesystems.fat import fat_size, fat_tree, write_fat
from orchestrator.image.filesystems.filesystem import FilesystemError, Order, preloaded, stream
from orchestrator.image.layout import SECTOR, Partition
from orchestrator.image.pack import pack
from orchestrator.image.tree import BLOCK, Entry, Tree
from orchestrator.shared import command
from orchestrator.shared.constants import MIB
from orchestrator.shared.filesystems import FsType
from orchestrator.shared.spec import ImageSpec, Root

pytestmark = pytest.mark.needs(
    *("mke2fs", "debugfs", "e2fsck", "mkfs.vfat", "fsck.vfat", "mcopy", "bulk.so", "still.so")
)

UUID = uuid.UUID("f222513b-ded1-49fa-b591-20ce86a2fe7f")
SEED = uuid.UUID("8f4fcc50-4cc7-4a3a-8a3e-0d3b4b1c1a11")
START = 3 * MIB


def run(*command: str | pathlib.Path) -> str:
    """Run a tool, which must succeed; return its output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def blank(path: pathlib.Path, size: int) -> pathlib.Path:
    """Make a sparse image with free space around a partition of `size` bytes at `START`."""
    with path.open("xb") as file:
        os.truncate(file.fileno(), START + size + MIB)
    return path


def cut(image: pathlib.Path, size: int) -> pathlib.Path:
    """Copy the partition to a separate file."""
    target = image.with_name(f"{image.name}.slot")
    command = ["dd", f"if={image}", f"of={target}", "bs=1M", f"skip={START // MIB}"]
    run(*command, f"count={size // MIB}", "conv=sparse", "status=none")
    os.truncate(target, size)
    return target


def digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def untouched_around(image: pathlib.Path, size: int) -> bool:
    with image.open("rb") as file:
        before = file.read(START)
        file.seek(START + size)
        return not any(before) and not any(file.read())


# --- ext4 -------------------------------------------------------------------------------------


def ext4(image: pathlib.Path, tree: Tree, size: int, label: str = "nixos") -> pathlib.Path:
    """Make an ext4 of `tree` in the new file `image`; return its partition."""
    slot = Partition(1, "nixos", "linux", START, size)
    write_ext4(blank(image, size), slot, label=label, identifier=UUID, hash_seed=SEED, tree=tree)
    assert untouched_around(image, size)
    return cut(image, size)


def debugfs(slot: pathlib.Path, request: str) -> str:
    return run("debugfs", "-R", request, slot)


def status(slot: pathlib.Path, path: str) -> tuple[int, int, int, int]:
    """Return mode, user, group and modification time."""
    said = debugfs(slot, f'stat "{path}"')
    fields = [re.search(rf"{name}:\s+(\w+)", said) for name in ("Mode", "User", "Group")]
    mode, user, group = (match[1] for match in fields if match)
    time_of = re.search(r"mtime: 0x([0-9a-f]+)", said)
    assert time_of is not None
    return int(mode, 8), int(user), int(group), int(time_of[1], 16)


def tree_of(store: pathlib.Path, *names: str) -> Tree:
    """Make the tree of a closure in the folder `store`, with an entry for that folder."""
    tree = Tree(f"{store}/{name}" for name in names)
    tree.add(Entry(f"{store}".lstrip("/"), "folder", 0o755))
    return tree


def small_tree(store: pathlib.Path) -> Tree:
    """Make two store paths below `store`, and further entries."""
    for name, data in (("one/a b", b"blank"), ("one/Käse ☕", b"unicode"), ("two", bytes(9000))):
        path = store / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o444)
    (store / "one/run").write_bytes(b"#!")
    (store / "one/run").chmod(0o555)
    (store / "one/link").symlink_to("run")
    (store / "one/far").symlink_to("/nix/store/" + "x" * 200)
    tree = tree_of(store, "one", "two")
    tree.add(Entry("etc/key", "file", 0o600, data=b"secret", user=1000, group=100))
    tree.add(Entry("home/me", "folder", 0o700, user=1000, group=100))
    tree.add(Entry("bin/sh", "link", 0o777, target="/nix/store/sh"))
    return tree


SMALL = 160 * MIB


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, pathlib.Path]:
    """Return the partition of `small_tree`, and its store's folder."""
    folder = tmp_path_factory.mktemp("ext4")
    return ext4(folder / "image", small_tree(folder / "store"), SMALL), folder / "store"


def test_ext4_is_sound(written: tuple[pathlib.Path, pathlib.Path]) -> None:
    run("fsck.ext4", "-f", "-n", written[0])


def test_ext4_has_label_identifier_seed_and_size(
    written: tuple[pathlib.Path, pathlib.Path],
) -> None:
    said = dict(re.findall(r"^(.+?):\s+(.+)$", run("dumpe2fs", "-h", written[0]), re.MULTILINE))
    assert said["Filesystem volume name"] == "nixos"
    assert said["Filesystem UUID"] == str(UUID)
    assert said["Directory Hash Seed"] == str(SEED)
    assert int(said["Block count"]) * int(said["Block size"]) == SMALL
    assert said["Inode size"] == "256"
    features = said["Filesystem features"].split()
    assert not {"orphan_file", "metadata_csum_seed"} & set(features)
    assert {"has_journal", "extent", "resize_inode", "metadata_csum"} <= set(features)


def test_what_is_in_the_tree_is_in_ext4(
    written: tuple[pathlib.Path, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    slot, store = written
    run("debugfs", "-R", f"rdump / {tmp_path}", slot)
    found = {
        path.relative_to(tmp_path).as_posix()
        for path in tmp_path.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    top = f"{store}".lstrip("/")
    names = ("one/a b", "one/Käse ☕", "one/run", "one/link", "one/far", "two")
    assert found == {*(f"{top}/{name}" for name in names), "etc/key", "bin/sh"}
    for name in ("one/a b", "one/Käse ☕", "two"):
        assert (tmp_path / top / name).read_bytes() == (store / name).read_bytes()
    assert (tmp_path / "etc/key").read_bytes() == b"secret"
    assert (tmp_path / top / "one/link").readlink() == pathlib.Path("run")
    assert (tmp_path / top / "one/far").readlink() == pathlib.Path("/nix/store/" + "x" * 200)
    assert (tmp_path / "bin/sh").readlink() == pathlib.Path("/nix/store/sh")


@pytest.mark.parametrize("length", [100, 101, 300])
def test_the_first_link_may_be_long(length: int, tmp_path: pathlib.Path) -> None:
    """A link of more than 100 bytes has a header of its own in a tar stream."""
    link = tmp_path / "store/one/far"
    link.parent.mkdir(parents=True)
    link.symlink_to("x" * length)
    slot = ext4(tmp_path / "image", tree_of(tmp_path / "store", "one"), SMALL)
    run("debugfs", "-R", f"rdump {link} {tmp_path}", slot)
    assert (tmp_path / "far").readlink() == pathlib.Path("x" * length)


def test_owners_modes_and_times_are_in_ext4(written: tuple[pathlib.Path, pathlib.Path]) -> None:
    slot, store = written
    assert status(slot, "/") == (0o755, 0, 0, 1)
    assert status(slot, "/nix/store") == (0o1775, 0, 30000, 1)
    assert status(slot, f"{store}/one/a b") == (0o444, 0, 0, 1)
    assert status(slot, f"{store}/one/run") == (0o555, 0, 0, 1)
    assert status(slot, "/etc/key") == (0o600, 1000, 100, 1)
    assert status(slot, "/home/me") == (0o700, 1000, 100, 1)
    assert status(slot, "/etc") == (0o755, 0, 0, 1)


def test_ext4_is_the_same_whenever_and_in_whatever_order_files_were_made(
    tmp_path: pathlib.Path,
) -> None:
    store = tmp_path / "store"
    names = [f"one/{number}/file {number}" for number in range(40)]
    digests = []
    for order in (1, -1):
        for name in names[::order]:
            (store / name).parent.mkdir(parents=True)
            (store / name).write_bytes(name.encode() * 300)
        tree = tree_of(store, "one")
        tree.add(Entry("etc/a", "file", 0o600, data=b"x"))
        digests.append(digest(ext4(tmp_path / f"image{order}", tree, SMALL)))
        store.rename(tmp_path / f"before{order}")
        time.sleep(1.1)
    assert digests[0] == digests[1]


def test_names_on_ext4_do_not_depend_on_the_callers_locale(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    tree = Tree([])
    tree.add(Entry("etc/Käse ☕", "file", 0o644, data=b"x"))
    assert debugfs(ext4(tmp_path / "image", tree, SMALL), 'cat "/etc/Käse ☕"') == "x"


@pytest.mark.test_image("Docker's /dev/shm of 64 MiB")
def test_a_disk_that_fills_meanwhile_is_told_as_such() -> None:
    tree = Tree([])
    tree.add(Entry("big", "file", 0o644, data=NOISE * 90))
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        image = blank(pathlib.Path(folder, "image"), SMALL)
        slot = Partition(1, "nixos", "linux", START, SMALL)
        with pytest.raises(FilesystemError, match="No space left on device"):
            write_ext4(image, slot, label="a", identifier=UUID, hash_seed=SEED, tree=tree)


def test_a_tool_may_write_more_errors_than_a_pipe_holds_before_it_has_read_its_input() -> None:
    """Else the tool would wait for the reader of its errors, and the writer for the tool."""
    tool = "yes warning | head -c 1000000 >&2; cat; echo No space left on device >&2; exit 2"
    command = ["timeout", "20", "sh", "-c", tool]  # what waits for ever ends with another error

    def write(pipe: typing.IO[bytes]) -> str:
        pipe.write(NOISE)
        return ""

    with pytest.raises(FilesystemError, match=r"^timeout: No space left on device$"):
        stream(write, command, {})


def test_a_slot_that_is_too_small_for_ext4_is_an_error_with_mke2fs_words(
    tmp_path: pathlib.Path,
) -> None:
    tree = Tree([])
    tree.add(Entry("big", "file", 0o644, data=os.urandom(110 * MIB)))
    with pytest.raises(FilesystemError, match=r"^mke2fs: .*(Could not allocate|No free space)"):
        ext4(tmp_path / "image", tree, SMALL)


def test_a_store_path_that_has_gone_is_an_error_that_names_it(tmp_path: pathlib.Path) -> None:
    (tmp_path / "store").write_bytes(b"x")
    tree = tree_of(tmp_path, "store")
    (tmp_path / "store").unlink()
    with pytest.raises(FilesystemError, match="No such file"):
        ext4(tmp_path / "image", tree, SMALL)


NOISE = os.urandom(MIB)


def test_files_are_whole_with_their_holes(tmp_path: pathlib.Path) -> None:
    """The file system has several block groups; it is written to a full card by its block map."""
    data = {
        "large": NOISE * 150,
        "hollow": bytes(BLOCK) + NOISE + bytes(MIB) + NOISE + bytes(3 * BLOCK) + b"end",
        "ending": NOISE + bytes(MIB),
        "comb": b"".join(b"x" * BLOCK + bytes(BLOCK) for _ in range(2000)),
        "zeros": bytes(MIB),
        "empty": b"",
        "short": b"x",
        "whole": NOISE[: 2 * BLOCK],
    }
    tree = Tree([])
    for name, content in data.items():
        tree.add(Entry(f"folder/{name}", "file", 0o644, data=content))
    image, size = tmp_path / "image", ext4_size(tree.usage(), 0)
    slot = Partition(1, "nixos", "linux", START, size)
    write_ext4(
        blank(image, size),
        slot,
        label="nixos",
        identifier=UUID,
        hash_seed=SEED,
        tree=tree,
        mapped=True,
    )
    card = tmp_path / "card"
    card.write_bytes(b"\xaa" * image.stat().st_size)
    with image.open("rb") as source, card.open("r+b") as target:
        for first, last in re.findall(r"> (\d+)(?:-(\d+))? <", block_map(image)):
            source.seek(int(first) * BLOCK)
            target.seek(int(first) * BLOCK)
            target.write(source.read((int(last or first) - int(first) + 1) * BLOCK))
    flashed = cut(card, size)
    run("e2fsck", "-fn", flashed)
    for name, content in data.items():
        debugfs(flashed, f'dump "/folder/{name}" {tmp_path}/{name}')
        assert (tmp_path / name).read_bytes() == content
        said = re.search(r"Blockcount: (\d+)", debugfs(flashed, f'stat "/folder/{name}"'))
        blocks = [content[at : at + BLOCK] for at in range(0, len(content), BLOCK)]
        assert said is not None
        written = sum(any(block) for block in blocks)
        extents = len(blocks) // 340 + 4  # an extent block holds 340 extents
        assert written * 8 <= int(said[1]) <= (written + extents) * 8


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
def test_many_files_with_holes_stay_whole(seed: int, tmp_path: pathlib.Path) -> None:
    """Freed extent blocks are reused for other files' data, and must not overwrite it later."""
    dice = random.Random(seed)  # noqa: S311
    tree, data = Tree([]), {}
    for number in range(400):
        blocks = 6000 if number % 40 == 0 else dice.choice([1, 3, 10, 100, 1000])
        hollow = dice.choice([0, 0.02, 0.3, 0.5, 0.9])
        pieces = [
            bytes(BLOCK)
            if dice.random() < hollow
            else NOISE[(start := dice.randrange(MIB - BLOCK)) : start + BLOCK]
            for _ in range(blocks)
        ]
        name = f"{number % 7}/{number % 3}/{number}"
        data[name] = b"".join(pieces)[: blocks * BLOCK - dice.randrange(BLOCK)]
        tree.add(Entry(name, "file", 0o644, data=data[name]))
    slot = ext4(tmp_path / "image", tree, ext4_size(tree.usage(), 0))
    run("e2fsck", "-fn", slot)
    (tmp_path / "out").mkdir()
    debugfs(slot, f"rdump / {tmp_path}/out")
    assert all((tmp_path / "out" / name).read_bytes() == data[name] for name in data)


def test_a_file_of_many_extents_is_sound(tmp_path: pathlib.Path) -> None:
    """The file has more than the four extents that fit into an inode."""
    source = tmp_path / "source"
    source.write_bytes(NOISE * 660)
    tree = Tree([])
    tree.add(Entry("file", "file", 0o644, source=source))
    image, size = tmp_path / "image", ext4_size(tree.usage(), 0)
    slot = Partition(1, "nixos", "linux", 0, size)
    image.touch()
    os.truncate(image, size)
    write_ext4(image, slot, label="nixos", identifier=UUID, hash_seed=SEED, tree=tree)
    run("e2fsck", "-fn", image)
    said = run("debugfs", "-R", "stat /file", image)
    assert said.count("(ETB0)") >= 1  # the file has an extent block to test


def test_a_library_that_is_missing_is_told(tmp_path: pathlib.Path) -> None:
    """A missing library is an error: ld.so would ignore it, and the image would differ."""
    with pytest.raises(FilesystemError, match=r"gone.so is missing"):
        preloaded(tmp_path / "gone.so")


def many_tiny(tree: Tree) -> None:
    for number in range(20_000):
        tree.add(Entry(f"{number % 400}/{number}-{'n' * 100}", "file", 0o644, data=b"x"))


def many_empty(tree: Tree) -> None:
    for number in range(1_500):
        tree.add(Entry(f"{number}-{'n' * 200}", "file", 0o644))


def few_large(tree: Tree) -> None:
    for number in range(3):
        tree.add(Entry(f"{number}", "file", 0o644, data=os.urandom(40 * MIB + 1)))


def deep(tree: Tree) -> None:
    for number in range(60):
        path = "/".join([str(number), *["d" * 20] * 50])
        tree.add(Entry(f"{path}/end", "link", 0o777, target="x" * 59))


def nothing(tree: Tree) -> None:
    pass


@pytest.mark.parametrize("shape", [many_tiny, many_empty, few_large, deep, nothing])
@pytest.mark.parametrize("free", [0, 64 * MIB], ids=["full", "free"])
def test_the_computed_size_is_enough_and_leaves_what_was_asked_for(
    shape: Callable[[Tree], None], free: int, tmp_path: pathlib.Path
) -> None:
    tree = Tree([])
    shape(tree)
    size = ext4_size(tree.usage(), free)
    slot = ext4(tmp_path / "image", tree, size)
    said = dict(re.findall(r"^(.+?):\s+(.+)$", run("dumpe2fs", "-h", slot), re.MULTILINE))
    usable = int(said["Free blocks"]) - int(said["Reserved block count"])
    assert usable * BLOCK >= free
    assert int(said["Free inodes"]) > 0


USAGE = st.tuples(st.integers(0, 1 << 26), st.integers(0, 1 << 22)).map(
    lambda pair: (pair[0] * BLOCK, pair[1])
)


@hypothesis.given(USAGE, st.integers(0, 1 << 36))
def test_the_computed_size_is_not_wasteful(usage: tuple[int, int], free: int) -> None:
    blocks, inodes = usage
    size = ext4_size(usage, free)
    content = max(blocks + free, inodes * ext4_module.BYTES_PER_INODE)
    fixed = (ext4_module.JOURNAL + ext4_module.FIXED) * 1.1 + MIB
    assert content < size <= max(content * 1.35 + fixed, ext4_module.SMALLEST)
    assert size % MIB == 0


@hypothesis.given(USAGE, USAGE, st.integers(0, 1 << 36))
def test_more_content_never_makes_a_smaller_ext4(
    one: tuple[int, int], more: tuple[int, int], free: int
) -> None:
    both = (one[0] + more[0], one[1] + more[1])
    assert ext4_size(both, free) >= ext4_size(one, free)


# --- FAT --------------------------------------------------------------------------------------


def fat(image: pathlib.Path, files: pathlib.Path, size: int, name: str = "ESP") -> pathlib.Path:
    """Make a FAT of the folder `files` in the new file `image`; return its partition."""
    slot = Partition(1, name, "uefi", START, size)
    write_fat(blank(image, size), slot, label="ESP", serial="12345678", tree=files)
    assert untouched_around(image, size)
    return cut(image, size)


FILES: dict[str, str | pathlib.Path] = {
    "EFI/BOOT/BOOTX64.EFI": "loader",
    "loader/entries/a long name with blanks.conf": "title x\n",
    "loader/loader.conf": "timeout 3\n",
    "empty": "",
}


@pytest.mark.parametrize(
    ("size", "kind"),
    [
        *((size, b"FAT12   ") for size in (1, 2)),
        *((size, b"FAT16   ") for size in (3, 4, 8, 16, 31, 32)),
    ],
)
def test_a_small_partition_is_a_sound_fat12_or_fat16(
    size: int, kind: bytes, tmp_path: pathlib.Path
) -> None:
    slot = fat(tmp_path / "image", fat_tree(FILES, tmp_path / "files"), size * MIB)
    boot = slot.read_bytes()[:SECTOR]
    assert boot[54:62] == kind
    assert (boot[39:43], boot[43:54]) == (bytes.fromhex("78563412"), b"ESP        ")
    run("fsck.vfat", "-n", slot)


@pytest.mark.parametrize("size", [33, 34, 96, 260, 261, 300, 1024])
def test_a_large_partition_is_a_sound_fat32(size: int, tmp_path: pathlib.Path) -> None:
    slot = fat(tmp_path / "image", fat_tree(FILES, tmp_path / "files"), size * MIB)
    with slot.open("rb") as file:
        boot = file.read(SECTOR)
    assert boot[82:90] == b"FAT32   "
    assert (boot[67:71], boot[71:82]) == (bytes.fromhex("78563412"), b"ESP        ")
    run("fsck.vfat", "-n", slot)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 15, 16, 31, 32, 33, 34, 35, 64, 259, 260, 261, 512])
def test_every_fat_has_as_many_clusters_as_its_type_wants(
    size: int, tmp_path: pathlib.Path
) -> None:
    """Firmware derives the FAT's type from the number of clusters: below 4085 it is FAT12."""
    slot = fat(tmp_path / "image", fat_tree(FILES, tmp_path / "files"), size * MIB)
    with slot.open("rb") as file:
        boot = file.read(SECTOR)

    def number(at: int, length: int) -> int:
        return int.from_bytes(boot[at : at + length], "little")

    table = number(22, 2) or number(36, 4)
    taken = number(14, 2) + boot[16] * table + number(17, 2) * 32 // SECTOR
    clusters = ((number(19, 2) or number(32, 4)) - taken) // boot[13]
    if boot[82:87] == b"FAT32":
        assert clusters >= 65525
    elif boot[54:59] == b"FAT16":
        assert 4085 <= clusters < 65525
    else:
        assert boot[54:59] == b"FAT12"
        assert clusters < 4085


def test_what_is_in_the_folder_is_in_the_fat(tmp_path: pathlib.Path) -> None:
    files = fat_tree(FILES, tmp_path / "files")
    fat(tmp_path / "image", files, 40 * MIB)
    (tmp_path / "back").mkdir()
    place = f"{tmp_path}/image@@{START}"
    run("mcopy", "-s", "-i", place, "::/*", tmp_path / "back")
    back = {
        path.relative_to(tmp_path / "back").as_posix(): path.read_text()
        for path in (tmp_path / "back").rglob("*")
        if path.is_file()
    }
    assert back == FILES
    assert "1980-01-01" in run("mdir", "-i", place, "::/loader/loader.conf")


@pytest.mark.parametrize("size", [16, 40])
def test_names_that_are_not_ascii_are_kept(
    size: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    files = fat_tree({"Käse ☕.conf": "a", "Köse ☕.conf": "b"}, tmp_path / "files")
    slot = fat(tmp_path / "image", files, size * MIB)
    data = slot.read_bytes()
    assert "Käse".encode("utf-16-le") in data
    assert "Köse".encode("utf-16-le") in data


def test_a_folder_without_files_is_an_empty_fat(tmp_path: pathlib.Path) -> None:
    fat(tmp_path / "image", fat_tree({}, tmp_path / "files"), 40 * MIB)
    said = subprocess.run(
        ["mdir", "-b", "-i", f"{tmp_path}/image@@{START}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.stdout.strip() in {"", "::/"}


@pytest.mark.parametrize("size", [16, 40])
def test_fat_is_the_same_whenever_and_in_whatever_order_files_were_made(
    size: int, tmp_path: pathlib.Path
) -> None:
    digests = []
    for number, order in enumerate((1, -1)):
        files = fat_tree(dict(list(FILES.items())[::order]), tmp_path / f"files{number}")
        digests.append(digest(fat(tmp_path / f"image{number}", files, size * MIB)))
        time.sleep(2.1)  # FAT times have a resolution of two seconds
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("name", "option"),
    [("ESP", "--boot-size"), ("BOOT", "--boot-size"), ("FIRMWARE", "--firmware-size")],
)
@pytest.mark.parametrize("size", [16, 40])
def test_a_slot_that_is_too_small_for_its_files_is_told_with_both_numbers_and_the_option(
    size: int, name: str, option: str, tmp_path: pathlib.Path
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "big").write_bytes(bytes(50 * MIB))
    with pytest.raises(
        FilesystemError,
        match=rf"^partition {name} has {size} MiB, its files need 5\d MiB \({option}\)$",
    ):
        fat(tmp_path / "image", files, size * MIB, name)


def sized(folder: pathlib.Path, size: int) -> pathlib.Path:
    folder.mkdir()
    (folder / "big").write_bytes(bytes(size))
    return folder


@pytest.mark.parametrize("size", [16, 34, 100])
def test_what_the_error_asks_for_is_more_than_there_is_and_enough(
    size: int, tmp_path: pathlib.Path
) -> None:
    """The files would fit if the partition had no tables."""
    geometry = fat_module._Fat.of(size * MIB)
    room = geometry.room(size * MIB) * geometry.cluster * SECTOR
    files = sized(tmp_path / "files", room + SECTOR)
    with pytest.raises(FilesystemError) as caught:
        fat(tmp_path / "image", files, size * MIB)
    asked = re.search(r"need (\d+) MiB", str(caught.value))
    assert asked is not None
    fat(tmp_path / "larger", files, int(asked[1]) * MIB)


@pytest.mark.parametrize(
    "size", [1, 4, 16, 32, 33, 34, 100, 261, pytest.param(1024, marks=pytest.mark.slow)]
)
def test_room_is_reckoned_as_mkfs_vfat_does(size: int, tmp_path: pathlib.Path) -> None:
    """Files that take all clusters fit, one byte more does not, as with mcopy."""
    geometry = fat_module._Fat.of(size * MIB)
    cluster = geometry.cluster * SECTOR
    room = geometry.room(size * MIB)
    top = fat_module._clusters(sized(tmp_path / "empty", 0), cluster)
    fits = sized(tmp_path / "fits", (room - top) * cluster)
    run("fsck.vfat", "-n", fat(tmp_path / "image", fits, size * MIB))
    over = sized(tmp_path / "over", (room - top) * cluster + 1)
    with pytest.raises(FilesystemError, match="its files need"):
        fat(tmp_path / "other", over, size * MIB)


def test_more_files_at_the_top_than_a_fat16_takes_is_an_error(tmp_path: pathlib.Path) -> None:
    files: dict[str, str | pathlib.Path] = {f"{number}": "" for number in range(600)}
    with pytest.raises(FilesystemError):
        fat(tmp_path / "image", fat_tree(files, tmp_path / "files"), 16 * MIB)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"a": "x"},
        {f"{number} {'n' * 60}": "x" * 600 for number in range(1000)},
        {f"{number}/a": "x" for number in range(1000)},
    ],
    ids=["nothing", "one", "many", "folders"],
)
def test_fat_size_is_enough(files: dict[str, str | pathlib.Path], tmp_path: pathlib.Path) -> None:
    folder = fat_tree(files, tmp_path / "files")
    size = -(-fat_size(folder) // MIB) * MIB
    slot = fat(tmp_path / "image", folder, size)
    assert b"FAT32" in slot.read_bytes()[:SECTOR]


# --- names on FAT -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *(
            "a:b",
            "a*",
            "a?",
            'a"',
            "a<",
            "a>",
            "a|",
            "a\\b",
            "a\n",
            "a\x1f",
            "a\0",
            "a.",
            "a ",
            "\ud83d",
        ),
        *("d./a", "d /a", "../a", "d/../a", "x" * 256, "d/" + "x" * 256),
    ],
)
def test_a_name_that_fat_cannot_hold_is_refused(name: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(FilesystemError, match=r"FAT does not allow this file name$"):
        fat_tree({name: "x"}, tmp_path / "files")
    assert not any((tmp_path / "files").rglob("*"))


@pytest.mark.parametrize(
    ("names", "cause"),
    [
        (("a", "a/b"), "a/b: "),
        (("a/b", "a"), "a: Is a directory"),
        (("é" * 200,), "File name too long"),
        (("\N{GRINNING FACE}",), "no letter above U"),
        (("[ab]/x", "a/y"), "brackets in a folder's name"),
        (("[ab]/",), "brackets in a folder's name"),
        (("\N{LATIN SMALL LETTER LONG S}", "s"), "differ only in case"),
    ],
)
def test_a_name_that_would_become_another_is_refused(
    names: tuple[str, ...], cause: str, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(FilesystemError, match=cause):
        fat_tree(dict.fromkeys(names, "x"), tmp_path / "files")


def test_a_missing_file_is_an_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FilesystemError, match="a: No such file or directory"):
        fat_tree({"a": tmp_path / "missing"}, tmp_path / "files")


def test_brackets_in_a_files_name_are_kept(tmp_path: pathlib.Path) -> None:
    fat(
        tmp_path / "image",
        fat_tree({"d/a[1].txt": "x", "ß": "1", "ss": "2", "\u2028": ""}, tmp_path / "f"),
        MIB,
    )
    said = run("mdir", "-/", "-b", "-i", f"{tmp_path}/image@@{START}", "::/")
    assert sorted(said.strip().split("\n")) == [
        "::/d/",
        "::/d/a[1].txt",
        "::/ss",
        "::/ß",
        "::/\u2028",
    ]


@pytest.mark.parametrize(
    "name",
    ["café", "naïve.md", "é.txt", "été.dtb", "ä", "über/x", "EFI/é/x", "é.conf", "Straße.txt"],
)
def test_a_short_name_with_letters_beyond_ascii_is_no_error(
    name: str, tmp_path: pathlib.Path
) -> None:
    """Of such a name mtools makes capitals, which is the same name on a FAT."""
    fat(tmp_path / "image", fat_tree({name: "x"}, tmp_path / "files"), MIB)
    said = run("mdir", "-/", "-b", "-i", f"{tmp_path}/image@@{START}", "::/")
    assert said.lower().split("\n")[-2] == f"::/{name.lower()}"


@pytest.mark.parametrize(
    "name",
    [
        "\N{GRINNING FACE}",
        "\N{LATIN SMALL LETTER Y WITH DIAERESIS}",
        "\N{LATIN SMALL LETTER DOTLESS I}",
        "\N{KELVIN SIGN}",
    ],
)
def test_a_fat_with_another_name_than_the_folder_is_refused(
    name: str, tmp_path: pathlib.Path
) -> None:
    """Some names are checked before; this is about what mtools makes of them."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / name).touch()
    with pytest.raises(FilesystemError, match=f"^{name}: the FAT does not have this name as it is"):
        fat(tmp_path / "image", tmp_path / "files", MIB)


def test_nothing_is_written_outside_of_the_folder(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FilesystemError):
        fat_tree({f"{tmp_path}/outside": "x"}, tmp_path / "files")
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("names", [("a", "A"), ("d/a", "D/b"), ("d/a", "d/A"), ("ä", "Ä")])
def test_names_that_differ_in_case_only_are_refused(
    names: tuple[str, str], tmp_path: pathlib.Path
) -> None:
    with pytest.raises(FilesystemError, match=r"differ only in case, which FAT ignores$"):
        fat_tree(dict.fromkeys(names, "x"), tmp_path / "files")


def test_the_same_name_in_two_folders_is_no_clash(tmp_path: pathlib.Path) -> None:
    folder = fat_tree({"a/x": "1", "b/X": "2", "X": "3"}, tmp_path / "files")
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    assert {name: path.read_text() for name, path in found.items() if path.is_file()} == {
        "a/x": "1",
        "b/X": "2",
        "X": "3",
    }


def test_files_are_copied_with_their_bytes(tmp_path: pathlib.Path) -> None:
    (tmp_path / "source").write_bytes(b"\0\xff")
    (tmp_path / "source").chmod(0o444)
    folder = fat_tree({"a/b": tmp_path / "source"}, tmp_path / "files")
    assert (folder / "a/b").read_bytes() == b"\0\xff"


# --- tools that read a folder -----------------------------------------------------------------


def order(folder: pathlib.Path, kind: FsType, tree: Tree) -> Order:
    """Return the order for a file system of `tree` that fills a new image in `folder`."""
    root = Root(kind, "nixos")
    slot = Partition(1, "nixos", "linux", 0, rootfs.root_size(root, tree))
    image, scratch = folder / "image", folder / "scratch"
    with image.open("xb") as empty:
        os.truncate(empty.fileno(), slot.size)
    scratch.mkdir()
    spec = types.SimpleNamespace(root=root, identifier=lambda name: uuid.uuid5(UUID, name))
    return Order(image, slot, typing.cast("ImageSpec", spec), tree, scratch, mapped=False)


def one_path(folder: pathlib.Path) -> tuple[Tree, pathlib.Path]:
    """Return a tree of a closure with one path, and the path's only file."""
    path = folder / "store/one"
    path.mkdir(parents=True)
    (path / "file").write_bytes(b"the right content")
    tree = Tree([str(path)])
    tree.add(Entry(f"{folder}/store".lstrip("/"), "folder", 0o755))
    return tree, path / "file"


@pytest.mark.needs("mkfs.btrfs", "mkfs.xfs")
@pytest.mark.parametrize("kind", ["btrfs", "xfs"])
def test_a_file_that_changes_through_memory_is_in_the_image_as_it_is_hashed(
    kind: FsType, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a write leaves the file's times alone, if the page was dirty before."""
    tree, path = one_path(tmp_path)
    with path.open("r+b") as opened:
        memory = mmap.mmap(opened.fileno(), 0)
    real = command.start

    def start(words: Sequence[command.Word], **more: object) -> command.Process:
        if str(words[0]).startswith("mkfs."):
            memory[4:9] = b"wrong"
        return real(words, **typing.cast("dict[str, typing.Never]", more))

    monkeypatch.setattr(command, "start", start)
    memory[:3] = b"THE"
    right, complaint = pack(tree.closure)
    assert complaint == ""
    rootfs.write_root(order(tmp_path, kind, tree))
    wrong, complaint = pack(tree.closure)
    assert complaint == ""
    data = (tmp_path / "image").read_bytes()
    assert tree.hashes in (right, wrong)
    assert (b"THE right content" in data) == (tree.hashes == right)
    assert (b"THE wrong content" in data) == (tree.hashes == wrong)
    assert not (tmp_path / "scratch/staged").exists()


@pytest.mark.needs("mkfs.btrfs", "mkfs.xfs")
@pytest.mark.parametrize("kind", ["btrfs", "xfs"])
def test_a_tool_gets_no_other_files_content(
    kind: FsType, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, _path = one_path(tmp_path)
    tree.add(Entry("etc/a", "file", 0o644, data=b"a"))
    tree.add(Entry("etc/b", "file", 0o644, data=b"b"))
    monkeypatch.setattr(
        "orchestrator.image.tree._walked", lambda path: [bytes([255 - path.encode()[-1]])]
    )
    with pytest.raises(FilesystemError, match="etc/a: is not what follows"):
        rootfs.write_root(order(tmp_path, kind, tree))


@pytest.mark.needs("mkfs.btrfs", "btrfs")
def test_files_of_any_name_and_size_have_their_content(tmp_path: pathlib.Path) -> None:
    tree, _path = one_path(tmp_path)
    noise = random.Random(1)  # noqa: S311
    sizes = (0, 1, 511, 512, 513, 4095, 4096, 4097, (1 << 20) - 1, 1 << 20, (3 << 20) + 5)
    files = {f"sizes/{size}": noise.randbytes(size) for size in sizes}
    for name in ("a b", "x" * 200, "?", "\N{HOT BEVERAGE}", "a/b", "a-"):
        files[f"names/{name}"] = name.encode()
    for name, data in files.items():
        tree.add(Entry(name, "file", 0o644, data=data))
    rootfs.write_root(order(tmp_path, "btrfs", tree))
    (tmp_path / "back").mkdir()
    run("btrfs", "restore", tmp_path / "image", tmp_path / "back")
    found = {name: (tmp_path / "back" / name).read_bytes() for name in files}
    assert found == files


#: Modes in the image of `test_modes_are_those_of_the_tree`, by path.
MODES = {"": 0o755, "sticky": 0o1777, "nix/store": 0o1775, "all": 0o7755, "own": 0o700}


@pytest.mark.needs("mkfs.xfs", "xfs_db", "mkfs.erofs", "dump.erofs")
@pytest.mark.parametrize(
    ("kind", "tool", "shown"),
    [
        ("ext4", ("debugfs", "-R", "stat /{}"), r"Mode: +(\d+)"),
        ("xfs", ("xfs_db", "-r", "-c", "path /{}", "-c", "print core.mode"), r"mode = (\d+)"),
        ("erofs", ("dump.erofs", "--path=/{}"), r"Access: (\d+)/"),
    ],
)
def test_modes_are_those_of_the_tree(
    kind: FsType, tool: tuple[str, ...], shown: str, tmp_path: pathlib.Path
) -> None:
    tree, _path = one_path(tmp_path)
    for name, mode in MODES.items():
        if name not in ("", "nix/store"):
            tree.add(Entry(name, "file" if name == "all" else "folder", mode))
    rootfs.write_root(order(tmp_path, kind, tree))
    said = {name: run(*(word.format(name) for word in tool), tmp_path / "image") for name in MODES}
    found = {name: re.findall(shown, text) for name, text in said.items()}
    seen = 0o777 if kind == "erofs" else 0o7777  # dump.erofs shows no more
    assert {name: [int(one, 8) & seen for one in given] for name, given in found.items()} == {
        name: [mode & seen] for name, mode in MODES.items()
    }


@pytest.mark.needs("mkfs.xfs", "xfs_db")
def test_a_sticky_bit_that_cannot_be_set_is_no_other_mode(tmp_path: pathlib.Path) -> None:
    tree, _path = one_path(tmp_path)
    tree.add(Entry("a b", "folder", 0o1777))
    with pytest.raises(FilesystemError, match="/a b: cannot get its sticky bit on xfs"):
        rootfs.write_root(order(tmp_path, "xfs", tree))
