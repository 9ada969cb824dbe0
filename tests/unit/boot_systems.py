"""Made-up systems for tests of boot loaders: a store with kernels, a toplevel, its bootspec.

`CASES` are settings of systemd-boot, `LIMINE_CASES` of Limine. What NixOS' own program writes for
each of them is recorded in `tests/nixos/esp`, by `tests/nixos/loaders.py`.
"""

import dataclasses
import json
import pathlib
import typing

import pytest

from orchestrator.image.bootspec import (
    BOOTSPEC_V1,
    EXTRA_INITRD_V1,
    SPECIALISATION_V1,
    SYSTEMD_BOOT,
    Bootspec,
    read_bootspec,
)
from orchestrator.image.loaders import bootloader, limine, systemd_boot
from orchestrator.image.loaders.bootloader import Files
from orchestrator.shared.spec import BootLoader, GrubMenu, Limine

HASH = "0c7zvwjrlhqirf3z3q1k0l0r8bq9m5yd"
SYSTEM = f"/nix/store/{HASH}-nixos-system-made-up-26.11"
KERNEL, INITRD = f"{HASH}-linux-6.18-bzImage", f"{HASH}-initrd-initrd"
CONTENT = {
    "linux-6.18/bzImage": "kernel",
    "linux-6.18/dtbs/vendor/board.dtb": "tree",
    "linux-rt-6.18/bzImage": "another kernel",
    "initrd/initrd": "initrd",
    "initrd-fast": "an initrd that is a store path itself",
    "tree/vendor/board.dtb": "device tree",
    "program/systemd-bootx64.efi": "systemd-boot",
    "memtest.efi": "memtest",
    "custom.cpio": "a further initrd",
    "limine/share/limine/BOOTX64.EFI": "Limine",
    "limine-bios/limine-bios.sys": "Limine for a BIOS",
    "picture.png": "a picture",
    "art/picture.png": "another picture",
}

#: What the file names of systemd-boot's entries are made of.
Names = typing.Literal["content", "generation"]

#: Settings of systemd-boot, as fields of the image spec. `xbootldr` is the table with two FATs.
CASES: dict[str, dict[str, typing.Any]] = {
    "plain": {"timeout": 5},
    "no-editor": {"timeout": 0, "editor": False, "consoleMode": "max"},
    "forever": {"timeout": -1, "rebootForBitlocker": True, "distroName": "Mine"},
    "counting": {"timeout": 3, "tries": 4},
    "extras": {
        "timeout": 5,
        "extraFiles": {
            "efi/memtest86/memtest.efi": "memtest.efi",
            "custom.cpio": "custom.cpio",
        },
        "extraEntries": {"memtest86.conf": "title Memtest86+\nefi /efi/memtest86/memtest.efi\n"},
    },
    "xbootldr": {
        "timeout": 5,
        "xbootldr": True,
        "extraEntries": {"other.conf": "title Other\nefi /other.efi\n"},
    },
}

#: Settings of Limine, as fields of the image spec. `alone` is a system without specialisations.
LIMINE_CASES: dict[str, dict[str, typing.Any]] = {
    "limine": {"timeout": 5, "editor": False, "limine": {"head": "", "style": ""}},
    "limine-alone": {
        "alone": True,
        "timeout": -1,
        "distroName": "Mine",
        "limine": {
            "bios": "limine-bios",
            "checksums": False,
            "panic": True,
            "resolution": "1024x768",
            "head": "serial: yes\nverbose: yes",
            "wallpapers": ["picture.png", "art/picture.png"],
            "style": "wallpaper_style: tiled\nbackdrop: 2F302F\nterm_margin: 0\n",
            "entries": "/memtest86\n  protocol: chainload\n  path: boot():///limine/memtest.efi\n",
            "files": {"memtest.efi": "memtest.efi"},
        },
    },
}

#: Cases that NixOS had before 26.11, when entries had the generation's number.
OLD_CASES = ("plain", "no-editor", "forever", "xbootldr")


def make_store(folder: pathlib.Path) -> pathlib.Path:
    """Write the files of `CONTENT` as store paths below `folder`."""
    store = folder / "nix/store"
    for name, text in CONTENT.items():
        path = store / f"{HASH}-{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return store


