"""Benchmark: nixpkgs' own commands assemble an SD card image under emulation.

`assembly.sh` runs this in the image that has the pinned emulator, after `assembly.py native`.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

from measuring import FOLDER, Measured, disk_use, measure

from orchestrator.agents.emulation import binfmt, canary
from orchestrator.shared.architectures import SYSTEMS

FOREIGN = "aarch64-linux"
EMULATORS = pathlib.Path("/opt/qemu")


def emulated(tree: pathlib.Path) -> None:
    """Measure nixpkgs' commands once: foreign programs in the root folder `tree`.

    There are two builds as in nixpkgs, the root file system and the card. Each has its own folder,
    in which only the result is kept.
    """
    kernel, initrd, firmware = (FOLDER / "boot-files").read_text().split()
    shutil.copy(pathlib.Path(__file__).with_name("peers.sh"), tree)
    show(tree)
    with interpreter():
        command = ["chroot", "--userspec=1000:1000", os.fspath(tree), "/bin/bash", "-c"]
        change = 'cd "$1" && shift && exec /bin/bash /peers.sh "$@"'

        def build(*arguments: str) -> Measured:
            folder = FOLDER / f"peers-{arguments[0]}"
            return measure([*command, change, "bash", str(folder), *arguments], folder, "rootImage")

        cores = str(os.cpu_count())
        root = build("root", str(FOLDER), kernel, initrd, cores)
        copied = disk_use(FOLDER / "peers-root/rootImage")
        result = FOLDER / "ext4-fs.img.zst"
        (FOLDER / "peers-root" / result.name).replace(result)
        card = build("card", str(result), firmware, cores)
    found = {
        "seconds": round(root.seconds + card.seconds, 3),
        "cpu_seconds": round(root.cpu_seconds + card.cpu_seconds, 3),
        "largest_rss": max(root.largest_rss, card.largest_rss),
        "total_rss": max(root.total_rss, card.total_rss),
        "written": root.written + card.written,
        "disk": max(root.disk + copied, card.disk + result.stat().st_size),
        "size": (FOLDER / "peers-card/sd-card.img.zst").stat().st_size,
        "root": dataclasses.asdict(root),
        "card": dataclasses.asdict(card),
    }
    (FOLDER / "emulated.json").write_text(json.dumps(found))


@contextlib.contextmanager
def interpreter() -> Iterator[None]:
    """Register the pinned emulator during a `with` block.

    assembly.sh runs this in a separate user namespace with its own binfmt_misc (Linux 6.7): the
    entry is invisible to the host and to other runs, and ends with this container.
    """
    system = SYSTEMS[FOREIGN]
    name = binfmt.entry_name("benchmark", system)
    line = binfmt.registration(name, system, EMULATORS / system.emulator, binfmt.kernel_version())
    binfmt.mount()
    before = binfmt.entries()
    if before:
        raise SystemExit(f"this is not a table of our own: it has {', '.join(before)}")
    try:
        binfmt.register(line)
        outcome = canary.run(FOREIGN, pathlib.Path("/run"))
        if not outcome.runs:
            raise SystemExit(f"{FOREIGN} programs do not run: {outcome.cause}")
        yield
    finally:
        binfmt.remove(name)


def show(tree: pathlib.Path) -> None:
    """Mount the store, /proc and /dev inside `tree`, in this process' mount namespace."""
    for name in ("nix", "proc", "dev"):
        (tree / name).mkdir(exist_ok=True)
        subprocess.run(["mount", "--rbind", f"/{name}", tree / name], check=True)


if __name__ == "__main__":
    emulated(pathlib.Path(sys.argv[1]))
