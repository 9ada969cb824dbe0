"""What NixOS' own programs write for systemd-boot, Limine and U-Boot is in an image, byte for byte.

    NIXPKGS=FOLDER pytest tests/nixos/loaders.py

It runs `systemd-boot-builder.py`, `limine-install.py` and `extlinux-conf-builder.sh` of that tree
for made-up systems, with other programs in place of those of a booted NixOS. GOLDEN=1 records what
the first two write in tests/nixos/esp, for tests/unit; that takes a tree of NixOS 26.11 or later.

What an image leaves out, on purpose:
- loader/random-seed, because all devices of one image would have the same;
- empty folders.
"""

import dataclasses
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import typing

import pytest

from orchestrator.image.bootspec import Bootspec
from orchestrator.image.loaders import bootloader, extlinux
from orchestrator.image.tree import STORE_TIME
from orchestrator.shared.spec import Extlinux
from tests.unit.boot_systems import (
    CASES,
    HASH,
    LIMINE_CASES,
    OLD_CASES,
    SYSTEM,
    Names,
    boot_of,
    limine_of,
    limine_system,
    loader_of,
    make_store,
    make_system,
    our_files,
    our_limine,
    own_store,
    texts,
)

NIXPKGS = os.environ.get("NIXPKGS", "")
MODULE = "nixos/modules/system/boot/loader/systemd-boot/systemd-boot-builder.py"
LIMINE = "nixos/modules/system/boot/loader/limine/limine-install.py"
EXTLINUX = "nixos/modules/system/boot/loader/generic-extlinux-compatible/extlinux-conf-builder.sh"
ROOT = pathlib.Path(__file__).parents[2]
RECORDS = pathlib.Path(__file__).parent / "esp"

pytestmark = pytest.mark.skipif(not NIXPKGS, reason="NIXPKGS names no tree with the program")


def program() -> str:
    return (pathlib.Path(NIXPKGS) / MODULE).read_text()


def age() -> Names:
    """What the tree's program names entries by; nix/spec.nix asks for the option instead."""
    return "content" if "@bootCounting@" in program() else "generation"