def own_store(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Make a store, with a toplevel for `boot_of`, and have the assembler take it for Nix'."""
    store = make_store(folder)
    top = store / f"{HASH}-toplevel"
    top.mkdir()
    (top / "kernel").symlink_to(store / f"{HASH}-linux-6.18/bzImage")
    (top / "dtbs").symlink_to(store / f"{HASH}-linux-6.18/dtbs")
    monkeypatch.setattr(bootloader, "STORE", store)
    return store


def boot_of(store: pathlib.Path, **changes: object) -> Bootspec:
    """Return the bootspec of a system in `store`."""
    boot = Bootspec(
        system="aarch64-linux",
        label="NixOS demo",
        kernel=str(store / f"{HASH}-toplevel/kernel"),
        initrd=str(store / f"{HASH}-initrd/initrd"),
        init=str(store / f"{HASH}-toplevel/init"),
        toplevel=str(store / f"{HASH}-toplevel"),
        kernel_params=("console=ttyAMA0", "loglevel=4"),
    )
    return dataclasses.replace(boot, **changes)  # type: ignore[arg-type]


def make_system(folder: pathlib.Path, store: pathlib.Path, *, extras: bool) -> pathlib.Path:
    """Write a toplevel with its bootspec: the system, and two specialisations of it."""

    def document(name: str, **changes: str) -> dict[str, object]:
        top = SYSTEM + name
        main = {
            "system": "x86_64-linux",
            "label": "NixOS 26.11 (Made up)",
            "kernel": f"{store}/{HASH}-linux-6.18/bzImage",
            "kernelParams": ["console=ttyS0,115200", "quiet", "loglevel=4"],
            "initrd": f"{store}/{HASH}-initrd/initrd",
            "init": f"{top}/init",
            "toplevel": top,
        }
        further = {EXTRA_INITRD_V1: {"paths": ["custom.cpio"]}} if extras else {}
        return {BOOTSPEC_V1: main | changes, SYSTEMD_BOOT: {}, SPECIALISATION_V1: {}, **further}

    fast = document(
        "-fast",
        kernel=f"{store}/{HASH}-linux-rt-6.18/bzImage",
        initrd=f"{store}/{HASH}-initrd-fast",
        label="fast",
    )
    fast[SYSTEMD_BOOT] = {"sortKey": "a-fast"}
    whole = document("")
    whole[SYSTEMD_BOOT] = {
        "sortKey": "nixos",
        "devicetree": f"{store}/{HASH}-tree/vendor/board.dtb",
    }
    whole[SPECIALISATION_V1] = {"fast": fast, "quiet": document("-quiet")}
    top = folder / "toplevel"
    for name in ("", "specialisation/fast", "specialisation/quiet"):
        (top / name).mkdir(parents=True, exist_ok=True)
    (top / "boot.json").write_text(json.dumps(whole))
    return top


def loader_of(case: str, names: Names, store: pathlib.Path) -> BootLoader:
    """Return the settings of a case, with the paths of `store`."""
    given = {name: value for name, value in CASES[case].items() if name != "xbootldr"}
    extra = given.get("extraFiles", {})
    given["extraFiles"] = {name: f"{store}/{HASH}-{source}" for name, source in extra.items()}
    program = f"{store}/{HASH}-program/systemd-bootx64.efi"
    return BootLoader(**given, entryNames=names, systemdBoot=program)


def our_files(case: str, names: Names, folder: pathlib.Path) -> dict[str, dict[str, str]]:
    """Return what the assembler writes, by partition. `bootloader.STORE` must be `folder`'s."""
    store = make_store(folder)
    boot = read_bootspec(make_system(folder, store, extras=case == "extras"))
    loader = loader_of(case, names, store)
    entries = systemd_boot.named(bootloader.boot_entries(boot, loader.distroName), loader)
    esp = systemd_boot.loader_files(boot.system, loader, entries)
    files = systemd_boot.entry_files(entries, loader)
    systemd_boot.add_extra_files(loader, entries, files)
    trees = [esp, files] if CASES[case].get("xbootldr") else [esp | files]
    # FAT's names have no case, so they are compared in small letters.
    return {
        name: {path.lower(): content for path, content in texts(tree).items()}
        for name, tree in zip(("ESP", "BOOT"), trees, strict=False)
    }


def limine_of(case: str, store: pathlib.Path) -> BootLoader:
    """Return the settings of a case of Limine, with the paths of `store`."""
    given = {name: value for name, value in LIMINE_CASES[case].items() if name != "alone"}
    settings = dict(given.pop("limine"))
    place = f"{store}/{HASH}-"
    if bios := settings.get("bios"):
        settings["bios"] = place + bios
    settings["wallpapers"] = tuple(place + one for one in settings.get("wallpapers", []))
    files = settings.get("files", {})
    settings["files"] = {name: place + source for name, source in files.items()}
    program = f"{place}limine/share/limine/BOOTX64.EFI"
    return BootLoader(**given, limine=Limine(program=program, **settings))


def limine_system(case: str, folder: pathlib.Path, store: pathlib.Path) -> pathlib.Path:
    """Write the toplevel of a case of Limine."""
    top = make_system(folder, store, extras=False)
    if LIMINE_CASES[case].get("alone"):
        document = json.loads((top / "boot.json").read_text())
        document[SPECIALISATION_V1] = {}
        (top / "boot.json").write_text(json.dumps(document))
    return top


def our_limine(case: str, folder: pathlib.Path) -> dict[str, str]:
    """Return what the assembler writes. `bootloader.STORE` must be `folder`'s."""
    store = make_store(folder)
    boot = read_bootspec(limine_system(case, folder, store))
    loader = limine_of(case, store)
    entries = bootloader.boot_entries(boot, loader.distroName)
    files = limine.loader_files(boot.system, loader, entries)
    return {path.lower(): content for path, content in texts(files).items()}


def texts(files: Files) -> dict[str, str]:
    """Return the content of each file."""
    return {
        name: content if isinstance(content, str) else content.read_text()
        for name, content in files.items()
    }


def whole_menu(folder: pathlib.Path, font: str, program: str) -> GrubMenu:
    """Return a menu with every setting, and make the files that it names.

    `font` is one of its theme's fonts, `program` a file that is put below /boot.
    """
    for name in ("theme.txt", "fonts/b.PF2", font):
        (folder / "theme" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "theme" / name).write_text(name)
    return GrubMenu(
        head='password me secret\nset superusers="me"\n',
        theme=str(folder / "theme"),
        settings="play 480 440 1\n",
        before="menuentry before { }\n",
        after="menuentry after { }\n",
        perEntry="echo one\necho two\n",
        entryOptions="--class mine",
        files={program: str(folder / "theme/theme.txt")},
    )
