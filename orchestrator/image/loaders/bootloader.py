"""Makes boot loader files from a bootspec, for the boot partition or /boot.

Names and texts are those of NixOS' own `systemd-boot-builder.py` and `extlinux-conf-builder.sh`, so
that the first `nixos-rebuild switch` on the device finds generation 1 and reuses its kernel.
"""

import dataclasses
import pathlib
import re

from orchestrator.image.bootspec import Bootspec
from orchestrator.shared.architectures import SYSTEMS
from orchestrator.shared.spec import BootLoader, Extlinux, SpecError

_STORE = pathlib.PurePosixPath("/nix/store")

#: Number of the generation that an image contains: a system profile's first one.
GENERATION = 1

#: Content by path on a boot partition: a text, or the path of a file to copy.
Files = dict[str, str | pathlib.Path]


@dataclasses.dataclass(frozen=True)
class BootEntry:
    """One entry of a boot menu: files in the store and the kernel command line."""

    name: str
    title: str
    version: str
    sort_key: str
    kernel: pathlib.Path
    initrds: tuple[pathlib.Path, ...]
    device_tree: pathlib.Path | None
    options: str


def boot_entries(boot: Bootspec) -> list[BootEntry]:
    """Return the boot menu's entries: the system first, then its specialisations."""
    entries = []
    for name, system in (("", boot), *boot.specialisations):
        entries.append(
            BootEntry(
                name=name,
                title=f"NixOS ({name})" if name else "NixOS",
                version=f"Generation {GENERATION} {system.label}",
                sort_key=system.sort_key,
                kernel=_resolve(system.kernel),
                initrds=tuple(_resolve(initrd) for initrd in system.initrds),
                device_tree=_resolve(system.device_tree) if system.device_tree else None,
                options=" ".join([f"init={system.init}", *system.kernel_params]),
            )
        )
    return entries


def systemd_boot_files(system: str, loader: BootLoader) -> Files:
    """Return the ESP's files: systemd-boot under both its names, and loader.conf."""
    if system not in SYSTEMS:
        raise SpecError(f"bootspec.system: no EFI boot loader is known for {system}")
    program = pathlib.Path(loader.systemdBoot)
    timeout = "menu-force" if loader.timeout < 0 else str(loader.timeout)
    lines = [f"timeout {timeout}", "default nixos-*"]
    lines += [] if loader.editor else ["editor 0"]
    lines += [f"console-mode {loader.consoleMode}"] if loader.consoleMode else []
    return {
        f"EFI/BOOT/{SYSTEMS[system].efi_name}": program,
        f"EFI/systemd/{program.name}": program,
        "loader/loader.conf": _text(lines),
    }


def add_extra_files(loader: BootLoader, files: Files) -> None:
    """Add the configuration's own files and entries to `files` of the partition with the entries.

    An empty file of the same path below `.extra-files` lets `nixos-rebuild` remove each one later.
    Raises `SpecError` for a path that is taken.
    """
    extra: Files = {name: pathlib.Path(source) for name, source in loader.extraFiles.items()}
    extra |= {f"loader/entries/{name}": text for name, text in loader.extraEntries.items()}
    for name, content in extra.items():
        path = _as_spelled(name, files)
        if path in files:
            raise SpecError(f"spec.bootLoader: {name} is a file of the boot loader's own")
        files[path] = content
        files[f"EFI/nixos/.extra-files/{name}"] = ""


def _as_spelled(name: str, files: Files) -> str:
    """Return `name` with the folders that are in `files` as they are there: FAT has one of each."""
    spelled: tuple[str, ...] = ()
    for part in name.split("/"):
        depth = len(spelled)
        known = (parts for one in files if len(parts := tuple(one.split("/"))) > depth)
        inside = (parts[depth] for parts in known if parts[:depth] == spelled)
        spelled += (next((one for one in inside if one.lower() == part.lower()), part),)
    return "/".join(spelled)


def bls_files(entries: list[BootEntry]) -> Files:
    """Return type 1 entries of the Boot Loader Specification, with their kernels and initrds."""
    files: Files = {}
    for entry in entries:
        lines = [f"title {entry.title}", f"version {entry.version}"]
        lines.append(f"linux {_efi_copy(entry.kernel, files)}")
        lines += [f"initrd {_efi_copy(initrd, files)}" for initrd in entry.initrds]
        lines.append(f"options {entry.options}")
        if entry.device_tree:
            lines.append(f"devicetree {_efi_copy(entry.device_tree, files)}")
        lines.append(f"sort-key {entry.sort_key}")
        name = f"nixos-generation-{GENERATION}{_special(entry)}.conf"
        files[f"loader/entries/{name}"] = _text(lines)
    return files


