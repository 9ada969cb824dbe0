"""Makes a throwaway disk from a delivered image, and an SSH key for one boot check.

A raw image is copied as a sparse file. An image of another format gets a QEMU overlay, so that the
delivered file itself is booted.
"""

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator

from orchestrator.agents import room
from orchestrator.agents.boot.qemu import Disk, device_of
from orchestrator.agents.failure import AgentError, disk_full
from orchestrator.image import magic
from orchestrator.shared import command as programs
from orchestrator.shared.disk_formats import DISK_FORMATS

#: Partition types of a Linux file system: GPT's generic one, and the MBR's.
LINUX_PARTITIONS = frozenset({"0FC63DAF-8483-4772-8E79-3D69D8477DE4", "83"})

#: File in the guest with the SSH keys that may log in as root.
KEYS = "/root/.ssh/authorized_keys"

OWN_KEY = "--identity FILE logs in with a key that the image already trusts"

#: Exit code of `qemu-img check` for an image that only has clusters that nothing uses.
LEAKED = 3

#: Size of the pieces that are copied into an overlay: a qcow2 cluster.
CLUSTER = 1 << 16


@contextlib.contextmanager
def throwaway(
    image: pathlib.Path, disk_format: str, grow_mib: int, place: pathlib.Path
) -> Iterator[Disk]:
    """Make a disk with the content of `image`, at least `grow_mib` large; remove it afterwards.

    It lies in the folder `place`.
    """
    with (
        tempfile.TemporaryDirectory(dir=place) as folder,
        _full_disk_told(pathlib.Path(folder)),
    ):
        here = pathlib.Path(folder)
        try:
            kind = magic.kind_of(image)
            if kind.packed:
                plain = here / "plain.img"
                with plain.open("wb") as target:
                    _run([kind.packed, "-d", "-c", os.fspath(image)], stdout=target)
                kind, image = magic.kind_of(plain), plain
        except magic.NoImageError as error:
            raise AgentError(f"{image.name}: {error}", hint=error.hint, kind="boot") from error
        # What the orchestrator could not see: the format of a compressed image.
        driver = DISK_FORMATS[kind.disk_format].driver
        if driver != DISK_FORMATS[disk_format].driver:
            disk_format = kind.disk_format
        if DISK_FORMATS[disk_format].examined == "check":
            _check(image, driver)
        size = max(grow_mib << 20, virtual_size(Disk(image, driver)))
        if driver == "raw":
            disk = Disk(here / "disk.img", device=device_of(disk_format))
            _run(["cp", "--sparse=always", os.fspath(image), os.fspath(disk.path)])
            disk.path.chmod(0o600)
            os.truncate(disk.path, size)
        else:
            disk = Disk(here / "overlay.qcow2", "qcow2")
            backing = ["-b", os.fspath(image.resolve()), "-F", driver]
            _run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(disk.path), str(size)])
        yield disk


def virtual_size(disk: Disk) -> int:
    """Return the virtual size of `disk` in bytes."""
    command = ["qemu-img", "info", "--output=json", "-f", disk.format, os.fspath(disk.path)]
    return int(json.loads(_run(command))["virtual-size"])


def give_key(disk: Disk) -> pathlib.Path:
    """Make a key pair, authorize it for root on `disk`, and return the private key's path."""
    key = disk.path.parent / "key"
    _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "boot check", "-f", os.fspath(key)])
    if disk.format == "raw":
        _write_key(disk.path, key)
        return key
    before, after = disk.path.parent / "before.img", disk.path.parent / "after.img"
    _run(["qemu-img", "convert", "-f", disk.format, "-O", "raw", str(disk.path), str(before)])
    _run(["cp", "--sparse=always", os.fspath(before), os.fspath(after)])
    _write_key(after, key)
    _transfer(before, after, disk)
    before.unlink()
    after.unlink()
    return key


