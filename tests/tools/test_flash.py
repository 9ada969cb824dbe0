"""Tests the writer of `flash` on files, with real packers and on a disk that fails."""

import contextlib
import dataclasses
import hashlib
import io
import lzma
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time
import zlib

import pytest

from orchestrator.__main__ import tell
from orchestrator.deliver import flash
from orchestrator.image.bmap import BLOCK, block_map, read_map
from orchestrator.shared.constants import MIB
from orchestrator.shared.display import Display, Terminal
from orchestrator.shared.errors import ApplianceError, FlashError, UsageError, VerificationError
from orchestrator.shared.progress import make_progress

#: Runs the writer, in a process that may have a broken disk.
PROGRAM = """
import pathlib, sys
from orchestrator.__main__ import tell
from orchestrator.deliver import flash
from orchestrator.shared.errors import ApplianceError
from orchestrator.shared.display import Display, Terminal
from orchestrator.shared.progress import make_progress

progress = make_progress(Display("plain"), Terminal())
try:
    print(flash.flash(0, pathlib.Path(sys.argv[1]), progress, verify=sys.argv[2] == "verify"))
except ApplianceError as error:
    progress.close()
    tell(error)
    sys.exit(error.exit_code)
"""

DISK_BYTES = 13 * MIB

#: Content of the disk before: no byte of it may stay where the image has one.
OLD = b"\xee"

PACKERS = {"zstd": ["zstd", "-q"], "xz": ["xz", "-0"], "gzip": ["gzip", "-1"]}


@dataclasses.dataclass(frozen=True)
class Wrote:
    """Exit code, stdout and stderr of the writer."""

    code: int
    out: str
    err: str


@pytest.fixture
def image(tmp_path: pathlib.Path) -> pathlib.Path:
    """Make an image with data, a hole, more data and an end that fills no sector of 4096 bytes."""
    path = tmp_path / "image.img"
    noise = random.Random(1)  # noqa: S311
    with path.open("wb") as file:
        file.write(noise.randbytes(5 * MIB + 4096))
        file.seek(9 * MIB)
        file.write(noise.randbytes(MIB))
        file.truncate(11 * MIB + 512)
    return path


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "disk.img"
    path.write_bytes(OLD * DISK_BYTES)
    return path


