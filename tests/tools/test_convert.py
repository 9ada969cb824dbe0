"""Tests disk formats and compression: content is preserved, and results are reproducible."""

import hashlib
import json
import os
import pathlib
import random
import re
import subprocess
import time
import uuid
from collections.abc import Iterator

import pytest

from orchestrator.image import convert, examine, vagrant
from orchestrator.image.crc32c import crc32c
from orchestrator.image.filesystems.filesystem import FilesystemError
from orchestrator.shared.disk_formats import ASSEMBLED, DISK_FORMATS, DiskFormat
from orchestrator.shared.spec import Compression

pytestmark = pytest.mark.needs("qemu-img", "zstd", "xz", "pigz", "gzip")

MIB = 1 << 20
IDENTITY = uuid.UUID("0b5c1a52-9d6e-4a8e-8f0e-1f2e3d4c5b6a")
FORMATS = [name for name in ASSEMBLED if name != "raw"]


def run(*command: str | pathlib.Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def sha256(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def made(
    kind: DiskFormat, raw: pathlib.Path, target: pathlib.Path, identity: uuid.UUID = IDENTITY
) -> pathlib.Path:
    convert.convert(raw, kind, target, identity)
    return target


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Make a file of data, written zeros and holes; its size is not a multiple of any cluster."""
    path = tmp_path_factory.mktemp("raw") / "image.raw"
    dice = random.Random(1)  # noqa: S311
    with path.open("wb") as file:
        file.write(dice.randbytes(3 * MIB + 512))
        file.write(bytes(MIB))
        file.seek(20 * MIB + 4096)
        file.write(b"text " * 100_000)
        file.seek(39 * MIB)
        file.write(dice.randbytes(512))
    os.truncate(path, 41 * MIB)
    return path


@pytest.fixture(scope="module")
def twice(
    raw: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[DiskFormat, list[pathlib.Path]]:
    """Each format is made twice, more than a second apart."""
    found: dict[DiskFormat, list[pathlib.Path]] = {kind: [] for kind in FORMATS}
    for number in range(2):
        folder = tmp_path_factory.mktemp(f"round{number}")
        for kind in FORMATS:
            found[kind].append(made(kind, raw, folder / kind))
        time.sleep(1.1)
    return found


def test_what_is_fixed_is_a_drivers() -> None:
    assert convert.FIXES.keys() <= {DISK_FORMATS[name].driver for name in FORMATS}


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_input_gives_the_same_bits(
    kind: DiskFormat, twice: dict[DiskFormat, list[pathlib.Path]]
) -> None:
    first, second = twice[kind]
    assert second.stat().st_mtime - first.stat().st_mtime >= 1.1
    assert sha256(first) == sha256(second)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_disk_inside_is_the_raw_one(
    kind: DiskFormat,
    twice: dict[DiskFormat, list[pathlib.Path]],
    raw: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    driver = DISK_FORMATS[kind].driver
    path = twice[kind][0]
    if DISK_FORMATS[kind].box:
        run("tar", "-xzf", path, "-C", tmp_path)
        path = tmp_path / vagrant.DISK
    assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", driver, raw, path)
    facts = json.loads(run("qemu-img", "info", "--output=json", "-f", driver, path))
    assert facts["virtual-size"] == raw.stat().st_size
    if DISK_FORMATS[kind].examined == "check":
        assert "No errors were found" in run("qemu-img", "check", "-f", driver, path)


def test_a_box_has_what_vagrant_and_virtualbox_read(
    twice: dict[DiskFormat, list[pathlib.Path]], raw: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    box = twice["vagrant"][0]
    listed = run("tar", "-tvzf", box, "--numeric-owner", "--utc").splitlines()
    assert all(re.match(r"-rw-r--r-- 0/0 +[0-9]+ 1970-01-01 00:00 ", line) for line in listed)
    run("tar", "-xzf", box, "-C", tmp_path)
    assert json.loads((tmp_path / "metadata.json").read_text()) == {"provider": "virtualbox"}
    size = (tmp_path / vagrant.DISK).stat().st_size
    wanted = vagrant.description(size, raw.stat().st_size)
    assert (tmp_path / "box.ovf").read_text() == wanted
    examine.disk_file(box, "vagrant")
    os.truncate(box, box.stat().st_size - 1)
    with pytest.raises(FilesystemError, match="cannot be read"):
        examine.disk_file(box, "vagrant")


@pytest.mark.parametrize("kind", ["vdi", "vpc", "vpc-fixed", "vhdx", "vmdk"])
def test_the_identity_is_in_the_image(
    kind: DiskFormat,
    twice: dict[DiskFormat, list[pathlib.Path]],
    raw: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    other = made(kind, raw, tmp_path / "other", uuid.uuid5(IDENTITY, "other"))
    driver = DISK_FORMATS[kind].driver
    assert sha256(other) != sha256(twice[kind][0])
    assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", driver, raw, other)


def test_identities_lie_where_the_formats_want_them(
    twice: dict[DiskFormat, list[pathlib.Path]],
) -> None:
    assert twice["vdi"][0].read_bytes()[0x188:0x198] == IDENTITY.bytes_le
    for kind, places in (("vpc", (0, -512)), ("vpc-fixed", (-512,))):
        data = twice[kind][0].read_bytes()
        for place in places:
            footer = data[place:][:512]
            assert footer[:8] == b"conectix"
            assert footer[68:84] == IDENTITY.bytes
            sums = ~(sum(footer) - sum(footer[64:68])) & 0xFFFFFFFF
            assert int.from_bytes(footer[64:68]) == sums
    vhdx = twice["vhdx"][0].read_bytes()
    assert vhdx.count(IDENTITY.bytes_le) == 1
    for place in (64 << 10, 128 << 10):
        header = vhdx[place : place + 4096]
        assert header[:4] == b"head"
        blank = header[:4] + bytes(4) + header[8:]
        assert int.from_bytes(header[4:8], "little") == crc32c(blank)
    assert f"\nCID={IDENTITY.hex[:8]}\n".encode() in twice["vmdk"][0].read_bytes()


def test_a_vmdks_content_id_may_have_had_less_than_eight_digits(
    twice: dict[DiskFormat, list[pathlib.Path]], tmp_path: pathlib.Path
) -> None:
    """qemu-img writes the content ID without leading zeros."""
    wanted = twice["vmdk"][0].read_bytes()
    at = wanted.index(b"\nCID=") + 5
    end = wanted.index(b"\0", at)
    for digits in (b"1234567", b"1"):
        short = wanted[:at] + digits + wanted[at + 8 : end] + bytes(8 - len(digits)) + wanted[end:]
        (tmp_path / "image").write_bytes(short)
        with (tmp_path / "image").open("r+b") as image:
            convert._fix_vmdk(image, IDENTITY)
        assert sha256(tmp_path / "image") == hashlib.sha256(wanted).hexdigest()


def test_raw_is_renamed_not_copied(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").write_bytes(b"raw")
    inode = (tmp_path / "a").stat().st_ino
    convert.convert(tmp_path / "a", "raw", tmp_path / "b", IDENTITY)
    assert not (tmp_path / "a").exists()
    assert (tmp_path / "b").stat().st_ino == inode


def test_a_failing_tool_is_told_by_its_last_words(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FilesystemError, match=r"^qemu-img: .*[Nn]o such file"):
        convert.convert(tmp_path / "nothing", "qcow2", tmp_path / "b", IDENTITY)
    with pytest.raises(FilesystemError, match=r"^xz: .*No such file"):
        convert.compress(tmp_path / "nothing", "xz", tmp_path / "b")


# --- compression ------------------------------------------------------------------------------

TOOLS: dict[Compression, str] = {"zstd": "zstd", "xz": "xz", "gz": "gzip"}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Make a file of more than one block of every compressor."""
    path = tmp_path_factory.mktemp("large") / "image.plain"
    dice = random.Random(2)  # noqa: S311
    with path.open("wb") as file:
        for _ in range(28):
            file.write(dice.randbytes(4096) * (MIB // 4096))
    return path


@pytest.fixture
def cpus() -> Iterator[set[int]]:
    """Set of this process' CPUs, restored afterwards."""
    before = os.sched_getaffinity(0)
    yield before
    os.sched_setaffinity(0, before)


@pytest.mark.parametrize("how", TOOLS)
def test_what_is_compressed_comes_back_and_does_not_depend_on_cpus(
    how: Compression, large: pathlib.Path, cpus: set[int], tmp_path: pathlib.Path
) -> None:
    if len(cpus) < 2:
        pytest.skip("needs two CPUs")
    one, many = tmp_path / "one", tmp_path / "many"
    convert.compress(large, how, many)
    os.sched_setaffinity(0, {min(cpus)})
    convert.compress(large, how, one)
    with one.open("rb") as packed:
        command = [TOOLS[how], "-d", "-c"]
        done = subprocess.run(command, stdin=packed, capture_output=True, check=True)
    assert done.stdout == large.read_bytes()
    assert sha256(one) == sha256(many)
    assert many.stat().st_size < large.stat().st_size // 2
    assert large.exists()


@pytest.mark.parametrize("how", TOOLS)
def test_compressed_bits_do_not_depend_on_name_or_time(
    how: Compression, tmp_path: pathlib.Path
) -> None:
    for name, when in (("one", 1), ("two", 1_000_000_000)):
        (tmp_path / name).write_bytes(b"text " * 1000)
        os.utime(tmp_path / name, (when, when))
        convert.compress(tmp_path / name, how, tmp_path / f"{name}.packed")
    assert sha256(tmp_path / "one.packed") == sha256(tmp_path / "two.packed")


def test_no_compression_renames(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").write_bytes(b"raw")
    convert.compress(tmp_path / "a", "none", tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b").read_bytes() == b"raw"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"", 0),
    ],
)
def test_the_checksum_is_castagnolis(data: bytes, expected: int) -> None:
    """Test vectors of RFC 3720, B.4, and the usual one."""
    assert crc32c(data) == expected
