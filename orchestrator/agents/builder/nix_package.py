"""Fetches Nix from another Debian suite than the base's, while the builder's image is built.

`python3 -m orchestrator.agents.builder.nix_package LOCK FOLDER` unpacks Nix to FOLDER. Nix then
loads ld.so and all libraries, including the C library, only from FOLDER. So no library of the base
suite is replaced, and other programs keep theirs.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import tempfile

from orchestrator.agents import debian, events
from orchestrator.agents.failure import AgentError, run_agent
from orchestrator.shared import command
from orchestrator.shared.constants import NIX_PACKAGE
from orchestrator.shared.debian_package import NIX_LIST, Package, read_line


def read_list(folder: pathlib.Path) -> list[Package]:
    """Read which Debian packages the Nix in `folder` is made of; empty if there is no list."""
    try:
        lines = (folder / NIX_LIST).read_text().splitlines()
    except FileNotFoundError:
        return []
    return [read_line(line) for line in lines]


def obtain(
    lock: pathlib.Path, arch: str, target: pathlib.Path, *, locked: bool
) -> list[debian.Pin]:
    """Download the pinned packages for `arch` to `target`, or successors unless `locked`.

    Returns the pins used. Successors are all or none, because the packages belong together.
    """
    snapshot = json.loads(lock.read_text())["snapshot"]
    pins = debian.read_nix(lock, arch)
    if not (lost := debian.fetch_all(pins, snapshot, target)):
        return pins
    if locked:
        raise AgentError(
            f"{lost.package} {lost.version} cannot be fetched",
            hint="check that a Debian mirror is reachable; without --locked a newer version may do",
        )
    new = debian.resolve_nix(arch, debian.left_out(lock, arch))
    if again := debian.fetch_all(new, snapshot, target):
        raise AgentError(
            f"neither {lost.package} {lost.version} nor {again.package} {again.version}"
            " can be fetched",
            hint=f"use a mirror that has {again.suite}",
        )
    events.emit(
        "pin-superseded",
        level="warning",
        message=f"{lost.package} {lost.version} is no longer in the archive:"
        f" using {NIX_PACKAGE} {new[0].version} and its libraries from {debian.NIX_SUITE}",
    )
    return new


def unpack(pins: list[debian.Pin], debs: pathlib.Path, folder: pathlib.Path) -> None:
    """Unpack the packages in `debs` to `folder`: bin, lib, and the list of packages."""
    programs, libraries = folder / "bin", folder / "lib"
    programs.mkdir(parents=True)
    libraries.mkdir()
    found = []
    with tempfile.TemporaryDirectory() as place:
        for pin in pins:
            deb = debs / f"{pin.package}.deb"
            command.run(["dpkg-deb", "-x", deb, place], fails=AgentError)
            found.append(_unpacked(pin, deb))
        # Of the programs, copy only nix and links to it, whose names select a command of nix.
        for one in pathlib.Path(place, "usr/bin").glob("nix*"):
            if one.name == "nix" or (one.is_symlink() and one.readlink().name == "nix"):
                shutil.copy2(one, programs, follow_symlinks=False)
        for one in pathlib.Path(place, "usr/lib").glob("*-linux-gnu/*.so*"):
            shutil.copy2(one, libraries, follow_symlinks=False)
    (folder / NIX_LIST).write_text("".join(f"{one.line}\n" for one in found))


def _unpacked(pin: debian.Pin, deb: pathlib.Path) -> Package:
    said = command.run(["dpkg-deb", "-f", deb, "Source"], fails=AgentError).text.strip()
    # Field Source exists only if it differs from the package: "NAME" or "NAME (VERSION)".
    match = re.fullmatch(r"(\S+)(?: \((\S+)\))?", said or pin.package)
    if not match:
        raise AgentError(f"{deb.name}: invalid field Source: {said!r}")
    version = match[2] or pin.version
    return Package(pin.package, pin.version, pin.arch, match[1], version, pin.suite, pin.sha256)


def settle(folder: pathlib.Path) -> None:
    """Patch Nix in `folder`, so that it loads ld.so and libraries from there."""
    nix, libraries = folder / "bin/nix", folder / "lib"
    said = command.run(["patchelf", "--print-interpreter", nix], fails=AgentError)
    loader = libraries / pathlib.PurePosixPath(said.text.strip()).name
    # DT_RPATH also applies to libraries of libraries, DT_RUNPATH does not.
    place = ["--force-rpath", "--set-rpath", os.fspath(libraries), os.fspath(nix)]
    command.run(["patchelf", "--set-interpreter", loader, *place], fails=AgentError)


def main() -> None:
    """Parse the command line; fetch Nix and install it."""
    parser = argparse.ArgumentParser(prog="nix_package")
    parser.add_argument("lock", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--locked", action="store_true")
    arguments = parser.parse_args()
    run_agent("nix", lambda: fetch(arguments.lock, arguments.folder, locked=arguments.locked))


def fetch(lock: pathlib.Path, folder: pathlib.Path, *, locked: bool) -> None:
    """Install Nix for this machine's architecture into the new folder `folder`, and run it once."""
    arch = command.run(["dpkg", "--print-architecture"], fails=AgentError).text.strip()
    with tempfile.TemporaryDirectory() as place:
        debs = pathlib.Path(place)
        unpack(obtain(lock, arch, debs, locked=locked), debs, folder)
    settle(folder)
    print(command.run([os.fspath(folder / "bin/nix"), "--version"], fails=AgentError).text.strip())


if __name__ == "__main__":
    main()
