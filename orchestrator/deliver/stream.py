"""From the work volume to the caller: one tar stream on stdout, image first, a manifest last.

run.sh unpacks it into a folder of its own, believes it only when the manifest is there and its sums
are right, and then renames. So the caller's files are the caller's, nothing half-written gets its
final name, and no folder of the host is mounted anywhere.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import typing

from orchestrator.docker.workspace import take
from orchestrator.shared import command as programs
from orchestrator.shared.artifact import RESULT, Artifact
from orchestrator.shared.errors import BuildError, DeliveryError
from orchestrator.shared.json_reader import JsonError, from_json
from orchestrator.shared.spec import is_file_name

SCHEMA = 1
#: The file descriptor by which the caller's files come.
STDIN = 0

MANIFEST = ".complete"

#: Time (seconds) after which a caller who takes nothing more is given up: its disk hangs, or the
#: connection to it is gone.
STALL_SECONDS = 300


@dataclasses.dataclass(frozen=True)
class Result:
    """`result.json`: what was made, of what, by what and how long it took.

    Sizes are bytes, times seconds. `path`, `size` and `sha256` are the first image's, `images` has
    all of them.
    """

    schema: int
    name: str
    system: str
    format: str
    path: str
    size: int
    sha256: str
    store_path: str
    emulation: str
    emulators: list[dict[str, str]]
    privileges: list[dict[str, typing.Any]]
    nix: str
    sandbox: dict[str, typing.Any]
    boot: dict[str, typing.Any] | None
    images: list[dict[str, typing.Any]]
    seconds: dict[str, float]

    def write(self, folder: pathlib.Path) -> None:
        """Write it below `folder`."""
        (folder / RESULT).write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")


def received_images(announced: object, folder: pathlib.Path) -> list[Artifact]:
    """The images that the builder has announced as JSON, taken over from it.

    `folder` is the run's. Raises `BuildError` for what is not as the builder said, or could not be
    told or stored where it goes.
    """
    images = as_announced(tuple[Artifact, ...], announced, "images")
    if not images:
        raise BuildError("the builder has announced no image")
    return [_received(image, folder) for image in images]


def as_announced[T](kind: type[T], value: object, what: str) -> T:
    """The `kind` that the builder has announced as JSON, as `what`; raises `BuildError`."""
    try:
        return from_json(kind, value, what)
    except JsonError as error:
        raise BuildError(f"the builder has announced what cannot be: {error}") from error


def _received(image: Artifact, folder: pathlib.Path) -> Artifact:
    others = (image.sbom, *image.extras)
    for name in (image.name, image.file_name, *map(_name_of, others)):
        if not is_file_name(name) or name == RESULT:
            raise BuildError(f"{name!r} cannot be the name of an image's file")
    if not re.fullmatch("[0-9a-f]{64}", image.sha256):
        raise BuildError(f"{image.file_name}: {image.sha256!r} is no checksum")
    place, bill, *extras = (take(folder, path, _name_of(path)) for path in (image.path, *others))
    if place.stat().st_size != image.size:
        raise BuildError(f"{image.file_name} is not as large as the builder said")
    return dataclasses.replace(
        image,
        path=place.relative_to(folder).as_posix(),
        sbom=bill.relative_to(folder).as_posix(),
        extras=tuple(extra.relative_to(folder).as_posix() for extra in extras),
    )


def _name_of(path: str) -> str:
    return pathlib.PurePosixPath(path).name


class Delivery:
    """The stream to the caller: files as they become ready, a manifest last.

    The first can go out while the others are still made. What ends without a manifest was not
    handed over.
    """

    def __init__(
        self, folder: pathlib.Path, stream: int, *, sparse: bool, private: bool = False
    ) -> None:
        """Files of `folder` go to the file descriptor `stream`, holes kept if `sparse`.

        Nobody but root may write to `folder`: names in it are followed, and files made there. With
        `private` only the caller may read them: there are secrets in the image.
        """
        self._folder = folder
        self._stream = stream
        self._lines: list[str] = []
        command = [
            *("tar", "--create", "--file=-", "--format=gnu"),
            f"--mode=u=rwX,go={'' if private else 'rX'}",
            *("--owner=0", "--group=0", "--numeric-owner"),
            *(["--sparse"] if sparse else []),
            f"--directory={folder}",
            # tar reads a name when it has written the file before.
            *("--null", "--files-from=-"),
        ]
        self._tar = programs.start(command, stdin=programs.PIPE, stdout=stream)

    def send(self, name: str, digest: str = "") -> None:
        """Send the file `name`.

        A `digest` says that it is an image, whose path the caller wants to be told, with the
        SHA-256 that the builder took: what arrives is compared to what was made, not to what was
        read here.
        """
        kind = "image" if digest else "file"
        if not digest:
            with (self._folder / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._lines.append(f"{digest} {kind} {name}\n")
        self._name(name)

    def finish(self) -> None:
        """Send the manifest; raises `DeliveryError` if not all has gone out."""
        (self._folder / MANIFEST).write_text("".join([*self._lines, "end\n"]))
        self._name(MANIFEST)
        said = self._end()
        if self._tar.returncode != 0:
            last = said[-1] if said else self._tar.returncode
            raise DeliveryError(f"the image cannot be handed over: {last}")

    def abandon(self) -> None:
        """End the stream as it is: without a manifest."""
        programs.kill(self._tar)
        self._end()

    def _end(self) -> list[str]:
        sent, still = self._sent(), 0
        while (said := programs.rest(self._tar, 1)) is None:
            # Seconds are counted, not measured: this container may be paused meanwhile.
            before, sent = sent, self._sent()
            still = still + 1 if sent is not None and sent == before else 0
            if still > STALL_SECONDS:
                programs.kill(self._tar)
                programs.rest(self._tar, 1)
                os.close(self._stream)
                raise DeliveryError(
                    f"the image cannot be handed over: nothing was taken for {STALL_SECONDS} s",
                    hint="look at the disk below -o, and at the connection to Docker",
                )
        os.close(self._stream)
        return said.decode(errors="replace").strip().splitlines()

    def _sent(self) -> int | None:
        """How many bytes tar has written until now, where the kernel tells."""
        with contextlib.suppress(OSError):
            found = pathlib.Path(f"/proc/{self._tar.pid}/io").read_text()
            return int(found.partition("wchar:")[2].split()[0])
        return None

    def _name(self, name: str) -> None:
        assert self._tar.stdin is not None
        # A pipe that breaks: tar has ended, and says why.
        with contextlib.suppress(BrokenPipeError):
            self._tar.stdin.write(os.fsencode(name) + b"\0")


def receive(folder: pathlib.Path) -> None:
    """Unpack the caller's files from stdin to `folder`, under their paths on the caller's host."""
    folder.mkdir(exist_ok=True)
    command = [
        "tar",
        "--extract",
        "--file=-",
        "--ignore-zeros",  # more than one archive, one after the other
        "--no-same-owner",
        "--no-same-permissions",
        f"--directory={folder}",
    ]
    done = programs.run(command, stdin=STDIN, check=False, fails=DeliveryError)
    if done.code != 0:
        raise DeliveryError(f"the caller's files did not arrive: {done.last}")
