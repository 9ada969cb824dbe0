"""Tests which disks run.sh lists and refuses, on trees like those of /sys and /proc."""

import pathlib
import shlex
import subprocess

import pytest

from orchestrator.shared.paths import ROOT

#: Disks as Linux describes them: real path below /sys/devices, then files and their content. The
#: values are those of a laptop with an NVMe disk, a SATA disk in LVM, a card reader on USB with a
#: card and an empty slot, a built-in SD slot, eMMC, and a virtual disk.
DISKS = {
    "pci0000:00/0000:00:1d.0/nvme/nvme0/block/nvme0n1": {
        "size": "1000215216",
        "dev": "259:0",
        "removable": "0",
        "ro": "0",
        "device/model": "Samsung SSD 980 500GB       ",
        "nvme0n1p1/dev": "259:1",
        "nvme0n1p1/partition": "1",
        "nvme0n1p1/size": "2048",
        "nvme0n1p2/dev": "259:2",
        "nvme0n1p2/partition": "2",
        "nvme0n1p2/size": "2048",
    },
    "pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda": {
        "size": "976773168",
        "dev": "8:0",
        "removable": "0",
        "ro": "0",
        "device/vendor": "ATA     ",
        "device/model": "WDC WD5000LPLX-0",
        "sda1/dev": "8:1",
        "sda1/partition": "1",
        "sda1/size": "2048",
        "sda1/holders/dm-0/dev": "252:0",
        "sda1/holders/dm-0/dm/name": "data-films",
    },
    "pci0000:00/0000:00:14.0/usb1/1-4/1-4:1.0/host2/target2:0:0/2:0:0:0/block/sdb": {
        "size": "62333952",
        "dev": "8:16",
        "removable": "1",
        "ro": "0",
        "device/vendor": "Generic ",
        "device/model": "MassStorageClass",
        "sdb1/dev": "8:17",
        "sdb1/partition": "1",
        "sdb1/size": "2048",
    },
    "pci0000:00/0000:00:14.0/usb1/1-4/1-4:1.0/host2/target2:0:0/2:0:0:1/block/sdc": {
        "size": "0",
        "dev": "8:32",
        "removable": "1",
        "ro": "0",
        "device/vendor": "Generic ",
        "device/model": "MassStorageClass",
    },
    "platform/emmc2bus/fe340000.mmc/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0": {
        "size": "31116288",
        "dev": "179:0",
        "removable": "0",
        "ro": "1",
        "device/type": "SD",
        "device/name": "SC16G",
    },
    "platform/emmc2bus/fe340001.mmc/mmc_host/mmc1/mmc1:0001/block/mmcblk1": {
        "size": "15269888",
        "dev": "179:8",
        "removable": "0",
        "ro": "0",
        "device/type": "MMC",
        "device/name": "DF4016",
    },
    "pci0000:00/0000:00:02.0/virtio1/block/vda": {
        "size": "536870912",
        "dev": "254:0",
        "removable": "0",
        "ro": "0",
        "device/vendor": "0x1af4",
    },
    "virtual/block/zram0": {"size": "16777216", "dev": "253:0", "removable": "0", "ro": "0"},
    "virtual/block/loop0": {"size": "8192", "dev": "7:0", "removable": "0", "ro": "0"},
    "virtual/block/dm-0": {
        "size": "2048",
        "dev": "252:0",
        "removable": "0",
        "ro": "0",
        "dm/name": "data-films",
    },
}

#: The root is btrfs, whose mounts have numbers of their own.
MOUNTS = """\
21 1 0:20 / /proc rw - proc proc rw
25 1 0:31 /@ / rw,noatime shared:1 - btrfs /dev/nvme0n1p2 rw
26 25 259:1 / /boot rw shared:2 - vfat /dev/nvme0n1p1 rw
"""

SWAPS = "Filename\tType\tSize\tUsed\tPriority\n"
CARD, LOCKED, EMMC, VIRTUAL, SATA = "sdb", "mmcblk0", "mmcblk1", "vda", "sda"

#: Last line of an error about arguments.
SEE = "see: docs/errors.md#usage\n"


class Computer:
    """A computer with `DISKS`; `mounts` and `swaps` are added to its own."""

    def __init__(self, folder: pathlib.Path, mounts: str = "", swaps: str = "") -> None:
        self._folder = folder
        for place, files in DISKS.items():
            disk = folder / "sys/devices" / place
            for name, text in files.items():
                path = disk / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{text}\n")
            self._link("class/block", disk)
            if "/dm-" not in place:
                self._link("block", disk)
            for part in disk.glob(f"{disk.name}*"):
                self._link("class/block", part)
        (folder / "proc/self").mkdir(parents=True)
        (folder / "proc/self/mountinfo").write_text(MOUNTS + mounts)
        (folder / "proc/swaps").write_text(SWAPS + swaps)

    def _link(self, group: str, target: pathlib.Path) -> None:
        link = self._folder / "sys" / group / target.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)

    def run(self, program: str, *, yes: bool = False) -> subprocess.CompletedProcess[str]:
        """Run `program` with the functions of caller/disks.sh."""
        place = shlex.quote(str(self._folder))
        setup = f"""
            sys={place}/sys proc={place}/proc state={place} yes={"1" if yes else ""} stopped=
            tab=$(printf '\\t') anew='list the disks'
            . {ROOT}/caller/say.sh; . {ROOT}/caller/disks.sh
            """
        return subprocess.run(
            ["sh", "-uc", setup + program], capture_output=True, text=True, check=False
        )

    def check(self, disk: str, size: int = 1_000_000_000, *, yes: bool = False) -> tuple[int, str]:
        """Return exit code and messages of the check of a disk for an image of `size` bytes."""
        done = self.run(f"check_disk {disk} /dev/{disk} {size}", yes=yes)
        assert done.stdout == ""
        return done.returncode, done.stderr


