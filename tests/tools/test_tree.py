"""Tests the tree of a root file system: entries, sizes, tar stream, staging."""

import io
import os
import pathlib
import tarfile
import tempfile
import time

import hypothesis
import pytest
from hypothesis import strategies as st

from orchestrator.image.tree import BLOCK, STORE_GROUP, STORE_MODE, Entry, Tree, TreeError

pytestmark = pytest.mark.needs("./pack")

STORE = ["nix", "nix/store"]
LONG = "x" * 120


def file(path: str, data: bytes = b"", mode: int = 0o644) -> Entry:
    return Entry(path, "file", mode, data=data)


def paths(tree: Tree) -> list[str]:
    """Return the entries of a tree to which something was added."""
    return [entry.path for entry in tree.entries if entry.path not in STORE]


def stream(tree: Tree, sink: pathlib.Path) -> bytes:
    with sink.open("wb") as file:
        assert tree.write_tar(file) == ""
    return sink.read_bytes()


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = archive.getmembers()
    names = [member.name for member in found]
    assert len(set(names)) == len(names)
    return dict(zip(names, found, strict=True))


# --- adding -----------------------------------------------------------------------------------


def test_the_stores_folder_is_nixs_own() -> None:
    nix, store = Tree([]).entries
    assert (nix.path, nix.kind, nix.mode, nix.user, nix.group) == ("nix", "folder", 0o755, 0, 0)
    assert store == Entry("nix/store", "folder", STORE_MODE, group=STORE_GROUP)


def test_a_store_alone_is_the_root_itself(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.image.tree.STORE", str(tmp_path))
    (tmp_path / "one").mkdir()
    (tmp_path / "one/two").write_text("text")
    tree = Tree([f"{tmp_path}/one"], alone=True)
    assert tree.entries == []
    with (tmp_path / "tar").open("wb") as sink:
        assert tree.write_tar(sink) == ""
    with tarfile.open(tmp_path / "tar") as found:
        assert found.getnames() == ["one", "one/two"]
    tree.stage(tmp_path / "staged", 1024)
    assert (tmp_path / "staged/one/two").is_file()
    with (tmp_path / "content").open("wb") as sink:
        assert tree.write_content(tmp_path / "staged", sink) == ""
    with tarfile.open(tmp_path / "content") as found:
        assert found.getnames() == ["one", "one/two"]


def test_a_store_path_that_is_missing_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(TreeError, match=rf"^{tmp_path}/gone: "):
        Tree([f"{tmp_path}/gone"])


def test_a_store_path_may_be_a_link_to_nowhere(tmp_path: pathlib.Path) -> None:
    (tmp_path / "link").symlink_to("/nowhere")
    assert Tree([f"{tmp_path}/link"]).closure == (f"{tmp_path}/link",)


def test_parents_are_made_before_what_is_in_them() -> None:
    tree = Tree([])
    tree.add(file("etc/a/b", mode=0o600))
    tree.add(file("etc-2"))
    assert paths(tree) == ["etc", "etc-2", "etc/a", "etc/a/b"]
    made = [(one.kind, one.mode) for one in tree.entries if one.path in {"etc", "etc/a"}]
    assert made == [("folder", 0o755)] * 2


@pytest.mark.parametrize("order", [1, -1])
def test_a_folder_keeps_the_mode_it_was_given_whenever_that_was(order: int) -> None:
    tree = Tree([])
    for entry in (Entry("a", "folder", 0o700), file("a/b"))[::order]:
        tree.add(entry)
    assert [(entry.path, entry.mode) for entry in tree.entries[:2]] == [
        ("a", 0o700),
        ("a/b", 0o644),
    ]


@pytest.mark.parametrize("path", ["a/./b", "a//b", "a/b/"])
def test_paths_are_made_plain(path: str) -> None:
    tree = Tree([])
    tree.add(Entry(path, "folder", 0o755))
    assert paths(tree) == ["a", "a/b"]


@pytest.mark.parametrize(
    "path", ["", ".", "/", "/etc", "//etc", "..", "../a", "a/../b", "a/..", "a\0b"]
)
def test_what_is_no_place_is_refused(path: str) -> None:
    tree = Tree([])
    with pytest.raises(TreeError, match="is not a valid path in an image"):
        tree.add(file(path))
    assert paths(tree) == []


@pytest.mark.parametrize("path", ["nix/store/a", "nix/store/a/b", "nix//store/./a"])
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_nothing_is_added_to_the_store(path: str, kind: str) -> None:
    with pytest.raises(TreeError, match="only Nix may add files to the store"):
        Tree([]).add(Entry(path, kind, 0o755))  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["nix", "nix/store"])
