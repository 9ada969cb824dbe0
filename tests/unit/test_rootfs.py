"""Tests root file systems: sizes, the staged tree, mkfs.xfs' prototype.

The file systems themselves are booted in tests/integration/test_formats.py.
"""

import pathlib
import typing

import hypothesis
import pytest
from hypothesis import strategies as st

from orchestrator.image.filesystems import rootfs, xfs
from orchestrator.image.filesystems.filesystem import FilesystemError
from orchestrator.image.tree import Entry, Tree, TreeError
from orchestrator.shared.constants import MIB
from orchestrator.shared.filesystems import FILESYSTEMS, REFUSED, ROOTS, FsType
from orchestrator.shared.spec import Root


class FixedTree:
    """Fake tree that only has a size."""

    def __init__(self, blocks: int, inodes: int) -> None:
        self._usage = blocks, inodes

    def usage(self) -> tuple[int, int]:
        return self._usage


KINDS = tuple(name for name in ROOTS if name not in REFUSED)


@hypothesis.given(
    st.sampled_from(KINDS), st.integers(0, 1 << 36), st.integers(1, 1 << 20), st.integers(0, 4096)
)
def test_a_root_holds_its_content_and_what_stays_free(
    kind: FsType, blocks: int, inodes: int, free: int
) -> None:
    size = rootfs.root_size(
        Root(kind, "nixos", additionalSpaceMiB=free), typing.cast("Tree", FixedTree(blocks, inodes))
    )
    assert size % MIB == 0
    assert size >= blocks + (free * MIB if FILESYSTEMS[kind].writable else 0)
    assert kind != "xfs" or size >= 300 * MIB


@pytest.fixture
def store(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "store/a"
    (path / "bin").mkdir(parents=True)
    (path / "bin/tool").write_text("tool")
    (path / "bin/tool").chmod(0o555)
    (path / "link").symlink_to("bin/tool")
    (path / "bin").chmod(0o555)
    return path


def test_the_staged_tree_is_as_the_store_but_has_only_empty_files(
    store: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    tree = Tree([])
    tree.add(Entry("etc/secret", "file", 0o400, data=b"x", user=7))
    tree.closure = (str(store),)
    root = tmp_path / "root"
    inner = pathlib.Path(f"{root}{store}")
    tree.add(Entry(inner.parent.relative_to(root).as_posix(), "folder", 0o755))
    tree.stage(root, 1023)
    assert (inner / "bin/tool").read_bytes() == b""
    assert (inner / "bin/tool").stat().st_mode & 0o7777 == 0o555
    assert (store / "bin/tool").stat().st_nlink == 1
    assert (inner / "bin").stat().st_mode & 0o7777 == 0o555
    assert (inner / "link").readlink() == pathlib.Path("bin/tool")
    assert (root / "etc/secret").read_bytes() == b""
    assert (root / "etc/secret").stat().st_mode & 0o7777 == 0o400
    assert (root / "nix/store").stat().st_mode & 0o7777 == 0o1775


def test_a_link_that_is_too_long_is_refused(tmp_path: pathlib.Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("x" * 1024)
    tree = Tree([])
    tree.closure = (str(link),)
    tree.add(Entry(tmp_path.relative_to("/").as_posix(), "folder", 0o755))
    with pytest.raises(TreeError, match="longer than 1023 bytes"):
        tree.stage(tmp_path / "root", 1023)


def prototype(folder: pathlib.Path, **owners: tuple[int, int]) -> list[bytes]:
    own = {str(folder / name): owner for name, owner in owners.items()}
    return list(xfs._prototype(folder, own))


def test_a_prototype_is_what_mkfs_xfs_reads(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "root"
    (folder / "b").mkdir(parents=True)
    (folder / "b/file").write_text("x")
    (folder / "b/file").chmod(0o4755)
    (folder / "a").symlink_to("/nix/x")
    (folder / "c d").write_text("y")
    (folder / "c d").chmod(0o640)
    (folder / "b").chmod(0o1777)
    source = str(folder).encode()
    assert prototype(folder, b=(3, 4)) == [
        b"a l--777 0 0 /nix/x",
        b"b d--777 3 4",
        b"file -u-755 0 0 " + source + b"/b/file",
        b"$",
        b"c/d ---640 0 0 " + source + b"/c?d",
    ]


@pytest.mark.parametrize("name", ["a\tb", "a\nb", ":a", "$"])
def test_names_that_a_prototype_cannot_hold_are_refused(name: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / name).touch()
    with pytest.raises(FilesystemError, match="does not allow this file name"):
        prototype(tmp_path / "root")


@pytest.mark.parametrize("target", ["a b", ":a", "a\nb"])
def test_links_that_a_prototype_cannot_hold_are_refused(
    target: str, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/link").symlink_to(target)
    with pytest.raises(FilesystemError, match="cannot make a link to"):
        prototype(tmp_path / "root")
