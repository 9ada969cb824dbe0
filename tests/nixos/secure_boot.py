"""A firmware with Secure Boot starts the image's programs if they are signed, and not otherwise.

    SYSTEMD_BOOT=FILE KERNEL=FILE pytest tests/nixos/secure_boot.py

The files are x86_64 EFI programs: systemd-bootx64.efi, and a kernel with EFI stub (bzImage). It
needs QEMU, sbsigntool, mtools and Debian's package ovmf, which has a firmware with a test key
enrolled, and that key.
"""

import os
import pathlib
import shutil
import subprocess
import time

import pytest

from orchestrator.image.bootspec import Bootspec
from orchestrator.image.loaders import bootloader, systemd_boot
from orchestrator.image.loaders.bootloader import Files
from orchestrator.image.loaders.signing import Signer
from orchestrator.shared.spec import BootLoader
from tests.unit.boot_systems import HASH

PROGRAM, KERNEL = (os.environ.get(name, "") for name in ("SYSTEMD_BOOT", "KERNEL"))
OVMF = pathlib.Path("/usr/share/OVMF")
TEST_KEY = pathlib.Path("/usr/share/ovmf/PkKek-1-snakeoil")

#: What the kernel says first, and what a firmware or systemd-boot says of a refused program.
STARTED = "Linux version"
REFUSED = ("Access Denied", "Security Violation", "Access denied", "Security violation")

#: Longest time of a boot under emulation, in seconds.
SECONDS = 100

pytestmark = [
    pytest.mark.skipif(not PROGRAM or not KERNEL, reason="SYSTEMD_BOOT and KERNEL name no files"),
    pytest.mark.needs("qemu-system-x86_64", "sbsign", "openssl", "mkfs.vfat", "mcopy", "sfdisk"),
    pytest.mark.timeout(3 * SECONDS),
]


def files_of(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """Return the ESP's files of a system without an initrd."""
    store = folder / "nix/store"
    top = store / f"{HASH}-system"
    top.mkdir(parents=True)
    shutil.copy(KERNEL, top / "bzImage")
    monkeypatch.setattr(bootloader, "STORE", store)
    boot = Bootspec(
        system="x86_64-linux",
        label="test",
        kernel=str(top / "bzImage"),
        init="/init",
        toplevel=str(top),
        kernel_params=("console=ttyS0", "panic=-1"),
    )
    loader = BootLoader(timeout=0, systemdBoot=PROGRAM)
    entries = systemd_boot.named(bootloader.boot_entries(boot), loader)
    files = systemd_boot.loader_files(boot.system, loader, entries)
    return files | systemd_boot.entry_files(entries, loader)


def make_disk(files: Files, folder: pathlib.Path) -> pathlib.Path:
    """Write an ESP with `files`."""
    disk, esp, tree = folder / "disk", folder / "esp", folder / "tree"
    for name, content in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content.read_bytes()
        (tree / name).write_bytes(data)
    for path, mib in ((disk, 66), (esp, 64)):
        with path.open("wb") as file:
            file.truncate(mib << 20)
    table = "label: gpt\nstart=2048, size=131072, type=uefi\n"
    subprocess.run(["sfdisk", "-q", disk], input=table, text=True, check=True)
    subprocess.run(["mkfs.vfat", "-F", "32", esp], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["mcopy", "-s", "-i", esp, *tree.iterdir(), "::"], check=True)
    with disk.open("r+b") as file:
        file.seek(1 << 20)
        file.write(esp.read_bytes())
    return disk


def boot(disk: pathlib.Path, folder: pathlib.Path) -> str:
    """Boot under OVMF with Secure Boot; returns what the serial console said until the end."""
    shutil.copy(OVMF / "OVMF_VARS_4M.snakeoil.fd", folder / "variables")
    flash = "if=pflash,format=raw,unit="
    command = [
        *("qemu-system-x86_64", "-machine", "q35,smm=on", "-m", "512", "-display", "none"),
        *("-global", "driver=cfi.pflash01,property=secure,value=on", "-nic", "none"),
        *("-drive", f"{flash}0,readonly=on,file={OVMF}/OVMF_CODE_4M.secboot.fd"),
        *("-drive", f"{flash}1,file={folder}/variables"),
        *("-drive", f"format=raw,file={disk}", "-serial", f"file:{folder}/serial", "-no-reboot"),
    ]
    with subprocess.Popen(command) as process:
        until = time.monotonic() + SECONDS
        said = ""
        while time.monotonic() < until and process.poll() is None:
            time.sleep(0.5)
            said = (folder / "serial").read_text(errors="replace")
            if STARTED in said or any(word in said for word in REFUSED):
                break
        process.kill()
    return said


@pytest.mark.parametrize(
    ("signs", "starts"),
    [("all", True), ("none", False), ("EFI/nixos", False), ("EFI/BOOT", False)],
    ids=["signed", "unsigned", "only the kernel", "only systemd-boot"],
)
def test_only_what_is_signed_starts(
    signs: str, starts: bool, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key", TEST_KEY.with_suffix(".pem")
    locked = str(TEST_KEY.with_suffix(".key"))
    unlock = ["openssl", "rsa", "-in", locked, "-passin", "pass:snakeoil", "-out", str(key)]
    subprocess.run(unlock, check=True, capture_output=True)
    files = files_of(tmp_path, monkeypatch)
    signed = Signer(str(key), str(certificate), tmp_path / "signed").signed(files)
    chosen = {
        name: signed[name] if signs == "all" or name.startswith(signs) else content
        for name, content in files.items()
    }
    said = boot(make_disk(chosen, tmp_path), tmp_path)
    assert (STARTED in said) is starts, said
    assert any(word in said for word in REFUSED) is not starts, said