@pytest.mark.parametrize("kind", ["file", "link"])
def test_the_store_is_not_replaced(path: str, kind: str) -> None:
    with pytest.raises(TreeError, match="is added twice"):
        Tree([]).add(Entry(path, kind, 0o755))  # type: ignore[arg-type]


@pytest.mark.parametrize("first", ["file", "link", "folder"])
@pytest.mark.parametrize("second", ["file", "link"])
def test_nothing_is_there_twice(first: str, second: str) -> None:
    tree = Tree([])
    tree.add(Entry("a/b", first, 0o755))  # type: ignore[arg-type]
    with pytest.raises(TreeError, match=r"^/a/b: is added twice$"):
        tree.add(Entry("a/./b", second, 0o755))  # type: ignore[arg-type]
    assert [entry.kind for entry in tree.entries if entry.path == "a/b"] == [first]


def test_the_same_file_twice_is_refused_even_if_it_is_equal() -> None:
    tree = Tree([])
    tree.add(file("a", b"x"))
    with pytest.raises(TreeError, match="twice"):
        tree.add(file("a", b"x"))


@pytest.mark.parametrize("kind", ["file", "link"])
def test_nothing_lies_below_what_is_no_folder(kind: str) -> None:
    tree = Tree([])
    tree.add(Entry("a", kind, 0o755))  # type: ignore[arg-type]
    with pytest.raises(TreeError, match=rf"^/a/b/c: /a is a {kind}$"):
        tree.add(file("a/b/c"))


@hypothesis.given(
    st.lists(
        st.text(st.sampled_from("ab/."), max_size=8).filter(lambda name: name[:2] != "//"),
        max_size=6,
    )
)
def test_whatever_is_added_the_tree_is_one(names: list[str]) -> None:
    tree = Tree([])
    for name in names:
        try:
            tree.add(file(name))
        except TreeError:
            continue
    kinds = {entry.path: entry.kind for entry in tree.entries}
    assert list(kinds) == sorted(kinds)
    for path in kinds:
        assert not {"", ".", ".."} & set(path.split("/"))
        parent = path.rpartition("/")[0]
        assert not parent or kinds[parent] == "folder"


# --- adding from a file system ----------------------------------------------------------------


#: Takes each path as it is: where links may lead to is told by other tests.
ANYWHERE = pathlib.Path


def put(path: pathlib.Path, data: bytes = b"", mode: int = 0o644) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
    return path


def test_a_file_keeps_its_mode_but_may_be_written_by_its_owner(tmp_path: pathlib.Path) -> None:
    tree = Tree([])
    tree.add_from(put(tmp_path / "a", b"12345", 0o555), "bin/a", user=7, group=8, real=ANYWHERE)
    (entry,) = [entry for entry in tree.entries if entry.path == "bin/a"]
    assert entry == Entry("bin/a", "file", 0o755, source=tmp_path / "a", user=7, group=8)
    assert entry.size == 5


@pytest.mark.parametrize(
    ("mode", "file_mode", "folder_mode"),
    [(0o600, 0o600, 0o700), (0o640, 0o640, 0o750), (0o444, 0o444, 0o555), (0o755, 0o755, 0o755)],
)
def test_what_may_be_read_may_be_entered(
    mode: int, file_mode: int, folder_mode: int, tmp_path: pathlib.Path
) -> None:
    put(tmp_path / "etc/sub/a")
    tree = Tree([])
    tree.add_from(tmp_path / "etc", "etc", mode=mode, real=ANYWHERE)
    modes = {entry.path: entry.mode for entry in tree.entries}
    assert modes["etc"] == modes["etc/sub"] == folder_mode
    assert modes["etc/sub/a"] == file_mode


