"""What the file systems' modules share: their error, and how their tools are run.

No mount, no root, no second copy, no clock. Every identifier and time is fixed, so the same input
gives the same bytes.
"""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterator

from orchestrator.image.layout import Partition
from orchestrator.image.tree import Entry, Tree
from orchestrator.shared import command as programs
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
    complaint = ""
    with programs.ending(programs.start(command, stdin=programs.PIPE, variables=variables)) as sink:
        assert sink.stdin is not None and sink.stderr is not None
        # A pipe that breaks, here or at the close: the reader has ended, and says why.
        with contextlib.suppress(BrokenPipeError), sink.stdin as pipe:
            complaint = tree.write_tar(pipe)
        sink.stdin = None
        said = sink.stderr.read()
    if complaint and "Broken pipe" not in complaint:
        raise FilesystemError(complaint)
    done = programs.Done(programs.quoted(command), sink.returncode, b"", said, 0)
    if done.code != 0:
        raise FilesystemError(f"{command[0]}: {done.reason}")


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
    done = programs.run([*insert, os.fspath(file)], check=False, fails=FilesystemError)
    if slot.start and done.code == 0:
        os.truncate(file, total)
        file.replace(image)
        return
    copy = ["dd", f"if={file}", f"of={image}", "bs=1M", f"seek={slot.start // MIB}"]
    run([*copy, "conv=sparse,notrunc", "status=none"], {})
    file.unlink()


def run(command: list[str], variables: dict[str, str]) -> None:
    """Run a tool; the words that say why are the error."""
    done = programs.run(command, variables=variables, check=False, fails=FilesystemError)
    if done.code != 0:
        raise FilesystemError(f"{command[0]}: {done.reason}")
