"""Entries of boot menus, made of a bootspec; each boot loader's module writes them down."""

import dataclasses
import os
import pathlib
import re

from orchestrator.image.bootspec import Bootspec
from orchestrator.shared.spec import SpecError
from orchestrator.shared.text import is_line

STORE = pathlib.PurePosixPath("/nix/store")

#: Number of the generation that an image contains: a system profile's first one.
GENERATION = 1

#: Content by path on a boot partition: a text, or the path of a file to copy.
Files = dict[str, str | pathlib.Path]


@dataclasses.dataclass(frozen=True)
class BootEntry:
    """One entry of a boot menu: files in the store and the kernel command line.

    `name` is the specialisation's, empty for the system itself. `identifier` is the entry's own in
    its menu. `label` is the bootspec's, which `version` has, too; `release` is NixOS' version
    alone. `extra_initrds` are paths on the boot partition, not in the store.
    """

    name: str
    identifier: str
    title: str
    label: str
    version: str
    release: str
    sort_key: str
    kernel: pathlib.Path
    initrd: pathlib.Path | None
    extra_initrds: tuple[str, ...]
    device_tree: pathlib.Path | None
    options: str


def boot_entries(boot: Bootspec, distribution: str = "NixOS") -> list[BootEntry]:
    """Return the boot menu's entries: the system first, then its specialisations."""
    entries = []
    for name, system in (("", boot), *boot.specialisations):
        entries.append(
            BootEntry(
                name=name,
                identifier=f"nixos-generation-{GENERATION}{name and f'-specialisation-{name}'}",
                title=f"{distribution} ({name})" if name else distribution,
                label=system.label,
                version=f"Generation {GENERATION} {system.label}",
                release=_release(system),
                sort_key=system.sort_key,
                kernel=resolve(system.kernel),
                initrd=resolve(system.initrd) if system.initrd else None,
                extra_initrds=system.extra_initrds,
                device_tree=resolve(system.device_tree) if system.device_tree else None,
                options=" ".join([f"init={system.init}", *system.kernel_params]),
            )
        )
    return entries


def _release(system: Bootspec) -> str:
    """Return NixOS' version, which its own builders of GRUB's and U-Boot's menus read from a file.

    The demo has no such file. The text becomes a part of menus: raises `SpecError` if it is more
    than one line, or has quotes.
    """
    version = f"{system.toplevel}/nixos-version"
    if not os.path.lexists(version):
        return system.label
    release = resolve(version).read_text(errors="replace").strip()
    if not is_line(release) or '"' in release or "'" in release:
        raise SpecError(f"{version}: this is no version: {release[:60]!r}")
    return release


def resolve(source: str) -> pathlib.Path:
    """Resolve the links of a bootspec path; the file must exist in the store."""
    try:
        real = pathlib.Path(source).resolve(strict=True)
    except OSError as error:
        raise SpecError(
            f"{source}: named by the bootspec, but not in the store: {error.strerror}"
        ) from error
    if not real.is_relative_to(STORE) or not re.match(
        r"[0-9a-z]{32}-", real.relative_to(STORE).parts[0]
    ):
        raise SpecError(f"{real}: named by the bootspec, but not in a store path")
    return real


def efi_name(source: pathlib.Path) -> str:
    """Return the name in `EFI/nixos` of a file of the store, `<store name>-<file>.efi`."""
    store_name = source.relative_to(STORE).parts[0]
    return f"{store_name}.efi" if source.name == store_name else f"{store_name}-{source.name}.efi"


def clean_name(source: pathlib.Path) -> str:
    """Turn `/nix/store/<hash>-<name>/<file>` into one file name."""
    return source.relative_to(STORE).as_posix().replace("/", "-")


def text(lines: list[str]) -> str:
    """Return a file's content, each line with its end."""
    return "".join(f"{line}\n" for line in lines)