def test_a_folder_is_added_with_all_below_it_and_links_are_followed(
    tmp_path: pathlib.Path,
) -> None:
    put(tmp_path / "etc/a", b"a", 0o444)
    put(tmp_path / "etc/sub/b c", b"b", 0o555)
    put(tmp_path / "elsewhere/d", b"d", 0o444)
    (tmp_path / "etc/link").symlink_to("a")
    (tmp_path / "etc/folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "top").symlink_to("etc")
    (tmp_path / "etc/sub").chmod(0o555)
    tree = Tree([])
    tree.add_from(tmp_path / "top", "my/etc", user=3, real=ANYWHERE)
    (tmp_path / "etc/sub").chmod(0o755)
    mine = [entry for entry in tree.entries if entry.path.startswith("my/etc")]
    assert {entry.path: (entry.kind, entry.mode) for entry in mine} == {
        "my/etc": ("folder", 0o755),
        "my/etc/a": ("file", 0o644),
        "my/etc/folder": ("folder", 0o755),
        "my/etc/folder/d": ("file", 0o644),
        "my/etc/link": ("file", 0o644),
        "my/etc/sub": ("folder", 0o755),
        "my/etc/sub/b c": ("file", 0o755),
    }
    assert {entry.user for entry in mine} == {3}


@pytest.mark.parametrize("name", ["gone", "dangling"])
def test_a_source_that_is_missing_is_named(name: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(TreeError, match=rf"^{tmp_path}/{name}: No such file or directory$"):
        Tree([]).add_from(tmp_path / name, "a", real=ANYWHERE)


def test_a_folder_that_is_in_itself_ends(tmp_path: pathlib.Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/self").symlink_to("..")
    (tmp_path / "in/again").symlink_to("..")
    with pytest.raises(TreeError, match=r"in/again: leads to a folder that it is in$"):
        Tree([]).add_from(tmp_path, "a", real=pathlib.Path.resolve)


# --- size -------------------------------------------------------------------------------------


def test_usage_counts_whole_blocks_and_every_inode(tmp_path: pathlib.Path) -> None:
    store = tmp_path / "store"
    put(store / "a/empty")
    put(store / "a/one", b"1")
    put(store / "a/two", bytes(BLOCK + 1))
    (store / "a/short").symlink_to("x" * 59)
    (store / "a/long").symlink_to("x" * 60)
    (store / "b").symlink_to(store / "a")
    tree = Tree([f"{store}/a", f"{store}/b"])
    store_links = 0 if len(f"{store}/a") < 60 else 1
    empty, _ = Tree([]).usage()
    assert empty == 2 * BLOCK
    # Blocks are needed by the folder, by files of one and two blocks, by long links.
    assert tree.usage() == (empty + (1 + 1 + 2 + 1 + store_links) * BLOCK, 2 + 6 + 1)
    tree.add(file("x/y", bytes(BLOCK)))
    tree.add(file("x/z"))
    assert tree.usage() == (empty + (7 + store_links) * BLOCK, 9 + 3)


# --- the stream -------------------------------------------------------------------------------

NAMES = [
    "with blank",
    "new\nline",
    "-begins-with-a-dash",
    "back\\slash",
    "*?[a]",
    "Käse ☕",
    LONG,
    "\N{LATIN SMALL LETTER A WITH DIAERESIS}" * 100,
]


def closure(store: pathlib.Path) -> list[str]:
    """Make two store paths with every kind of file."""
    for name in NAMES:
        put(store / "one" / name, name.encode(), 0o444)
    put(store / "one/deep" / LONG / LONG / "end", b"deep")
    put(store / "one/bin/run", b"#!\n", 0o555)
    (store / "one/link").symlink_to("bin/run")
    (store / "one/far").symlink_to(f"/nix/store/{LONG}/{LONG}")
    (store / "one/dangling ☕").symlink_to("nowhere ☕")
    (store / "one/bin").chmod(0o555)
    put(store / "two", b"a single file", 0o444)
    return [f"{store}/two", f"{store}/one"]


def test_the_stream_has_every_store_path_owned_by_root(tmp_path: pathlib.Path) -> None:
    store = tmp_path / "store"
    tree = Tree(closure(store))
    found = members(stream(tree, tmp_path / "tar"))
    top = f"{store}".lstrip("/")
    expected = {top + path.removeprefix(f"{store}") for path in tree.closure}
    for folder, folders, files in os.walk(store / "one"):
        expected |= {f"{folder}/{name}".lstrip("/") for name in [*folders, *files]}
    assert found.keys() == expected | set(STORE)
    for name, member in found.items():
        if name in STORE:
            continue
        assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
        assert member.mtime == 1
        executable = name.endswith("/run")
        modes = {"5": 0o555, "2": 0o777, "0": 0o555 if executable else 0o444}
        assert member.mode == modes[member.type.decode()]
    assert found[f"{top}/one/link"].linkname == "bin/run"
    assert found[f"{top}/one/far"].linkname == f"/nix/store/{LONG}/{LONG}"
    assert found[f"{top}/one/dangling ☕"].linkname == "nowhere ☕"
    assert found[f"{top}/one/bin"].isdir()


def test_the_stream_has_every_files_bytes(tmp_path: pathlib.Path) -> None:
    store = tmp_path / "store"
    tree = Tree(closure(store))
    tree.add(file("etc/odd", b"x" * 513))
    tree.add(file("etc/even", b"y" * 1024))
    tree.add_from(put(tmp_path / "source", b"from a file"), "etc/copied", real=ANYWHERE)
    data = stream(tree, tmp_path / "tar")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        contents = {
            member.name: archive.extractfile(member).read()  # type: ignore[union-attr]
            for member in archive
            if member.isreg()
        }
    top = f"{store}/one".lstrip("/")
    for name in NAMES:
        assert contents[f"{top}/{name}"] == name.encode()
    assert contents[f"{top}/deep/{LONG}/{LONG}/end"] == b"deep"
    assert contents["etc/odd"] == b"x" * 513
    assert contents["etc/even"] == b"y" * 1024
    assert contents["etc/copied"] == b"from a file"


def test_the_stream_has_every_entry_as_it_was_added(tmp_path: pathlib.Path) -> None:
    tree = Tree([])
    tree.add(Entry("etc/key", "file", 0o600, data=b"x", user=1000, group=100))
    tree.add(Entry("etc/setuid", "file", 0o4755, user=4_000_000))
    tree.add(Entry("home/me", "folder", 0o700, user=1000))
    tree.add(Entry("bin/sh", "link", 0o777, target=f"/nix/store/{LONG}/{LONG}/ä b"))
    for name in NAMES:
        tree.add(file(f"names/{name}"))
    found = members(stream(tree, tmp_path / "tar"))
    assert list(found) == [entry.path for entry in tree.entries]
    assert {name: (one.mode, one.uid, one.gid) for name, one in found.items()} == {
        entry.path: (entry.mode, entry.user, entry.group) for entry in tree.entries
    }
    assert {one.mtime for one in found.values()} == {1}
    assert found["bin/sh"].linkname == f"/nix/store/{LONG}/{LONG}/ä b"
    assert (found["nix/store"].mode, found["nix/store"].gid) == (0o1775, 30000)
    assert found["home/me"].isdir()


def test_the_stream_is_the_same_whenever_and_in_whatever_order_the_files_were_made(
    tmp_path: pathlib.Path,
) -> None:
    # A tmpfs lists files in order of creation.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        store, source = pathlib.Path(folder, "store"), tmp_path / "source"
        tree = Tree(closure(store))
        tree.add_from(put(source, b"x"), "etc/a", real=ANYWHERE)
        first = stream(tree, tmp_path / "first.tar")
        store.rename(f"{folder}/before")
        time.sleep(1.1)
        for name in reversed(NAMES):
            put(store / "one" / name)
        again = closure(store)
        os.utime(store / "two", (5, 5))
        os.utime(source, (5, 5))
        tree = Tree(reversed(again))
        tree.add_from(source, "etc/a", real=ANYWHERE)
        assert stream(tree, tmp_path / "second.tar") == first


def test_the_stream_does_not_tell_whether_equal_files_are_one_on_disk(
    tmp_path: pathlib.Path,
) -> None:
    """Nix' store optimiser hard-links equal files; the image must not depend on that."""
    store = tmp_path / "store"
    for name in ("one/a", "one/b", "two/c"):
        put(store / name, b"the same", 0o444)
    tree = Tree([f"{store}/one", f"{store}/two"])
    apart = stream(tree, tmp_path / "apart.tar")
    for name in ("one/b", "two/c"):
        (store / name).unlink()
        (store / name).hardlink_to(store / "one/a")
    assert stream(tree, tmp_path / "linked.tar") == apart


def test_a_mode_that_nix_does_not_give_is_not_in_the_stream(tmp_path: pathlib.Path) -> None:
    """The NAR hash does not cover the setuid bit, which must not get into the image."""
    store = tmp_path / "store"
    put(store / "one/run", b"#!", 0o4755)
    put(store / "one/text", b"", 0o666)
    tree = Tree([f"{store}/one"])
    found = members(stream(tree, tmp_path / "tar"))
    modes = {name.rpartition("/")[2]: one.mode for name, one in found.items()}
    assert (modes["run"], modes["text"], modes["one"]) == (0o555, 0o444, 0o555)
    tree.add(Entry(f"{store}".lstrip("/"), "folder", 0o755))
    tree.stage(tmp_path / "staged", 1023)
    for name, mode in (("run", 0o555), ("text", 0o444)):
        staged = pathlib.Path(f"{tmp_path}/staged{store}/one/{name}")
        assert staged.stat().st_mode & 0o7777 == mode


def test_the_streams_complaint_is_returned(tmp_path: pathlib.Path) -> None:
    put(tmp_path / "store/a")
    tree = Tree([f"{tmp_path}/store"])
    (tmp_path / "store/a").unlink()
    (tmp_path / "store").rmdir()
    with (tmp_path / "tar").open("wb") as sink:
        assert "/store: No such file or directory" in tree.write_tar(sink)


# --- what is staged ---------------------------------------------------------------------------


def staged(folder: pathlib.Path) -> tuple[Tree, pathlib.Path]:
    put(folder / "store/one/a", b"right", 0o444)
    tree = Tree([f"{folder}/store/one"])
    tree.add(Entry(f"{folder}/store".lstrip("/"), "folder", 0o755))
    tree.add(file("etc/beside", b"x"))
    tree.stage(folder / "root", 1023)
    return tree, folder / "root"


def content(tree: Tree, root: pathlib.Path, sink: pathlib.Path) -> dict[str, bytes]:
    """Return what a tool gets for the tree staged at `root`: content by name, in its order."""
    with sink.open("wb") as file:
        assert tree.write_content(root, file) == ""
    found = {}
    with tarfile.open(sink, ignore_zeros=True) as archive:
        for member in archive:
            if member.isreg():
                data = archive.extractfile(member)
                assert data is not None
                found[member.name] = data.read()
    return found


def test_what_is_staged_is_hashed_as_the_stream_is(tmp_path: pathlib.Path) -> None:
    tree, root = staged(tmp_path)
    stream(tree, tmp_path / "tar")
    (path,) = tree.closure
    digest = tree.hashes.pop(path)
    assert content(tree, root, tmp_path / "content") == {
        "etc/beside": b"x",
        f"{path}/a".lstrip("/"): b"right",
    }
    assert tree.hashes == {path: digest}


def test_content_comes_in_the_order_in_which_a_tool_walks(tmp_path: pathlib.Path) -> None:
    put(tmp_path / "m/one/b/c", b"1", 0o444)
    put(tmp_path / "m/one/b-2", b"2", 0o444)
    tree = Tree([f"{tmp_path}/m/one"])
    folder = f"{tmp_path}".lstrip("/")
    tree.add(Entry(f"{folder}/m", "folder", 0o755))
    for name in ("n", "m-2", "l/b", "l-2", "l/b-2", LONG):
        tree.add(file(f"{folder}/{name}"))
    tree.stage(tmp_path / "root", 1023)
    found = [
        name.removeprefix(f"{folder}/")
        for name in content(tree, tmp_path / "root", tmp_path / "tar")
    ]
    assert found == ["l/b", "l/b-2", "l-2", "m/one/b/c", "m/one/b-2", "m-2", "n", LONG]


@pytest.mark.parametrize("change", ["content", "x bit", "new", "link"])
def test_what_is_hashed_is_what_a_tool_gets_whatever_the_store_has_later(
    change: str, tmp_path: pathlib.Path
) -> None:
    tree, root = staged(tmp_path)
    stream(tree, tmp_path / "tar")
    (path,) = tree.closure
    digest, store = tree.hashes[path], pathlib.Path(path)
    store.chmod(0o755)
    match change:
        case "content":
            (store / "a").chmod(0o644)
            (store / "a").write_bytes(b"wrong")
        case "x bit":
            (store / "a").chmod(0o555)
        case "new":
            (store / "b").touch()
        case "link":
            (store / "a").rename(store / "b")
            (store / "a").symlink_to("b")
            with (tmp_path / "content").open("wb") as sink:
                assert "/a: " in tree.write_content(root, sink)
            return
    got = content(tree, root, tmp_path / "content")
    assert got[f"{path}/a".lstrip("/")] == (b"wrong" if change == "content" else b"right")
    assert len(got) == 2
    assert (tree.hashes[path] == digest) == (change != "content")


@pytest.mark.parametrize("size", [1, 3])
def test_a_file_that_changes_its_size_cannot_pass_for_the_streams_next_files(
    size: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "source", b"xy")
    tree = Tree([])
    tree.add(Entry("boot/kernel", "file", 0o644, source=tmp_path / "source"))
    monkeypatch.setattr(Entry, "size", size)
    with (tmp_path / "tar").open("wb") as sink, pytest.raises(TreeError, match="its size changed"):
        tree.write_tar(sink)
