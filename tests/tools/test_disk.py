"""Tests the throwaway disk and the check's key: the delivered image is not changed."""

import hashlib
import os
import pathlib
import random
import re
import subprocess

import pytest

from orchestrator.agents.boot.disk import give_key, root_offset, throwaway, virtual_size
from orchestrator.agents.boot.qemu import Disk
from orchestrator.agents.failure import AgentError
from orchestrator.shared.disk_formats import DISK_FORMATS

pytestmark = pytest.mark.needs(
    *("sfdisk", "mke2fs", "debugfs", "qemu-img", "zstd", "xz", "ssh-keygen")
)


MIB = 1 << 20
ROOT = 2 * MIB
KEYS = "/root/.ssh/authorized_keys"


def run(*command: str | pathlib.Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def table(image: pathlib.Path, *lines: str, size: int = 24 * MIB, label: str = "gpt") -> None:
    """Make an image with a partition table."""
    with image.open("xb") as file:
        os.truncate(file.fileno(), size)
    script = "\n".join([f"label: {label}", "unit: sectors", *lines]) + "\n"
    subprocess.run(
        ["sfdisk", "--quiet", image], input=script, text=True, check=True, capture_output=True
    )


ESP = "1 : start=2048, size=2048, type=uefi"
LINUX = "2 : start=4096, size=40960, type=linux"


@pytest.fixture
def raw(tmp_path: pathlib.Path) -> pathlib.Path:
    """Make a disk with an ext4 root without keys, in a folder like the work volume's."""
    (tmp_path / "image").mkdir()
    path = tmp_path / "image/nixos.img"
    table(path, ESP, LINUX)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-E", f"offset={ROOT}", path, "20480k")
    return path


def converted(raw: pathlib.Path, driver: str, *options: str) -> pathlib.Path:
    target = raw.with_name(f"nixos.{driver}")
    run("qemu-img", "convert", "-f", "raw", "-O", driver, *options, raw, target)
    return target


# --- the disk ---------------------------------------------------------------------------------


def test_a_raw_image_is_copied(raw: pathlib.Path) -> None:
    before = digest(raw)
    with throwaway(raw, "raw", 0, raw.parent) as disk:
        assert disk.format == "raw"
        assert not disk.path.samefile(raw)
        assert digest(disk.path) == before
        assert disk.path.stat().st_mode & 0o777 == 0o600
        disk.path.write_bytes(b"overwritten")
    assert digest(raw) == before
    assert not disk.path.exists()
    assert not disk.path.parent.exists()
    assert list(raw.parent.parent.iterdir()) == [raw.parent]


def test_the_copy_keeps_holes(raw: pathlib.Path) -> None:
    dense = raw.with_name("dense.img")
    dense.write_bytes(raw.read_bytes())
    with throwaway(dense, "raw", 0, dense.parent) as disk:
        assert disk.path.stat().st_blocks * 512 < 8 * MIB


def test_a_read_only_image_has_a_throwaway_disk_that_can_be_written(raw: pathlib.Path) -> None:
    raw.chmod(0o444)
    with throwaway(raw, "raw", 0, raw.parent) as disk:
        assert disk.path.stat().st_mode & 0o200


@pytest.mark.parametrize(("grow", "size"), [(0, 24), (10, 24), (24, 24), (64, 64)])
@pytest.mark.parametrize("driver", ["raw", "qcow2"])
def test_a_disk_grows_but_never_shrinks(
    driver: str, grow: int, size: int, raw: pathlib.Path
) -> None:
    image = raw if driver == "raw" else converted(raw, driver)
    with throwaway(image, driver, grow, image.parent) as disk:
        assert virtual_size(disk) == size * MIB


def test_an_iso_is_a_stick(raw: pathlib.Path) -> None:
    with throwaway(raw, "iso", 0, raw.parent) as disk:
        assert (disk.format, disk.device) == ("raw", "nvme,serial=nixos")
    with throwaway(raw, "raw", 0, raw.parent) as disk:
        assert disk.device == "virtio-blk-pci"


@pytest.mark.parametrize(
    "disk_format", [name for name, row in DISK_FORMATS.items() if row.driver != "raw"]
)
def test_any_other_image_gets_an_overlay(disk_format: str, raw: pathlib.Path) -> None:
    driver = DISK_FORMATS[disk_format].driver
    options = ("-o", "subformat=streamOptimized") if driver == "vmdk" else ()
    image = converted(raw, driver, *options)
    before = digest(image)
    with throwaway(image, disk_format, 0, image.parent) as disk:
        assert (disk.format, disk.path.suffix) == ("qcow2", ".qcow2")
        info = run("qemu-img", "info", disk.path)
        assert f"backing file: {image}\n" in info
        assert f"backing file format: {driver}\n" in info
        run("qemu-io", "-f", "qcow2", "-c", "write -P 7 4M 64k", disk.path)
    assert digest(image) == before
    assert list(raw.parent.parent.iterdir()) == [raw.parent]


@pytest.mark.parametrize(
    ("suffix", "command"),
    [
        ("zst", ["zstd", "-q", "--rm"]),
        ("xz", ["xz"]),
        ("gz", ["gzip"]),
    ],
)
@pytest.mark.parametrize("driver", ["raw", "qcow2"])
def test_a_compressed_image_is_unpacked_first(
    suffix: str, command: list[str], driver: str, raw: pathlib.Path
) -> None:
    content = digest(raw)
    plain = raw if driver == "raw" else converted(raw, driver)
    run(*command, plain)
    packed = plain.with_name(f"{plain.name}.{suffix}")
    before = digest(packed)
    with throwaway(packed, driver, 0, packed.parent) as disk:
        back = raw.with_name("back")
        run("qemu-img", "convert", "-f", disk.format, "-O", "raw", disk.path, back)
        assert digest(back) == content
    assert digest(packed) == before
    assert not disk.path.parent.exists()


@pytest.mark.parametrize("driver", ["qcow2", "vdi", "vhdx"])
def test_a_compressed_image_of_unknown_format_is_known_once_it_is_unpacked(
    driver: str, raw: pathlib.Path
) -> None:
    plain = converted(raw, driver)
    run("xz", plain)
    with throwaway(plain.with_name(f"{plain.name}.xz"), "raw", 0, plain.parent) as disk:
        assert f"backing file format: {driver}\n" in run("qemu-img", "info", disk.path)


def test_a_truncated_image_is_told(raw: pathlib.Path) -> None:
    plain = converted(raw, "qcow2")
    os.truncate(plain, plain.stat().st_size - (1 << 17))
    with (
        pytest.raises(AgentError, match=r"the image is broken"),
        throwaway(plain, "qcow2", 0, plain.parent),
    ):
        pytest.fail("it was taken")


def test_the_disk_is_gone_after_an_error_too(raw: pathlib.Path) -> None:
    with pytest.raises(ZeroDivisionError), throwaway(raw, "raw", 0, raw.parent):
        raise ZeroDivisionError
    assert list(raw.parent.parent.iterdir()) == [raw.parent]


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"\x28\xb5\x2f\xfd", "zstd: /"),
        (b"\xfd7zXZ\0", "xz: /"),
        (b"QFI\xfb\0\0\0\3" + bytes(200), "a: the image is broken: qemu-img: Could"),
        (b"PK\3\4", "a: the file is a ZIP archive"),
        (b"", "a: the file is empty"),
    ],
)
def test_what_is_no_image_is_told_with_the_reason(
    head: bytes, message: str, raw: pathlib.Path
) -> None:
    broken = raw.with_name("a")
    broken.write_bytes(head)
    with (
        pytest.raises(AgentError, match=f"^{re.escape(message)}") as caught,
        throwaway(broken, "raw", 0, broken.parent),
    ):
        pytest.fail("it was taken")
    assert caught.value.kind == "boot"
    assert {path.name for path in raw.parent.parent.iterdir()} == {raw.parent.name}


