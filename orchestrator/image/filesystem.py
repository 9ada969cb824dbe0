"""File systems written straight into a slot of the image.

No mount, no root, no second copy, no clock.

ext4 takes the closure as a tar stream (`mke2fs -d -`, e2fsprogs >= 1.47.1 built with libarchive),
FAT is made by mkfs.vfat and filled by mtools. Every identifier and time is fixed, so the same input
gives the same bytes.
"""

import os
import pathlib
import subprocess
import uuid

from orchestrator.image.layout import (
    EXT4_BLOCK,
    EXT4_BYTES_PER_INODE,
    EXT4_JOURNAL,
    EXT4_RESERVED_PERCENT,
    MIB,
    Partition,
)

#: Nix gives every file of the store this time (seconds since 1970); so has everything else in an
#: image.
STORE_TIME = 1

#: FAT cannot tell times before 1980, mtools take this one from SOURCE_DATE_EPOCH:
#: 1980-01-01T00:00:00Z.
FAT_TIME = 315532800

SECTOR = 512


class FilesystemError(Exception):
    """A tool that makes a file system failed; the message has its name and its last words."""


def write_ext4(
    image: pathlib.Path,
    slot: Partition,
    *,
    label: str,
    identifier: uuid.UUID,
    hash_seed: uuid.UUID,
    closure: list[str],
    extra: pathlib.Path,
) -> None:
    """Make an ext4 of the store paths `closure` and, beside them, what the folder `extra` holds."""
    names = "".join(f"{path.lstrip('/')}\0" for path in sorted(closure))
    tar = [
        *(
            "tar",
            "--create",
            "--file=-",
            "--format=posix",
            "--pax-option=delete=atime,delete=ctime",
        ),
        *("--sort=name", "--owner=0", "--group=0", "--numeric-owner", f"--mtime=@{STORE_TIME}"),
        *("--directory=/", "--no-recursion", "--null", "--verbatim-files-from", "nix", "nix/store"),
        *("--recursion", "--files-from=-", f"--directory={extra}", "."),
    ]
    mke2fs = [
        *("mke2fs", "-q", "-F", "-t", "ext4", "-d", "-", "-L", label, "-U", str(identifier)),
        *("-b", str(EXT4_BLOCK), "-i", str(EXT4_BYTES_PER_INODE), "-m", str(EXT4_RESERVED_PERCENT)),
        *("-J", f"size={EXT4_JOURNAL // MIB}"),
        *(
            "-E",
            f"offset={slot.start},hash_seed={hash_seed},lazy_itable_init=1,root_owner=0:0,nodiscard",
        ),
        *(os.fspath(image), f"{slot.size // 1024}k"),
    ]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(STORE_TIME), "MKE2FS_SYNC": "0"}
    with subprocess.Popen(
        tar, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as source:
        assert source.stdin is not None and source.stderr is not None
        with subprocess.Popen(
            mke2fs, stdin=source.stdout, stderr=subprocess.PIPE, env=environment
        ) as sink:
            if source.stdout is not None:
                source.stdout.close()  # so that tar sees a broken pipe if mke2fs stops
            source.stdin.write(names.encode())
            source.stdin.close()
            complaints = sink.communicate()[1].decode(errors="replace")
        errors = source.stderr.read().decode(errors="replace")
    if sink.returncode != 0:
        raise FilesystemError(f"mke2fs: {_last(complaints) or f'exit code {sink.returncode}'}")
    if source.returncode != 0:
        raise FilesystemError(f"tar: {_last(errors) or f'exit code {source.returncode}'}")


def write_fat(
    image: pathlib.Path, slot: Partition, *, label: str, serial: uuid.UUID, tree: pathlib.Path
) -> None:
    """Make a FAT32 of the folder `tree`; its serial number is the first 32 bits of `serial`."""
    environment = {
        **os.environ,
        "SOURCE_DATE_EPOCH": str(FAT_TIME),
        "MTOOLS_SKIP_CHECK": "1",
        "TZ": "UTC",
    }
    mkfs = [
        *(
            "mkfs.vfat",
            "--invariant",
            "-F",
            "32",
            "-n",
            label,
            "-i",
            serial.hex[:8],
            "-S",
            str(SECTOR),
        ),
        *("-s", str(_sectors_per_cluster(slot.size))),
        *("--offset", str(slot.start // SECTOR), os.fspath(image), str(slot.size // 1024)),
    ]
    _run(mkfs, environment)
    # mcopy keeps the order of its arguments and, with -m, the files' own times: both are made equal
    # here.
    for path in [tree, *sorted(tree.rglob("*"))]:
        os.utime(path, (FAT_TIME, FAT_TIME))
    entries = [os.fspath(path) for path in sorted(tree.iterdir())]
    _run(
        ["mcopy", "-s", "-p", "-m", "-Q", "-i", f"{image}@@{slot.start}", *entries, "::/"],
        environment,
    )


def _sectors_per_cluster(size: int) -> int:
    """Cluster size for a FAT32 of `size` bytes.

    It must have at least 65,525 clusters, or firmware refuses it.

    The steps are those of Microsoft's FAT specification 1.03, page 20. Given explicitly because
    mkfs.vfat guesses from the size of the whole image.
    """
    return 1 if size <= 260 << 20 else 8


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FilesystemError(
            f"{command[0]}: {_last(done.stderr) or f'exit code {done.returncode}'}"
        )


def _last(text: str) -> str:
    """The last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
