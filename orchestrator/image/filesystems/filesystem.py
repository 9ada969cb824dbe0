"""What the file systems' modules share: their error, and how their tools are run.

No mount, no root, no second copy, no clock. Every identifier and time is fixed, so the same input
gives the same bytes.
"""

import contextlib
import dataclasses
import os
import pathlib
import subprocess
from collections.abc import Iterator

from orchestrator.image.layout import Partition
from orchestrator.image.tree import Entry, Tree
from orchestrator.shared.constants import MIB
from orchestrator.shared.spec import ImageSpec


class FilesystemError(Exception):
    """A tool that makes a file system failed; the message has its name and its last words."""


@dataclasses.dataclass(frozen=True)
class Order:
    """What the module of a root file system is to write: `tree`, into `slot` of the empty `image`.

    `scratch` is a folder on the same volume. `late` are those entries of the tree that other runs
    must not see: they do not get onto the store's volume. `mapped` says that the image gets a block
    map.
    """

    image: pathlib.Path
    slot: Partition
    spec: ImageSpec
    tree: Tree
    scratch: pathlib.Path
    late: tuple[Entry, ...]
    mapped: bool


def preloaded(library: pathlib.Path) -> str:
    """`library` as ld.so takes it: where it is not there, ld.so would go on without it."""
    if not library.exists():
        raise FilesystemError(f"{library} is missing: the builder's image is not whole")
    return os.fspath(library)


def stream(tree: Tree, command: list[str], variables: dict[str, str]) -> None:
    """Run `command` with the tar stream of `tree` as its input."""
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, **variables},
    ) as sink:
        assert sink.stdin is not None
        complaint = ""
        # A pipe that breaks, here or at the close: the reader has ended, and says why.
        with contextlib.suppress(BrokenPipeError), sink.stdin as pipe:
            complaint = tree.write_tar(pipe)
        sink.stdin = None
        said = sink.communicate()[1].decode(errors="replace")
    if complaint and "Broken pipe" not in complaint:
        raise FilesystemError(complaint)
    if sink.returncode != 0:
        raise FilesystemError(f"{command[0]}: {_reason(said) or f'exit code {sink.returncode}'}")


@contextlib.contextmanager
def own_file(order: Order) -> Iterator[pathlib.Path]:
    """An empty file of the slot's size, which becomes that part of the image afterwards.

    For tools that know no offset that can be trusted.
    """
    file, size = order.scratch / "root", order.slot.size
    with file.open("xb") as empty:
        os.truncate(empty.fileno(), size)
    yield file
    if file.stat().st_size > size:
        raise FilesystemError(
            f"{order.spec.root.fsType} has made {file.stat().st_size // MIB} MiB of"
            f" {size // MIB} MiB"
        )
    _move_in(file, order.image, order.slot)


def _move_in(file: pathlib.Path, image: pathlib.Path, slot: Partition) -> None:
    """Make the file system `file` the part of `image` at `slot`, copied only where it must be."""
    total = image.stat().st_size
    insert = ["fallocate", "--insert-range", "--offset", "0", "--length", str(slot.start)]
    done = subprocess.run([*insert, os.fspath(file)], capture_output=True, check=False)
    if slot.start and done.returncode == 0:
        os.truncate(file, total)
        file.replace(image)
        return
    copy = ["dd", f"if={file}", f"of={image}", "bs=1M", f"seek={slot.start // MIB}"]
    run([*copy, "conv=sparse,notrunc", "status=none"], {})
    file.unlink()


def run(command: list[str], variables: dict[str, str]) -> None:
    """Run a tool; its last words are the error."""
    done = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise FilesystemError(
            f"{command[0]}: {_reason(done.stderr) or f'exit code {done.returncode}'}"
        )


def _reason(text: str) -> str:
    """The line that says why: the first one that does not only warn.

    What follows tells which step could not go on because of it.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "arning" not in line), lines[-1] if lines else "")