# --- the key ----------------------------------------------------------------------------------


def root_of(disk: Disk, folder: pathlib.Path) -> pathlib.Path:
    """Return the root file system on `disk` as a file, after e2fsck."""
    plain, root = folder / "plain", folder / "root"
    run("qemu-img", "convert", "-f", disk.format, "-O", "raw", disk.path, plain)
    run("dd", f"if={plain}", f"of={root}", "bs=1M", "skip=2", "count=20", "status=none")
    run("fsck.ext4", "-f", "-n", root)
    return root


@pytest.mark.parametrize("driver", ["raw", "qcow2", "vmdk"])
@pytest.mark.parametrize("home", [[], ["mkdir /root"], ["mkdir /root", "mkdir /root/.ssh"]])
def test_the_key_is_let_in(
    driver: str, home: list[str], raw: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    for request in home:
        run("debugfs", "-w", "-R", request, f"{raw}?offset={ROOT}")
    image = raw if driver == "raw" else converted(raw, driver)
    before = digest(image)
    with throwaway(image, driver, 64, image.parent) as disk:
        key = give_key(disk)
        public = key.with_name("key.pub").read_text()
        assert public.startswith("ssh-ed25519 ")
        assert run("ssh-keygen", "-y", "-f", key).split()[:2] == public.split()[:2]
        assert key.stat().st_mode & 0o777 == 0o600
        root = root_of(disk, tmp_path)
        assert run("debugfs", "-R", f"cat {KEYS}", root) == public
        for path, mode in ((KEYS, "0600"), ("/root/.ssh", "0700")):
            said = run("debugfs", "-R", f"stat {path}", root)
            assert re.search(rf"Mode:\s+{mode}\b", said)
            assert re.search(r"User:\s+0\s+Group:\s+0\b", said)
        said = run("debugfs", "-R", "stat /root", root)
        assert re.search(r"Mode:\s+07[05][05]\b", said), "sshd wants it closed to others' writing"
        left = {path.name for path in disk.path.parent.iterdir()}
        assert not left & {"before.img", "after.img"}
    assert digest(image) == before
    assert not key.exists()


def test_the_overlay_takes_only_what_differs(raw: pathlib.Path) -> None:
    with raw.open("r+b") as file:
        file.seek(MIB)
        file.write(random.Random(1).randbytes(MIB))  # noqa: S311
    with throwaway(converted(raw, "qcow2"), "qcow2", 0, raw.parent) as disk:
        give_key(disk)
        assert disk.path.stat().st_size < 3 * MIB


def refused(disk: Disk) -> AgentError:
    with pytest.raises(AgentError) as caught:
        give_key(disk)
    assert caught.value.kind == "boot"
    return caught.value


@pytest.mark.parametrize("driver", ["raw", "qcow2"])
def test_an_image_whose_root_is_no_ext4_is_refused_with_a_way_out(
    driver: str, raw: pathlib.Path
) -> None:
    with raw.open("r+b") as file:
        file.seek(ROOT)
        file.write(bytes(MIB))
    image = raw if driver == "raw" else converted(raw, driver)
    with throwaway(image, driver, 0, image.parent) as disk:
        error = refused(disk)
    assert str(error).startswith("the boot check's SSH key cannot be written: ")
    assert error.hint.startswith("--identity FILE ")


def test_an_empty_disk_is_refused_with_a_way_out(tmp_path: pathlib.Path) -> None:
    with (tmp_path / "disk.img").open("xb") as file:
        os.truncate(file.fileno(), MIB)
    assert refused(Disk(tmp_path / "disk.img")).hint.startswith("--identity FILE ")


def test_a_disk_without_a_linux_partition_is_refused_with_a_way_out(
    tmp_path: pathlib.Path,
) -> None:
    table(tmp_path / "disk.img", ESP)
    error = refused(Disk(tmp_path / "disk.img"))
    assert str(error) == "the image has no Linux partition"
    assert error.hint.startswith("--identity FILE ")


@pytest.mark.parametrize("end", ["\n", ""])
def test_keys_that_are_there_stay(end: str, raw: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "keys").write_text(f"ssh-ed25519 AAAA old{end}")
    for request in ("mkdir root", "mkdir root/.ssh", f"write {tmp_path}/keys {KEYS}"):
        run("debugfs", "-w", "-R", request, f"{raw}?offset={ROOT}")
    with throwaway(raw, "raw", 0, raw.parent) as disk:
        public = give_key(disk).with_suffix(".pub").read_text()
        said = run("debugfs", "-R", f"cat {KEYS}", root_of(disk, tmp_path))
    assert said == f"ssh-ed25519 AAAA old\n{public}"


def test_a_full_root_is_refused(raw: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "big").write_bytes(bytes([1]) * 30 * MIB)
    run("debugfs", "-w", "-R", f"write {tmp_path}/big big", f"{raw}?offset={ROOT}")
    with throwaway(raw, "raw", 0, raw.parent) as disk:
        refused(disk)


# --- where the root is ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "lines", "sector"),
    [
        ("gpt", [ESP, LINUX], 4096),
        ("gpt", ["1 : start=4096, size=2048, type=linux", LINUX.replace("4096,", "8192,")], 4096),
        (
            "gpt",
            [
                "2 : start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649",
                "1 : start=4096, size=2048, type=uefi",
                "3 : start=6144, size=2048, type=linux",
            ],
            6144,
        ),
        (
            "gpt",
            [
                "1 : start=2048, size=2048, type=uefi",
                "2 : start=4096, size=2048, type=xbootldr",
                "3 : start=6144, size=2048, type=linux",
            ],
            6144,
        ),
        ("dos", ["1 : start=2048, size=2048, type=83, bootable"], 2048),
        ("dos", ["1 : start=2048, size=2048, type=c", "2 : start=4096, size=2048, type=83"], 4096),
        (
            "dos",
            ["1 : start=16384, size=2048, type=b", "2 : start=18432, size=2048, type=83"],
            18432,
        ),
    ],
    ids=["efi", "two roots", "hybrid", "xbootldr", "legacy", "legacy+boot", "sd-card"],
)
def test_the_root_partition_is_found(
    label: str, lines: list[str], sector: int, tmp_path: pathlib.Path
) -> None:
    table(tmp_path / "disk.img", *lines, label=label, size=48 * MIB)
    assert root_offset(tmp_path / "disk.img") == sector * 512


def test_without_a_table_the_root_is_the_whole_disk(tmp_path: pathlib.Path) -> None:
    image = tmp_path / "disk.img"
    with image.open("xb") as file:
        os.truncate(file.fileno(), 24 * MIB)
    assert root_offset(image) == 0
    run("mke2fs", "-q", "-F", "-t", "ext4", image)
    assert root_offset(image) == 0
    give_key(Disk(image))
    said = run("debugfs", "-R", f"cat {KEYS}", image)
    assert said.startswith("ssh-ed25519 ")


@pytest.mark.parametrize("lines", [[], [ESP], ["1 : start=2048, size=2048, type=swap"]])
def test_a_table_without_a_linux_partition_is_refused(
    lines: list[str], tmp_path: pathlib.Path
) -> None:
    table(tmp_path / "disk.img", *lines)
    with pytest.raises(AgentError, match=r"^the image has no Linux partition$") as caught:
        root_offset(tmp_path / "disk.img")
    assert caught.value.kind == "boot"