def _write_key(raw: pathlib.Path, key: pathlib.Path) -> None:
    # Existing keys stay. debugfs cannot overwrite a file, so the old file is removed first. Its
    # mkdir would replace an existing folder, so only missing ones are made.
    place = f"{raw}?offset={root_offset(raw)}"

    def ask(request: str) -> str:
        command = ["debugfs", "-R", request, place]
        return programs.run(command, check=False, fails=_failed).text

    folders = [str(parent) for parent in reversed(pathlib.PurePosixPath(KEYS).parents[:-1])]
    keys = ask(f"cat {KEYS}").rstrip("\n")
    allowed = key.with_name("allowed")
    allowed.write_text(f"{keys}\n{key.with_suffix('.pub').read_text()}".lstrip("\n"))
    commands = [
        *(f"mkdir {folder}" for folder in folders if "Inode:" not in ask(f"stat {folder}")),
        *([f"rm {KEYS}"] if "Inode:" in ask(f"stat {KEYS}") else []),
        f"write {allowed} {KEYS}",
        f"sif {KEYS} mode 0100600",
        f"sif {folders[-1]} mode 040700",
        "quit",
    ]
    script = raw.parent / "debugfs"
    script.write_text("".join(f"{command}\n" for command in commands))
    # debugfs exits with 0 even if it could not open the file system: check its output.
    done = programs.run(
        ["debugfs", "-w", "-f", script, place], stderr=programs.WITH_STDOUT, check=False
    )
    if done.code != 0 or "Allocated inode" not in done.text:
        raise AgentError(
            "the boot check's SSH key cannot be written: "
            f"{done.last if done.lines else 'no ext4 root?'}",
            hint=OWN_KEY,
            kind="boot",
        )


def _transfer(before: pathlib.Path, after: pathlib.Path, disk: Disk) -> None:
    """Copy the pieces of `after` that differ from `before` into the overlay `disk`."""
    piece = disk.path.parent / "piece"
    with before.open("rb") as left, after.open("rb") as right:
        at = 0
        while new := right.read(CLUSTER):
            if new != left.read(CLUSTER):
                piece.write_bytes(new)
                write = f"write -q -s {piece} {at} {len(new)}"
                _run(["qemu-io", "-f", disk.format, "-c", write, os.fspath(disk.path)])
            at += len(new)


def root_offset(raw: pathlib.Path) -> int:
    """Return the offset of the first Linux partition of `raw`; 0 without a partition table."""
    done = programs.run(["sfdisk", "--json", raw], check=False, fails=_failed)
    if done.code != 0:
        return 0
    table = json.loads(done.stdout)["partitiontable"]
    starts = [
        part["start"]
        for part in table.get("partitions", [])
        if part["type"].upper() in LINUX_PARTITIONS
    ]
    if not starts:
        raise AgentError("the image has no Linux partition", hint=OWN_KEY, kind="boot")
    return int(starts[0]) * int(table.get("sectorsize", 512))


def _check(image: pathlib.Path, driver: str) -> None:
    """Raise `AgentError` if tables of the image are broken; clusters that are lost do no harm."""
    command = ["qemu-img", "check", "-q", "-f", driver, os.fspath(image)]
    done = programs.run(command, stderr=programs.WITH_STDOUT, check=False)
    if done.code not in {0, LEAKED}:
        raise AgentError(
            f"{image.name}: the image is broken: {done.last if done.lines else 'no reason told'}",
            hint="copy or download it again",
            kind="boot",
        )


def _run(command: list[str], stdout: programs.Stream = programs.PIPE) -> str:
    return programs.run(command, stdout=stdout, fails=_failed).text


def _failed(words: str) -> AgentError:
    return AgentError(words, kind="boot")


@contextlib.contextmanager
def _full_disk_told(folder: pathlib.Path) -> Iterator[None]:
    """Turn a tool's word of a full disk into our own, if the disk of `folder` is full."""
    disk = room.Room(folder)
    try:
        with disk.watched():
            yield
    except AgentError as error:
        if room.said(str(error)) and disk.scarce:
            raise disk_full(str(error)) from error
        raise