def test_the_list_has_what_could_be_written_to(tmp_path: pathlib.Path) -> None:
    computer = Computer(tmp_path, "40 25 8:17 / /media/me/My\\040card rw - ext4 /dev/sdb1 rw\n")
    done = computer.run("list_disks")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "DEVICE        SIZE      KIND     WHERE      MODEL                     USED AS\n"
        "/dev/mmcblk0  15.9 GB   SD card  removable  SC16G\n"
        "/dev/mmcblk1  7.8 GB    eMMC     inside     DF4016\n"
        "/dev/nvme0n1  512.1 GB  NVMe     inside     Samsung SSD 980 500GB     this system\n"
        "/dev/sda      500.1 GB  SATA     inside     ATA WDC WD5000LPLX-0      volume data-films\n"
        "/dev/sdb      31.9 GB   USB      removable  Generic MassStorageClass  /media/me/My card\n"
        "/dev/vda      274.9 GB  virtual  inside\n"
    )


def test_a_card_is_taken(tmp_path: pathlib.Path) -> None:
    assert Computer(tmp_path).check(CARD) == (0, "")


@pytest.mark.parametrize(
    ("disk", "size", "message", "way_out"),
    [
        ("nvme0n1", 1, "/dev/nvme0n1 is the disk of the running system", "list the disks"),
        ("nvme0n1p2", 1, "/dev/nvme0n1p2 is a partition", "name the whole disk: /dev/nvme0n1"),
        ("sdb1", 1, "/dev/sdb1 is a partition", "name the whole disk: /dev/sdb"),
        ("sdc", 1, "/dev/sdc has no card in it", "put the card in; list the disks"),
        (LOCKED, 1, "/dev/mmcblk0 is read-only", "move the lock switch of the card or adapter"),
        (
            SATA,
            1,
            "/dev/sda has a volume that is open: data-films",
            "close it (sudo dmsetup remove data-films, or mdadm --stop for RAID)",
        ),
        ("dm-0", 1, "/dev/dm-0 is not a disk or card", "list the disks"),
        ("zram0", 1, "/dev/zram0 is not a disk or card", "list the disks"),
        (
            CARD,
            62333952 * 512 + 1,
            "/dev/sdb is too small: it has 31.9 GB, the image needs 31.9 GB",
            "use a larger one",
        ),
    ],
)
def test_a_wrong_disk_is_refused_even_with_yes(
    disk: str, size: int, message: str, way_out: str, tmp_path: pathlib.Path
) -> None:
    found = Computer(tmp_path).check(disk, size, yes=True)
    assert found == (2, f"error: {message}\ntry: {way_out}\n{SEE}")


def test_a_card_that_is_just_large_enough_is_taken(tmp_path: pathlib.Path) -> None:
    assert Computer(tmp_path).check(CARD, 62333952 * 512) == (0, "")


@pytest.mark.parametrize(
    ("disk", "what"), [(EMMC, "eMMC, DF4016"), (VIRTUAL, "virtual"), ("loop0", "loop device")]
)
def test_a_disk_inside_the_computer_needs_yes(disk: str, what: str, tmp_path: pathlib.Path) -> None:
    computer = Computer(tmp_path)
    assert computer.check(disk, 1) == (
        2,
        (
            f"error: /dev/{disk} ({what}) is a disk inside this computer\n"
            f"try: add --yes if you mean it; list the disks\n{SEE}"
        ),
    )
    assert computer.check(disk, 1, yes=True) == (0, "")


@pytest.mark.parametrize(
    "line",
    [
        "40 25 8:17 / /media/it's\\040a rw,x shared:3 master:4 - ext4 /dev/sdb1 rw",
        "40 25 0:44 / /media/it's\\040a rw,x - btrfs /dev/sdb1 rw",
        "40 25 8:16 / /media/it's\\040a rw,x - vfat /dev/sdb rw",
        "40 25 8:17 / /media/it's\\040a rw,x - vfat /dev/disk/by-label/CARD rw",
    ],
)
def test_a_mounted_card_is_refused_with_the_command(line: str, tmp_path: pathlib.Path) -> None:
    code, said = Computer(tmp_path, f"{line}\n").check(CARD, yes=True)
    assert code == 2
    assert said == (
        f"error: /dev/sdb is mounted: /media/it's a\ntry: sudo umount '/media/it'\\''s a'\n{SEE}"
    )


@pytest.mark.parametrize(
    "line",
    [
        "40 25 252:0 / /home rw - ext4 /dev/mapper/data-films rw",
        "40 25 0:50 / /nix rw - btrfs /dev/mapper/data-films rw",
    ],
)
def test_a_volume_with_the_system_makes_its_disk_the_systems(
    line: str, tmp_path: pathlib.Path
) -> None:
    code, said = Computer(tmp_path, f"{line}\n").check(SATA, yes=True)
    assert (code, said.splitlines()[0]) == (2, "error: /dev/sda is the disk of the running system")


def test_swap_is_the_systems(tmp_path: pathlib.Path) -> None:
    computer = Computer(tmp_path, swaps="/dev/sdb1                partition\t8388604\t0\t-2\n")
    code, said = computer.check(CARD, yes=True)
    assert (code, said.splitlines()[0]) == (2, "error: /dev/sdb is the disk of the running system")


def test_a_disks_name_cannot_write_to_the_terminal(tmp_path: pathlib.Path) -> None:
    computer = Computer(tmp_path)
    (model,) = tmp_path.glob("sys/devices/**/sdb/device/model")
    model.write_text("Fl\x1b[2Jash\x9b\n")
    done = computer.run("list_disks")
    assert "Generic Fl?[2Jash?" in done.stdout
