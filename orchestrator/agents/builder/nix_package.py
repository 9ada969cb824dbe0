"""Nix of another suite than the base's: fetched by hash at the build of the builder's image.

`python3 -m orchestrator.agents.builder.nix_package LOCK FOLDER` unpacks it to FOLDER, where it
stays: it looks for its loader and its libraries, down to the C library, there and nowhere else. So
no library of the base is replaced, and no other program has another one than its own.
"""

import argparse
import dataclasses
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

#: Where the builder's image has it.
NIX = pathlib.Path("/opt/nix")

#: In the folder: what was unpacked, one package a line, as `Unpacked` has it, with tabs between.
LIST = "packages"


@dataclasses.dataclass(frozen=True)
class Unpacked:
    """A Debian package that dpkg knows nothing of; `source` and its version are what it is of."""

    package: str
    version: str
    arch: str
    source: str
    source_version: str
    suite: str
    sha256: str


def read_list(folder: pathlib.Path) -> list[Unpacked]:
    """What `folder` was unpacked from; nothing where there is no such folder."""
    try:
        lines = (folder / LIST).read_text().splitlines()
    except FileNotFoundError:
        return []
    return [Unpacked(*line.split("\t")) for line in lines]


def obtain(
    lock: pathlib.Path, arch: str, target: pathlib.Path, *, locked: bool
) -> list[debian.Pin]:
    """Download what is pinned for `arch`, or all of its successors unless `locked`.

    Returns what `target` now holds. Successors belong together: where one of the pins cannot be
    had, none is taken.
    """
    snapshot = json.loads(lock.read_text())["snapshot"]
    pins = debian.read_nix(lock, arch)
    if not (lost := debian.fetch_all(pins, snapshot, target)):
        return pins
    if locked:
        raise AgentError(
            f"{lost.package} {lost.version} cannot be fetched",
            hint="reach a mirror, or leave out --locked",
        )
    new = debian.resolve_nix(arch, debian.left_out(lock, arch))
    if again := debian.fetch_all(new, snapshot, target):
        raise AgentError(
            f"neither {lost.package} {lost.version} nor {again.package} {again.version}"
            " can be fetched",
            hint=f"reach a mirror that has {again.suite}",
        )
    events.emit(
        "pin-superseded",
        level="warning",
        message=f"{lost.package} {lost.version} is no longer in the archive:"
        f" using {NIX_PACKAGE} {new[0].version} and its libraries as {debian.NIX_SUITE} has them",
    )
    return new


def unpack(pins: list[debian.Pin], debs: pathlib.Path, folder: pathlib.Path) -> None:
    """Make Nix in `folder` of the packages in `debs`: bin, lib, and the list of packages."""
    programs, libraries = folder / "bin", folder / "lib"
    programs.mkdir(parents=True)
    libraries.mkdir()
    found = []
    with tempfile.TemporaryDirectory() as place:
        for pin in pins:
            deb = debs / f"{pin.package}.deb"
            command.run(["dpkg-deb", "-x", deb, place], fails=AgentError)
            found.append(_unpacked(pin, deb))
        # Of Nix' programs those that are Nix itself, under the names by which it knows what to do.
        for one in pathlib.Path(place, "usr/bin").glob("nix*"):
            if one.name == "nix" or (one.is_symlink() and one.readlink().name == "nix"):
                shutil.copy2(one, programs, follow_symlinks=False)
        for one in pathlib.Path(place, "usr/lib").glob("*-linux-gnu/*.so*"):
            shutil.copy2(one, libraries, follow_symlinks=False)
    rows = ("\t".join(dataclasses.astuple(one)) for one in found)
    (folder / LIST).write_text("".join(f"{row}\n" for row in rows))


def _unpacked(pin: debian.Pin, deb: pathlib.Path) -> Unpacked:
    said = command.run(["dpkg-deb", "-f", deb, "Source"], fails=AgentError).text.strip()
    # Only where they differ is there a source's name, and after it in brackets its version.
    match = re.fullmatch(r"(\S+)(?: \((\S+)\))?", said or pin.package)
    if not match:
        raise AgentError(f"{deb.name}: its source is {said!r}")
    version = match[2] or pin.version
    return Unpacked(pin.package, pin.version, pin.arch, match[1], version, pin.suite, pin.sha256)


def settle(folder: pathlib.Path) -> None:
    """Have Nix in `folder` look for its loader and its libraries there."""
    nix, libraries = folder / "bin/nix", folder / "lib"
    said = command.run(["patchelf", "--print-interpreter", nix], fails=AgentError)
    loader = libraries / pathlib.PurePosixPath(said.text.strip()).name
    # As a DT_RPATH, which is for the libraries of its libraries, too; DT_RUNPATH is not.
    place = ["--force-rpath", "--set-rpath", os.fspath(libraries), os.fspath(nix)]
    command.run(["patchelf", "--set-interpreter", loader, *place], fails=AgentError)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="nix_package")
    parser.add_argument("lock", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--locked", action="store_true")
    arguments = parser.parse_args()
    run_agent("nix", lambda: fetch(arguments.lock, arguments.folder, locked=arguments.locked))


def fetch(lock: pathlib.Path, folder: pathlib.Path, *, locked: bool) -> None:
    """Make Nix for this machine in `folder`, which is not there yet, and see it start."""
    arch = command.run(["dpkg", "--print-architecture"], fails=AgentError).text.strip()
    with tempfile.TemporaryDirectory() as place:
        debs = pathlib.Path(place)
        unpack(obtain(lock, arch, debs, locked=locked), debs, folder)
    settle(folder)
    print(command.run([os.fspath(folder / "bin/nix"), "--version"], fails=AgentError).text.strip())


if __name__ == "__main__":
    main()
