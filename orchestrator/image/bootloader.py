"""Boot loader files from a bootspec: a folder that becomes the EFI system partition.

Names and texts are those of NixOS' own `systemd-boot-builder.py`, so the first `nixos-rebuild
switch` on the device finds its predecessor and reuses the kernel.
"""

import pathlib
import re
import shutil

from orchestrator.image.spec import Bootspec, ImageSpec, SpecError

#: Suffix of the removable-media path `\\EFI\\BOOT\\BOOT<suffix>.EFI` (UEFI specification, section
#: 3.5.1.1).
EFI_SUFFIX = {
    "aarch64-linux": "AA64",
    "x86_64-linux": "X64",
    "i686-linux": "IA32",
    "riscv64-linux": "RISCV64",
}

_STORE = pathlib.PurePosixPath("/nix/store")


def write_esp(spec: ImageSpec, boot: Bootspec, target: pathlib.Path) -> None:
    """Fill the empty folder `target`.

    With systemd-boot, one entry (generation 1), its kernel and its initrd.
    """
    if boot.system not in EFI_SUFFIX:
        raise SpecError(f"bootspec.system: no EFI boot loader is known for {boot.system}")
    loader = pathlib.Path(spec.bootLoader.source)
    for folder in ("EFI/BOOT", "EFI/systemd", "EFI/nixos", "loader/entries"):
        (target / folder).mkdir(parents=True)
    shutil.copyfile(loader, target / f"EFI/BOOT/BOOT{EFI_SUFFIX[boot.system]}.EFI")
    shutil.copyfile(loader, target / "EFI/systemd" / loader.name)
    kernel, initrd = (
        _copy_efi(pathlib.Path(source), target) for source in (boot.kernel, boot.initrd)
    )
    entry = [
        "title NixOS",
        "sort-key nixos",
        f"version Generation 1 {boot.label}",
        f"linux {kernel}",
        f"initrd {initrd}",
        f"options init={boot.init} {' '.join(boot.kernel_params)}",
    ]
    _write(target / "loader/entries/nixos-generation-1.conf", entry)
    _write(target / "loader/loader.conf", [f"timeout {spec.bootLoader.timeout}", "default nixos-*"])


def _copy_efi(source: pathlib.Path, target: pathlib.Path) -> str:
    """Copy a kernel or initrd as `EFI/nixos/<store name>-<file>.efi`.

    Returns its path on the ESP.
    """
    try:
        real = source.resolve(strict=True)
    except OSError as error:
        raise SpecError(
            f"{source}: named by the bootspec, but not in the store: {error.strerror}"
        ) from error
    if not real.is_relative_to(_STORE) or not re.match(
        r"[0-9a-z]{32}-", real.relative_to(_STORE).parts[0]
    ):
        raise SpecError(f"{real}: is not in a store path")
    store_name = real.relative_to(_STORE).parts[0]
    name = f"{store_name}-{real.name}.efi"
    shutil.copyfile(real, target / "EFI/nixos" / name)
    return f"/EFI/nixos/{name}"


def _write(path: pathlib.Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))