def script(path: pathlib.Path, *lines: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh -e", *lines, ""]))
    path.chmod(0o755)
    return str(path)


def nixos_writes(case: str, folder: pathlib.Path) -> dict[str, dict[str, str]]:
    """Run NixOS' program as `nixos-install` does; returns each partition's files."""
    store = make_store(folder)
    top = make_system(folder, store, extras=case == "extras")
    os.utime(top, (STORE_TIME, STORE_TIME))
    for special in (top / "specialisation").iterdir():
        os.utime(special, (STORE_TIME, STORE_TIME))
    profiles = folder / "profiles"
    profiles.mkdir()
    (profiles / "system-1-link").symlink_to(top)
    loader = loader_of(case, age(), store)
    esp, boot = folder / "ESP", folder / "BOOT"
    if not CASES[case].get("xbootldr"):
        boot = esp
    esp.mkdir()
    boot.mkdir(exist_ok=True)
    # What `bootctl install` does, as systemd 252's was seen to do (without the random seed).
    bootctl = script(
        folder / "systemd/bin/bootctl",
        f'cd "{esp}"; mkdir -p EFI/BOOT EFI/systemd loader "{boot}/loader/entries"',
        f"cp {loader.systemdBoot} EFI/BOOT/BOOTX64.EFI; cp {loader.systemdBoot} EFI/systemd/",
        f"echo '#timeout 3' > loader/loader.conf; echo type1 > {boot}/loader/entries.srel",
    )
    nix = script(
        folder / "nix-package/bin/nix-env", "echo '   1   2026-01-01 00:00:00   (current)'"
    )
    # As nixos/modules/system/boot/loader/systemd-boot/systemd-boot.nix makes it.
    extra = [(name, source) for name, source in loader.extraFiles.items()]
    for name, content in loader.extraEntries.items():
        (folder / name).write_text(content)
        extra.append((f"loader/entries/{name}", str(folder / name)))
    marks = f"{boot}/EFI/nixos/.extra-files"
    copy = script(
        folder / "copy-extra-files",
        *(f"install -Dp {source} {shlex.quote(f'{boot}/{name}')}" for name, source in extra),
        *(f"install -D /dev/null {shlex.quote(f'{marks}/{name}')}" for name, _source in extra),
    )
    values = {
        "efiSysMountPoint": str(esp),
        "bootMountPoint": str(boot),
        "nixosDir": "/EFI/nixos",
        "timeout": "menu-force" if loader.timeout < 0 else str(loader.timeout),
        "editor": "1" if loader.editor else "",
        "consoleMode": loader.consoleMode,
        "rebootForBitlocker": "1" if loader.rebootForBitlocker else "",
        "distroName": loader.distroName,
        "nix": str(pathlib.Path(nix).parents[1]),
        "systemd": str(pathlib.Path(bootctl).parents[1]),
        "configurationLimit": "5",
        "canTouchEfiVariables": "",
        "graceful": "",
        "copyExtraFiles": copy,
        "checkMountpoints": "true",
        "storeDir": str(store),
        "bootCountingTries": str(loader.tries),
        "bootCounting": "True" if loader.tries else "False",
        "python3": sys.prefix,
        "bootspecTools": "/nowhere",
    }
    text = re.sub("@([a-zA-Z0-9]+)@", lambda found: values[found[1]], program())
    # The day of an entry is that of the store path's ctime, which only an image's file system has.
    for old, new in (
        ("/nix/var/nix/profiles", str(profiles)),
        ("/etc/machine-id", str(folder / "no-machine-id")),
        (".st_ctime", ".st_mtime"),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "builder.py").write_text(text)
    variables = {"NIXOS_INSTALL_BOOTLOADER": "1", "TZ": "UTC", "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, folder / "builder.py", SYSTEM], env=variables, check=True)
    return {part.name: files_of(part) for part in {esp, boot}}


def files_of(part: pathlib.Path) -> dict[str, str]:
    """Return the content of each file. FAT's names have no case, so they are in small letters."""
    return {
        path.relative_to(part).as_posix().lower(): path.read_text()
        for path in sorted(part.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("case", CASES)
def test_the_image_has_what_nixos_writes(
    case: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if age() == "generation" and case not in OLD_CASES:
        pytest.skip("this NixOS cannot do that")
    (tmp_path / "theirs").mkdir()
    theirs = nixos_writes(case, tmp_path / "theirs")
    if os.environ.get("GOLDEN") and age() == "content":
        (RECORDS / f"{case}.json").write_text(json.dumps(theirs, indent=2, sort_keys=True) + "\n")
    monkeypatch.setattr(bootloader, "STORE", tmp_path / "ours/nix/store")
    assert our_files(case, age(), tmp_path / "ours") == theirs


def style_lines() -> dict[str, list[str]]:
    """Return the lines of limine.conf about the menu's look, with the option of each, in order."""
    text = (pathlib.Path(NIXPKGS) / LIMINE).read_text()
    found = re.findall(r'option_from_config\(\s*"(\w+)", \[([^]]*)\]', text)
    return {name: re.findall(r'"(\w+)"', options)[1:] for name, options in found}


def test_the_lines_about_limines_look_are_those_of_nixos() -> None:
    text = (ROOT / "nix/limine.nix").read_text()
    ours = re.findall(r'line "(\w+)" \(?(style|terminal)((?:\.\w+)+)', text)
    folders = {"style": "", "terminal": ".graphicalTerminal"}
    found = {name: (folders[root] + path)[1:].split(".") for name, root, path in ours}
    assert list(found.items()) == list(style_lines().items())


def limine_writes(case: str, folder: pathlib.Path) -> dict[str, str]:
    """Run NixOS' program as `nixos-install` does; returns the ESP's files."""
    store = make_store(folder)
    top = limine_system(case, folder, store)
    profiles = folder / "profiles"
    profiles.mkdir()
    (profiles / "system-1-link").symlink_to(top)
    os.utime(profiles / "system-1-link", (STORE_TIME, STORE_TIME), follow_symlinks=False)
    nix = script(folder / "nix-package/bin/nix-env", "echo '   1   2026-01-01   (current)'")
    loader = limine_of(case, store)
    assert loader.limine is not None
    package = pathlib.Path(loader.limine.program).parents[2]
    if loader.limine.bios:
        stage = pathlib.Path(loader.limine.bios) / "limine-bios.sys"
        (package / "share/limine" / stage.name).write_text(stage.read_text())
    said = dict(line.split(": ") for line in loader.limine.style.splitlines())
    style: dict[str, typing.Any] = {"wallpapers": loader.limine.wallpapers}
    for name, (*above, last) in style_lines().items():
        inner = style
        for one in above:
            inner = inner.setdefault(one, {})
        inner[last] = said.get(name)
    given: dict[str, object] = {
        "distroName": loader.distroName,
        "nixPath": str(pathlib.Path(nix).parents[1]),
        "liminePath": str(package),
        "efiMountPoint": str(folder / "ESP"),
        "fileSystems": {},
        "luksDevices": [],
        "canTouchEfiVariables": False,
        "efiSupport": True,
        "efiRemovable": True,
        "secureBoot": {"enable": False, "autoGenerateKeys": False},
        "biosSupport": bool(loader.limine.bios),
        "biosDevice": "nodev",
        "enrollConfig": False,
        "style": style,
        "resolution": loader.limine.resolution or None,
        "maxGenerations": 0,
        "hostArchitecture": {"family": "x86", "bits": 64},
        "timeout": "no" if loader.timeout < 0 else loader.timeout,
        "enableEditor": loader.editor,
        "extraConfig": loader.limine.head,
        "extraEntries": loader.limine.entries,
        "additionalFiles": loader.limine.files,
        "validateChecksums": loader.limine.checksums,
        "panicOnChecksumMismatch": loader.limine.panic,
    }
    (folder / "limine.json").write_text(json.dumps(given))
    (folder / "psutil.py").write_text("")  # it asks for mounts, to write variables of the firmware
    text = (pathlib.Path(NIXPKGS) / LIMINE).read_text()
    for old, new in (
        ("@configPath@", str(folder / "limine.json")),
        ("/nix/var/nix/profiles", str(profiles)),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "limine.py").write_text(text)
    variables = {"TZ": "UTC", "PATH": os.environ["PATH"], "PYTHONPATH": str(folder)}
    subprocess.run([sys.executable, folder / "limine.py", SYSTEM], env=variables, check=True)
    return files_of(folder / "ESP")


@pytest.mark.parametrize("case", LIMINE_CASES)
def test_limine_reads_what_nixos_writes(
    case: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs").mkdir()
    theirs = limine_writes(case, tmp_path / "theirs")
    if os.environ.get("GOLDEN"):
        (RECORDS / f"{case}.json").write_text(json.dumps(theirs, indent=2, sort_keys=True) + "\n")
    monkeypatch.setattr(bootloader, "STORE", tmp_path / "ours/nix/store")
    assert our_limine(case, tmp_path / "ours") == theirs


def extlinux_writes(timeout: int, tree: str, top: pathlib.Path, folder: pathlib.Path) -> str:
    """Run NixOS' builder of U-Boot's menu as `nixos-rebuild` does; the files are in `boot`."""
    text = (pathlib.Path(NIXPKGS) / EXTLINUX).read_text()
    (folder / "profiles").mkdir()
    (folder / "profiles/system-1-link").symlink_to(top)
    for old, new in (
        ("/empty:@path@", os.environ["PATH"]),
        ("/nix/store/", f"{folder}/nix/store/"),
        ("/nix/var/nix/profiles", str(folder / "profiles")),
        ("'%Z'", "'%Y'"),  # as above
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "builder.sh").write_text(text)
    words = ["-t", str(timeout), "-c", str(top), "-d", str(folder / "boot"), "-g", "20"]
    words += ["-n", tree] if tree else []
    command: list[str | pathlib.Path] = ["bash", "-e", folder / "builder.sh", *words]
    subprocess.run(command, check=True, env={**os.environ, "TZ": "UTC", "LC_ALL": "C.UTF-8"})
    return (folder / "boot/extlinux/extlinux.conf").read_text()


@pytest.mark.parametrize("timeout", [5, 0, -1])
@pytest.mark.parametrize("tree", ["", "vendor/board.dtb"])
def test_a_card_has_what_nixos_writes(
    timeout: int, tree: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = own_store(tmp_path, monkeypatch)
    top = store / f"{HASH}-toplevel"
    boot = boot_of(store, toplevel=str(top))
    names = ("fast", "quiet", "10", "9")
    systems = {"": top} | {name: top / "specialisation" / name for name in names}
    special: list[tuple[str, Bootspec]] = []
    for name, place in systems.items():
        place.mkdir(parents=True, exist_ok=True)
        for link, target in (
            ("kernel", boot.kernel),
            ("initrd", boot.initrd),
            ("dtbs", top / "dtbs"),
        ):
            if not (place / link).exists():
                (place / link).symlink_to(target)
        (place / "nixos-version").write_text("26.11")
        (place / "kernel-params").write_text(" ".join(boot.kernel_params))
        init = str(place / "init")
        special += [(name, dataclasses.replace(boot, toplevel=str(place), init=init))] * bool(name)
    for place in systems.values():
        os.utime(place, (STORE_TIME, STORE_TIME))
    menu = extlinux_writes(timeout, tree, top, tmp_path)
    entries = bootloader.boot_entries(dataclasses.replace(boot, specialisations=tuple(special)))
    ours = extlinux.menu_files(entries, Extlinux(deviceTreeName=tree), timeout)
    assert ours["extlinux/extlinux.conf"] == menu
    theirs = {
        path.relative_to(tmp_path / "boot").as_posix(): path.read_text()
        for path in (tmp_path / "boot").rglob("*")
        if path.is_file()
    }
    assert texts(ours) == theirs
