"""Fetches the package of the pinned emulators while the setup image is built.

`python3 -m orchestrator.agents.emulation.qemu_user LOCK RUNG FOLDER`; an empty RUNG means the
default one.
"""

import argparse
import json
import pathlib
import shutil
import tarfile
import tempfile
from collections.abc import Collection

from orchestrator.agents import debian
from orchestrator.agents.emulation import ladder
from orchestrator.agents.failure import AgentError, run_agent
from orchestrator.shared import command
from orchestrator.shared.architectures import SYSTEMS


def obtain(
    pin: debian.Pin,
    arch: str,
    snapshot: str,
    target: pathlib.Path,
    without: Collection[str],
    *,
    locked: bool,
) -> debian.Pin:
    """Download `pin`, or its successor unless `locked`, to `target`; returns the pin used.

    The successor is the newest version in the pin's suite, even if apt is not configured for it;
    suites in `without` are not read.
    """
    if debian.fetch(pin, snapshot, target):
        return pin
    if locked:
        raise AgentError(
            f"{pin.package} {pin.version} cannot be fetched",
            hint="check that a Debian mirror is reachable; without --locked a newer version may do",
        )
    with tempfile.TemporaryDirectory() as state:
        index = debian.Index(pathlib.Path(state), arch, without, pin.suite)
        new = index.newest(pin.role, pin.package)
    if not debian.fetch(new, snapshot, target):
        raise AgentError(
            f"neither {pin.version} nor {new.version} of {pin.package} can be fetched",
            hint=f"use a mirror that has {pin.suite}, or another version (--qemu)",
        )
    debian.superseded(pin, new)
    return new


def unpack(deb: pathlib.Path, folder: pathlib.Path) -> None:
    """Extract the emulators of all target systems from `deb` into `folder`.

    The suffix `-static` (until Debian 12) is removed from their names.
    """
    missing = {system.emulator for system in SYSTEMS.values()}
    with command.ending(
        command.start(["dpkg-deb", "--fsys-tarfile", deb], stdout=command.PIPE, stderr=None)
    ) as process:
        assert process.stdout is not None
        with tarfile.open(fileobj=process.stdout, mode="r|") as package:
            for entry in package:
                name = pathlib.PurePosixPath(entry.name).name.removesuffix("-static")
                if name not in missing or not entry.isfile():
                    continue
                content = package.extractfile(entry)
                assert content is not None
                with (folder / name).open("wb") as file:
                    shutil.copyfileobj(content, file)
                (folder / name).chmod(0o755)
                missing.remove(name)
    if missing:
        raise AgentError(f"package {deb.name} has no {', '.join(sorted(missing))}")


def main() -> None:
    """Parse the command line; fetch the emulators that it names."""
    parser = argparse.ArgumentParser(prog="qemu_user")
    parser.add_argument("lock", type=pathlib.Path)
    parser.add_argument("rung")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--locked", action="store_true")
    arguments = parser.parse_args()
    run_agent(
        "qemu-user",
        lambda: fetch(arguments.lock, arguments.rung, arguments.folder, locked=arguments.locked),
    )


def fetch(lock: pathlib.Path, rung: str, target: pathlib.Path, *, locked: bool) -> None:
    """Fetch the emulators of `rung` for this machine's architecture into `target`."""
    arch = command.run(["dpkg", "--print-architecture"], fails=AgentError).text.strip()
    pin = debian.read_emulator(lock, arch, rung or ladder.rungs(lock)[0])
    snapshot = json.loads(lock.read_text())["snapshot"]
    with tempfile.TemporaryDirectory() as folder:
        deb = pathlib.Path(folder, f"{pin.package}.deb")
        got = obtain(pin, arch, snapshot, deb, debian.left_out(lock, arch), locked=locked)
        unpack(deb, target)
    print(got.version)


if __name__ == "__main__":
    main()
