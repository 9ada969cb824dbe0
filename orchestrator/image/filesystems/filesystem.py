"""Shared by the modules of the file systems: their error, and how their tools are run.

The tools need no mount, no root and no second copy. Every identifier and time is fixed, so equal
inputs give equal bytes.
"""

import contextlib
import dataclasses
import os
import pathlib
import typing
from collections.abc import Callable, Iterator

from orchestrator.image.layout import Partition
from orchestrator.image.pack import pack
from orchestrator.image.tree import Tree
from orchestrator.shared import command as programs
from orchestrator.shared.constants import MIB
from orchestrator.shared.spec import ImageSpec


class FilesystemError(Exception):
    """A file system or an image cannot be made, or a check of it failed; the message says why."""


@dataclasses.dataclass(frozen=True)
class Order:
    """Input of a file system module, which writes `tree` into the partition `slot` of `image`.

    The partition is still empty. `scratch` is a folder on the same volume as `image`, which no
    other run has. `mapped` says that the image gets a block map.
    """

    image: pathlib.Path
    slot: Partition
    spec: ImageSpec
    tree: Tree
    scratch: pathlib.Path
    mapped: bool


def preloaded(library: pathlib.Path) -> str:
    """Return `library` for LD_PRELOAD; it must exist, because ld.so ignores a missing one."""
    if not library.exists():
        raise FilesystemError(f"{library} is missing: the builder's image is incomplete")
    return os.fspath(library)


def stream(
    write: Callable[[typing.IO[bytes]], str], command: list[str], variables: dict[str, str]
) -> None:
    """Run `command` with the tar stream on its stdin that `write` writes to a pipe.

    `write` returns an error message or "".
    """
    complaint = ""
    # stderr is no pipe: nobody reads it meanwhile, so a full pipe would stop the command for ever.
    # GNU tar goes on when the disk is full, and writes a line about each file.
    with os.fdopen(os.memfd_create("stderr"), "r+b") as lines:
        process = programs.start(command, stdin=programs.PIPE, stderr=lines, variables=variables)
        with programs.ending(process) as sink:
            assert sink.stdin is not None
            # A broken pipe is ignored: the command has ended, and its own error is reported.
            with contextlib.suppress(BrokenPipeError), sink.stdin as pipe:
                complaint = write(pipe)
            sink.stdin = None
        lines.seek(0)
        said = lines.read()
    if complaint and "Broken pipe" not in complaint:
        raise FilesystemError(complaint)
    done = programs.Done(programs.quoted(command), process.returncode, b"", said, 0)
    if done.code != 0:
        raise FilesystemError(f"{command[0]}: {done.reason}")


def extract(path: str, folder: pathlib.Path) -> str:
    """Copy the store path `path` into `folder`; return the SHA-256 (hex) of the copy's Nix archive.

    Raises `FilesystemError` if it cannot be read or written.
    """
    digest = ""

    def write(sink: typing.IO[bytes]) -> str:
        nonlocal digest
        hashes, complaint = pack([path], sink, os.fspath(pathlib.Path(path).parent))
        digest = hashes.get(path, "")
        return complaint

    stream(write, ["tar", "-x", "-m", "--no-same-owner", "-C", os.fspath(folder)], {})
    return digest


@contextlib.contextmanager
def own_file(order: Order) -> Iterator[pathlib.Path]:
    """Yield a sparse file of the partition's size; afterwards it becomes that part of the image.

    For mkfs tools without a reliable offset option.
    """
    file, size = order.scratch / "root", order.slot.size
    with file.open("xb") as empty:
        os.truncate(empty.fileno(), size)
    yield file
    if file.stat().st_size > size:
        raise FilesystemError(
            f"the {order.spec.root.fsType} file system is {file.stat().st_size // MIB} MiB large,"
            f" its partition {size // MIB} MiB"
        )
    _move_in(file, order.image, order.slot)


def _move_in(file: pathlib.Path, image: pathlib.Path, slot: Partition) -> None:
    """Move the file system `file` into `image` at `slot`: by a range insert, else by a copy."""
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
    """Run a tool; its own error lines become the `FilesystemError`."""
    done = programs.run(command, variables=variables, check=False, fails=FilesystemError)
    if done.code != 0:
        raise FilesystemError(f"{command[0]}: {done.reason}")