@pytest.fixture(scope="session")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Compile the library that makes a file a broken disk."""
    library = tmp_path_factory.mktemp("faulty") / "faulty.so"
    source = pathlib.Path(__file__).with_name("faulty_disk.c")
    command = ["gcc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-O1"]
    subprocess.run([*command, "-o", library, source, "-ldl"], check=True)
    return library


def write(
    disk: pathlib.Path,
    *parts: bytes,
    size: int = 0,
    map_bytes: int = 0,
    packed: str = "none",
    disk_bytes: int = DISK_BYTES,
    verify: bool = True,
    variables: dict[str, str] | None = None,
) -> Wrote:
    """Send a line of facts and `parts` to the writer; with `variables` it is another process."""
    head = f"{map_bytes} {size} {disk_bytes} 0:0 {packed}\n".encode()
    sent = b"".join([head, *parts])
    if variables is None:
        return here(disk, sent, verify=verify)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, disk, "verify" if verify else "no"],
        input=sent,
        capture_output=True,
        check=False,
        env={**os.environ, **variables},
    )
    return Wrote(done.returncode, done.stdout.decode(), done.stderr.decode())


def here(disk: pathlib.Path, sent: bytes, *, verify: bool) -> Wrote:
    """Run the writer in this process: a Python takes longer to start than a small disk to write."""
    err, out, code = io.StringIO(), "", 0
    with tempfile.TemporaryFile() as stdin, contextlib.redirect_stderr(err):
        stdin.write(sent)
        stdin.seek(0)
        progress = make_progress(Display("plain"), Terminal())
        try:
            out = f"{flash.flash(stdin.fileno(), disk, progress, verify=verify)}\n"
        except ApplianceError as error:
            tell(error)
            code = error.exit_code
        finally:
            progress.close()
    return Wrote(code, out, err.getvalue())


def broken(disk: pathlib.Path, image: pathlib.Path, library: pathlib.Path, fault: str) -> Wrote:
    """Write to a disk that is broken as `fault` says."""
    variables = {"LD_PRELOAD": os.fspath(library), "FAULT": fault}
    return write(disk, image.read_bytes(), size=image.stat().st_size, variables=variables)


def has_image(disk: pathlib.Path, image: pathlib.Path) -> bool:
    """Whether the disk begins with the image, and behind it has what was there before."""
    content, expected = disk.read_bytes(), image.read_bytes()
    return content == expected + OLD * (DISK_BYTES - len(expected))


def test_the_disk_gets_the_image_and_nothing_behind_it(
    disk: pathlib.Path, image: pathlib.Path
) -> None:
    size = image.stat().st_size
    done = write(disk, image.read_bytes(), size=size)
    assert (done.code, done.out) == (0, f"{size}\n")
    assert has_image(disk, image)


def test_progress_tells_bytes_rate_and_time_left(disk: pathlib.Path, image: pathlib.Path) -> None:
    done = write(disk, image.read_bytes(), size=image.stat().st_size)
    lines = done.err.splitlines()
    assert any(line.startswith("write: 4.2 of 11.5 MB, ") for line in lines), lines
    assert any(line.startswith("verify: ") and line.endswith(" s left") for line in lines), lines


@pytest.mark.parametrize("known", [True, False], ids=["size known", "size unknown"])
@pytest.mark.parametrize(
    "packer", [pytest.param(name, marks=pytest.mark.needs(name)) for name in PACKERS]
)
def test_a_packed_image_is_unpacked_on_the_way(
    packer: str, known: bool, disk: pathlib.Path, image: pathlib.Path
) -> None:
    packed = subprocess.run([*PACKERS[packer], "-c", image], capture_output=True, check=True).stdout
    done = write(disk, packed, size=image.stat().st_size if known else 0, packed=packer)
    assert done.code == 0, done.err
    assert has_image(disk, image)


@pytest.mark.parametrize(
    "packer", [pytest.param(name, marks=pytest.mark.needs(name)) for name in PACKERS]
)
def test_a_packed_image_that_is_cut_off_is_told_by_its_packer(
    packer: str, disk: pathlib.Path, image: pathlib.Path
) -> None:
    packed = subprocess.run([*PACKERS[packer], "-c", image], capture_output=True, check=True).stdout
    for size in (image.stat().st_size, 0):
        done = write(disk, packed[: len(packed) * 9 // 10], size=size, packed=packer)
        assert done.code == VerificationError.exit_code
        assert "error: the image cannot be unpacked: " in done.err
        assert disk.read_bytes()[:512] == bytes(512), "no partition table"


def test_of_a_mapped_image_only_mapped_blocks_are_written(
    disk: pathlib.Path, image: pathlib.Path
) -> None:
    described = block_map(image)
    if "<MappedBlocksCount> 1537 " not in described:
        pytest.skip("this file system keeps no holes")
    text = described.encode()
    done = write(disk, text, image.read_bytes(), map_bytes=len(text))
    assert (done.code, done.out) == (0, f"{6 * MIB + 4096}\n"), done.err
    content, expected = disk.read_bytes(), image.read_bytes()
    assert content[: 5 * MIB + 4096] == expected[: 5 * MIB + 4096]
    assert content[5 * MIB + 4096 : 9 * MIB] == OLD * (4 * MIB - 4096)
    assert content[9 * MIB : 10 * MIB] == expected[9 * MIB : 10 * MIB]
    assert content[10 * MIB :] == OLD * (3 * MIB)


def test_an_image_that_does_not_match_its_map_is_refused(
    disk: pathlib.Path, image: pathlib.Path
) -> None:
    text = block_map(image).encode()
    other = bytearray(image.read_bytes())
    other[9 * MIB + 1] ^= 1
    done = write(disk, text, bytes(other), map_bytes=len(text))
    assert done.code == VerificationError.exit_code
    assert "error: the image does not match its block map: bytes " in done.err
    assert disk.read_bytes()[:512] == bytes(512), "no partition table"


def test_a_changed_map_is_refused(disk: pathlib.Path, image: pathlib.Path) -> None:
    text = block_map(image).replace("<BlockSize> 4096", "<BlockSize> 8192").encode()
    done = write(disk, text, image.read_bytes(), map_bytes=len(text))
    assert done.code == VerificationError.exit_code
    assert "block map beside the image cannot be read: it was changed" in done.err
    assert disk.read_bytes() == OLD * DISK_BYTES


def sealed(text: str) -> bytes:
    """Return a block map with its own checksum, whatever it says."""
    blank = re.sub(r"(<BmapFileChecksum> )\w+", rf"\g<1>{'0' * 64}", text)
    return blank.replace("0" * 64, hashlib.sha256(blank.encode()).hexdigest(), 1).encode()


@pytest.mark.parametrize(
    ("pattern", "by", "message"),
    [
        ("<ImageSize> .* </ImageSize>", "<ImageSize> 0 </ImageSize>", "ranges are not in order"),
        ("<Range .*\n", "", "not have all of its ranges"),
        ("(?s)<Range .*</Range>", "", "not have all of its ranges"),
        ("<Range chksum=", "<Range sha1=", "not have all of its ranges"),
        ("<MappedBlocksCount> .* </M", "<MappedBlocksCount> 0 </M", "not have all of its ranges"),
        ("<BlockSize> 4096", f"<BlockSize> {'9' * 5000}", "cannot be read: it has no BlockSize"),
    ],
)
def test_a_map_that_leaves_something_out_is_refused(
    pattern: str, by: str, message: str, disk: pathlib.Path, image: pathlib.Path
) -> None:
    text = sealed(re.sub(pattern, by, block_map(image), count=1))
    done = write(disk, text, image.read_bytes(), map_bytes=len(text))
    assert done.code == VerificationError.exit_code, done.err
    assert message in done.err
    assert disk.read_bytes() == OLD * DISK_BYTES


@pytest.mark.parametrize(
    ("first", "last"), [(0, 255), (1280, 2815)], ids=["but its begin", "but its end"]
)
def test_a_forged_map_that_leaves_data_out_is_refused(
    first: int, last: int, disk: pathlib.Path, image: pathlib.Path
) -> None:
    content = image.read_bytes()
    digest = hashlib.sha256(content[first * BLOCK : (last + 1) * BLOCK]).hexdigest()
    place = f'<Range chksum="{digest}"> {first}-{last} </Range>'
    text = re.sub("(?s)<Range .*</Range>", place, block_map(image))
    text = re.sub("(<MappedBlocksCount>) [0-9]*", rf"\1 {last - first + 1}", text)
    done = write(disk, sealed(text), content, map_bytes=len(sealed(text)))
    assert done.code == VerificationError.exit_code, done.err
    assert "the block map leaves out a part of the image that is not empty: in bytes " in done.err
    assert disk.read_bytes()[:512] in {bytes(512), OLD * 512}, "no partition table"


def test_a_map_of_another_image_is_refused(disk: pathlib.Path, image: pathlib.Path) -> None:
    text = block_map(image).encode()
    size = image.stat().st_size
    done = write(disk, text, image.read_bytes(), size=size + 512, map_bytes=len(text))
    assert done.code == VerificationError.exit_code
    assert f"the block map is of an image of {size} bytes, not {size + 512}" in done.err
    assert disk.read_bytes() == OLD * DISK_BYTES


@pytest.mark.parametrize("name", ["ChecksumType", "BmapFileChecksum"])
def test_a_map_of_a_single_word_is_read_in_time(name: str) -> None:
    """A search from each word to the end of the map would take hours for MAP_BYTES."""
    text = "<ChecksumType> sha256 </ChecksumType>" if name != "ChecksumType" else ""
    began = time.monotonic()
    with pytest.raises(ValueError, match=f"it has no {name}"):
        read_map(text + f"<{name}>" * (MIB // len(name)))
    assert time.monotonic() - began < 5


def test_a_map_of_any_size_is_not_read(disk: pathlib.Path) -> None:
    done = write(disk, map_bytes=flash.MAP_BYTES + 1)
    assert done.code == VerificationError.exit_code
    assert f"cannot be read: it has {flash.MAP_BYTES + 1} bytes" in done.err


@pytest.mark.needs("xz")
def test_a_file_that_asks_for_all_memory_does_not_get_it(disk: pathlib.Path) -> None:
    packed = bytearray(lzma.compress(bytes(MIB), check=lzma.CHECK_NONE))
    # The header of the first block (The .xz File Format, 3.1), with a dictionary of 3 GiB.
    header, end = packed[12:], 4 * packed[12]
    assert header[2:4] == b"\x21\x01", "LZMA2, with one byte of properties"
    packed[16] = 39
    packed[12 + end : 16 + end] = zlib.crc32(packed[12 : 12 + end]).to_bytes(4, "little")
    done = write(disk, bytes(packed), packed="xz")
    assert done.code == VerificationError.exit_code, done.err
    assert "the image cannot be unpacked: " in done.err
    assert "of memory is required. The limit is 1024 MiB" in done.err


@pytest.mark.parametrize("change", [-1, 1], ids=["shorter", "longer"])
def test_an_image_of_another_size_is_refused(
    change: int, disk: pathlib.Path, image: pathlib.Path
) -> None:
    size = image.stat().st_size
    done = write(disk, image.read_bytes(), size=size - change)
    assert done.code == VerificationError.exit_code
    expected = f"incomplete: it has {size} of {size + 1} bytes" if change < 0 else "is longer than"
    assert expected in done.err
    assert disk.read_bytes()[:512] == bytes(512), "no partition table"


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"QFI\xfb", "the image is a qcow2 file, for virtual machines"),
        (b"PK\x03\x04", "this is no image of a disk: the file is a ZIP archive"),
        (bytes(257) + b"ustar", "this is no image of a disk: the file is a tar archive"),
        (b"\x1f\x8b\x08", "the image is compressed twice"),
    ],
)
def test_what_is_no_disk_is_not_written(head: bytes, message: str, disk: pathlib.Path) -> None:
    done = write(disk, head.ljust(MIB, b"\0"))
    assert done.code == UsageError.exit_code
    assert f"error: {message}\ntry: " in done.err
    assert disk.read_bytes() == OLD * DISK_BYTES


def test_a_disk_that_is_too_small_is_not_touched(disk: pathlib.Path, image: pathlib.Path) -> None:
    os.truncate(disk, 11 * MIB)
    size = image.stat().st_size
    done = write(disk, image.read_bytes(), size=size, disk_bytes=11 * MIB)
    assert done.code == UsageError.exit_code
    assert f"too small: it has {11 * MIB} bytes, the image {size}" in done.err
    assert disk.read_bytes() == OLD * (11 * MIB)


def test_another_disk_of_the_same_name_is_not_touched(
    disk: pathlib.Path, image: pathlib.Path
) -> None:
    done = write(disk, image.read_bytes(), disk_bytes=DISK_BYTES - 512)
    assert done.code == UsageError.exit_code
    assert "error: the engine's host has another disk of this name" in done.err
    assert disk.read_bytes() == OLD * DISK_BYTES


def test_nor_is_one_of_another_number(disk: pathlib.Path, image: pathlib.Path) -> None:
    head = f"0 {image.stat().st_size} {DISK_BYTES} 8:16 none\n".encode()
    done = here(disk, head + image.read_bytes(), verify=True)
    assert done.code == UsageError.exit_code
    assert "error: the engine's host has another disk of this name" in done.err
    assert disk.read_bytes() == OLD * DISK_BYTES


def test_without_run_sh_nothing_is_written(disk: pathlib.Path) -> None:
    done = here(disk, b"", verify=True)
    assert done.code == UsageError.exit_code
    assert "only ./run.sh flash starts this container" in done.err


@pytest.mark.needs("gcc")
@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        # A whole piece fails, so the offset is the piece's.
        (f"write:{6 * MIB}", 17, f"write error at byte {4 * MIB} of the disk: Input/output error"),
        (f"short:{6 * MIB}", 17, f"the disk ends at byte {6 * MIB}, before the image"),
        (f"gone:{6 * MIB}", 17, f"the disk was pulled out, or has failed, at byte {4 * MIB}"),
        ("late:0", 17, f"write error at byte {11 * MIB + 512} of the disk: Input/output error"),
        ("busy:0", 2, "the disk is in use: it is mounted, or part of a volume"),
        (
            f"flip:{6 * MIB}",
            17,
            (
                "the disk does not hold what was written:"
                f" bytes {4 * MIB} to {8 * MIB - 1} read back differently"
            ),
        ),
        (
            "flip:1",
            17,
            (
                f"the disk does not hold what was written: bytes 0 to {4 * MIB - 1} read back"
                " differently"
            ),
        ),
    ],
)
def test_a_broken_disk_is_told_with_the_place(
    fault: str,
    code: int,
    message: str,
    disk: pathlib.Path,
    image: pathlib.Path,
    faulty: pathlib.Path,
) -> None:
    done = broken(disk, image, faulty, fault)
    assert done.code == code
    assert f"error: {message}\ntry: " in done.err
    assert FlashError.exit_code == 17
    if fault.partition(":")[0] not in {"busy", "flip"} or fault == f"flip:{6 * MIB}":
        assert disk.read_bytes()[:512] == bytes(512), "no partition table"


@pytest.mark.needs("gcc")
def test_without_verification_a_wrong_byte_is_not_noticed(
    disk: pathlib.Path, image: pathlib.Path, faulty: pathlib.Path
) -> None:
    variables = {"LD_PRELOAD": os.fspath(faulty), "FAULT": f"flip:{6 * MIB}"}
    size = image.stat().st_size
    done = write(disk, image.read_bytes(), size=size, verify=False, variables=variables)
    assert (done.code, done.out) == (0, f"{size}\n")