def grub_files(
    entries: list[BootEntry], timeout: int, *, kernels: str | None, editor: bool = True
) -> Files:
    """Return `grub/grub.cfg` and the kernels and initrds that it names.

    Without `editor` nobody is a superuser, and GRUB lets only superusers edit an entry or use its
    command line (GRUB's manual, "Authentication and authorisation").

    `kernels` is their folder on the boot partition: "EFI/nixos", shared with `bls_files`, or GRUB's
    own. None means that GRUB reads them from the store.
    """
    files: Files = {}
    lines = [
        "serial --unit=0 --speed=115200",
        "terminal_input console serial",
        "terminal_output console serial",
        f"set timeout={timeout}",
        *([] if editor else ['set superusers=""']),
    ]
    free = "" if editor else " --unrestricted"
    for entry in entries:

        def place(path: pathlib.Path) -> str:
            if kernels is None:
                return str(path)
            if kernels == "EFI/nixos":
                return _efi_copy(path, files)
            files[f"{kernels}/{_clean_name(path)}"] = path
            return f"/{kernels}/{_clean_name(path)}"

        initrds = " ".join(place(initrd) for initrd in entry.initrds)
        lines += [
            f'menuentry "{entry.title} - {entry.version}" --id "{_grub_id(entry)}"{free} {{',
            f"  linux {place(entry.kernel)} {_grub_quote(entry.options)}",
            *([f"  initrd {initrds}"] if initrds else []),
            "}",
        ]
    files["grub/grub.cfg"] = _text(lines)
    return files


def extlinux_files(entries: list[BootEntry], extlinux: Extlinux, timeout: int) -> Files:
    """Return `extlinux/extlinux.conf` and the files that it names, for /boot.

    U-Boot reads extlinux.conf from the first partition that is marked active.
    """
    files: Files = {}
    # TIMEOUT is in tenths of a second, and 0 waits for ever. For 0 seconds NixOS shows no menu.
    tenths = 0 if timeout < 0 else max(1, 10 * timeout)
    lines = [
        "# Generated file, all changes will be lost on nixos-rebuild!",
        "",
        "# Change this to e.g. nixos-42 to temporarily boot to an older configuration.",
        "DEFAULT nixos-default",
        "",
        f"TIMEOUT {tenths}",
    ]
    if timeout:
        lines.append("MENU TITLE ------------------------------------------------------------")
    for entry in entries:
        menu = "Default" if not entry.name else f"Configuration {GENERATION}-{entry.name}"
        lines += [
            "",
            f"LABEL nixos-{f'{GENERATION}-{entry.name}' if entry.name else 'default'}",
            f"  MENU LABEL NixOS - {menu}",
            f"  LINUX ../nixos/{_extlinux_copy(entry.kernel, files)}",
            *(f"  INITRD ../nixos/{_extlinux_copy(one, files)}" for one in entry.initrds[:1]),
            f"  APPEND {entry.options}",
        ]
        if len(entry.initrds) > 1:
            raise SpecError("extlinux: U-Boot loads one initrd, the bootspec has more")
        if extlinux.deviceTree:
            lines += _device_trees(entry, extlinux.deviceTreeName, files)
    files["extlinux/extlinux.conf"] = _text(lines)
    return files


def _device_trees(entry: BootEntry, name: str, files: Files) -> list[str]:
    """Return the extlinux lines for the kernel's device trees, and add those trees to `files`."""
    toplevel = pathlib.Path(entry.options.split()[0].removeprefix("init=")).parent
    folder = toplevel / "dtbs"
    if not folder.exists():
        if name:
            raise SpecError(f"{toplevel}: has no device trees, {name} is wanted")
        return []
    trees = _resolve(str(folder))
    for file in sorted(trees.rglob("*")):
        if file.is_file():
            inner = file.relative_to(trees).as_posix()
            files[f"nixos/{_clean_name(trees)}/{inner}"] = file
    if name and not (trees / name).is_file():
        raise SpecError(f"{trees}: has no device tree {name}")
    return (
        [f"  FDT ../nixos/{_clean_name(trees)}/{name}"]
        if name
        else [f"  FDTDIR ../nixos/{_clean_name(trees)}"]
    )


def _special(entry: BootEntry) -> str:
    return f"-specialisation-{entry.name}" if entry.name else ""


def _grub_id(entry: BootEntry) -> str:
    return f"nixos-generation-{GENERATION}{_special(entry)}"


def _grub_quote(options: str) -> str:
    """Quote the kernel command line for GRUB's script language."""
    return " ".join(
        word
        if re.fullmatch(r"[A-Za-z0-9_./:,=@%+-]+", word)
        else "'" + word.replace("'", "'\\''") + "'"
        for word in options.split()
    )


def _resolve(source: str) -> pathlib.Path:
    """Resolve the links of a bootspec path; the file must exist in the store."""
    try:
        real = pathlib.Path(source).resolve(strict=True)
    except OSError as error:
        raise SpecError(
            f"{source}: named by the bootspec, but not in the store: {error.strerror}"
        ) from error
    if not real.is_relative_to(_STORE) or not re.match(
        r"[0-9a-z]{32}-", real.relative_to(_STORE).parts[0]
    ):
        raise SpecError(f"{real}: named by the bootspec, but not in a store path")
    return real


def _efi_copy(source: pathlib.Path, files: Files) -> str:
    """Add `source` as `EFI/nixos/<store name>-<file>.efi`; returns its path on the ESP."""
    store_name = source.relative_to(_STORE).parts[0]
    name = f"{store_name}.efi" if source.name == store_name else f"{store_name}-{source.name}.efi"
    files[f"EFI/nixos/{name}"] = source
    return f"/EFI/nixos/{name}"


def _extlinux_copy(source: pathlib.Path, files: Files) -> str:
    files[f"nixos/{_clean_name(source)}"] = source
    return _clean_name(source)


def _clean_name(source: pathlib.Path) -> str:
    """Turn `/nix/store/<hash>-<name>/<file>` into one file name."""
    return source.relative_to(_STORE).as_posix().replace("/", "-")


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
