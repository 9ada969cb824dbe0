"""Tests `pack.c`: compares its tar stream with GNU tar's, and its hashes with Nix'."""

import hashlib
import os
import pathlib
import random
import subprocess
import tarfile

import pytest

from orchestrator.image.pack import PACK, pack
from orchestrator.image.tree import Tree

pytestmark = pytest.mark.own_store

#: File sizes around a tar block, a NAR's padding and pack's pieces.
SIZES = (0, 1, 7, 8, 9, 511, 512, 513, 4096, (128 << 10) - 1, 128 << 10, (128 << 10) + 1, 700_001)

NAMES = (
    *("a", "A", "-dash", "a b", "new\nline", "back\\slash", "*?[a]", "K\N{LATIN SMALL LETTER A}se"),
    *(
        "\N{HOT BEVERAGE}",
        "x" * 100,
        "x" * 101,
        "y" * 255,
        "\udcff\udcfe",
        ".hidden",
        "a.",
    ),
)


def grow(folder: pathlib.Path, noise: random.Random, depth: int = 0) -> None:
    """Fill `folder` with files, links and folders of awkward names and sizes."""
    folder.mkdir()
    for name in noise.sample(NAMES, noise.randint(0, 6)):
        path = folder / name
        kind = noise.choice(("file", "file", "file", "program", "link", "folder"))
        if kind == "folder" and depth < 4:
            grow(path, noise, depth + 1)
        elif kind == "link":
            path.symlink_to("t" * noise.choice((1, 99, 100, 101, 300)))
        else:
            path.write_bytes(noise.randbytes(noise.choice(SIZES)))
            path.chmod(0o555 if kind == "program" else 0o444)
    folder.chmod(0o555)


def nar_hash(path: pathlib.Path) -> str:
    dump = subprocess.run(["nix-store", "--dump", path], capture_output=True, check=True).stdout
    return hashlib.sha256(dump).hexdigest()


def listing(stream: pathlib.Path) -> list[tuple[object, ...]]:
    with tarfile.open(stream) as archive:
        found: list[tuple[object, ...]] = []
        for one in archive:
            # A NAR has no mode for a link.
            mode = 0 if one.issym() else one.mode
            data = archive.extractfile(one) if one.isreg() else None
            digest = hashlib.sha256(data.read()).hexdigest() if data else ""
            found.append((one.name, one.type, mode, one.size, one.linkname, one.mtime, digest))
            found.append((one.uid, one.gid, one.uname, one.gname))
    return found


@pytest.mark.parametrize("seed", range(25))
def test_stream_and_hash_are_gnu_tars_and_nix(seed: int, tmp_path: pathlib.Path) -> None:
    roots = [tmp_path / name for name in ("one", "two", "three")]
    noise = random.Random(seed)  # noqa: S311
    grow(roots[0], noise)
    roots[1].write_bytes(noise.randbytes(noise.choice(SIZES)))
    roots[1].chmod(noise.choice((0o444, 0o555)))
    roots[2].symlink_to("nowhere")
    paths = sorted(map(str, roots))
    ours, theirs = tmp_path / "ours.tar", tmp_path / "theirs.tar"
    with ours.open("wb") as sink:
        hashes, complaint = pack(paths, sink, str(tmp_path))
    assert complaint == ""
    assert hashes == {path: nar_hash(pathlib.Path(path)) for path in paths}
    assert pack(paths) == (hashes, "")
    names = [os.path.relpath(path, tmp_path) for path in paths]
    command = ["tar", "--create", f"--file={theirs}", f"--directory={tmp_path}", "--format=posix"]
    command += ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@1"]
    subprocess.run([*command, "--hard-dereference", *names], check=True)
    assert listing(ours) == listing(theirs)


@pytest.mark.parametrize("above", [99, 154, 155, 156, 255])
@pytest.mark.parametrize("name", [1, 99, 100, 101])
def test_names_at_the_limits_of_a_header_stay_whole(
    above: int, name: int, tmp_path: pathlib.Path
) -> None:
    """A tar header has 155 bytes for folders and 100 for the name."""
    path = tmp_path / ("p" * above) / ("n" * name)
    path.mkdir(parents=True)
    (path / "q").write_bytes(b"")
    with (tmp_path / "tar").open("wb") as sink:
        assert pack([str(path.parent)], sink, str(tmp_path))[1] == ""
    top = path.parent.name
    with tarfile.open(tmp_path / "tar") as archive:
        assert archive.getnames() == [top, f"{top}/{path.name}", f"{top}/{path.name}/q"]


def test_a_file_that_needs_more_digits_than_a_header_has_is_told_with_its_size(
    tmp_path: pathlib.Path,
) -> None:
    """A file of 8 GiB; only its header is checked."""
    large = tmp_path / "large"
    for size in ((8 << 30) - 1, 8 << 30):
        with large.open("wb") as file:
            file.truncate(size)
        with subprocess.Popen(
            [PACK, "2", f"{tmp_path}/"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as packing:
            assert packing.stdin
            assert packing.stdout
            packing.stdin.write(os.fsencode(large) + b"\0")
            packing.stdin.close()
            with tarfile.open(fileobj=packing.stdout, mode="r|") as archive:
                member = archive.next()
            packing.kill()
        assert member
        assert member.size == size


def test_hard_links_are_files_of_their_own(tmp_path: pathlib.Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one/a").write_bytes(b"same")
    (tmp_path / "one/b").hardlink_to(tmp_path / "one/a")
    with (tmp_path / "tar").open("wb") as sink:
        pack([f"{tmp_path}/one"], sink, str(tmp_path))
    with tarfile.open(tmp_path / "tar") as archive:
        assert [(one.name, one.type) for one in archive] == [
            ("one", tarfile.DIRTYPE),
            ("one/a", tarfile.REGTYPE),
            ("one/b", tarfile.REGTYPE),
        ]


def test_what_no_store_has_is_refused_by_its_path(tmp_path: pathlib.Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").write_bytes(b"")
    os.mkfifo(tmp_path / "one/pipe")
    hashes, complaint = pack([f"{tmp_path}/two", f"{tmp_path}/one", f"{tmp_path}/three"])
    assert complaint == f"{tmp_path}/one/pipe: is not a file, folder or link"
    assert hashes.keys() <= {f"{tmp_path}/two"}


def test_a_reader_that_ends_is_told(tmp_path: pathlib.Path) -> None:
    # The hashing thread is at work when the stream fails: a race, so it is repeated.
    (tmp_path / "one").write_bytes(bytes(4 << 20))
    for _ in range(20):
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "wb") as sink:
            ended = subprocess.run(
                [PACK, "1", f"{tmp_path}/"],
                input=f"{tmp_path}/one\0".encode(),
                stdout=sink,
                stderr=subprocess.PIPE,
                check=False,
            )
        assert (ended.returncode, ended.stderr) == (1, b"cannot write: Broken pipe\n")


def test_a_tree_knows_what_its_stream_was_made_of(tmp_path: pathlib.Path) -> None:
    (tmp_path / "one").write_bytes(b"x")
    tree = Tree([f"{tmp_path}/one"])
    with (tmp_path / "tar").open("wb") as sink:
        tree.write_tar(sink)
    assert tree.hashes == {f"{tmp_path}/one": nar_hash(tmp_path / "one")}
