"""Delivers images to the caller: one tar stream on stdout, with a manifest as its last file.

run.sh unpacks the stream into a temporary folder, verifies the manifest's checksums, and then
renames the files. So the files belong to the caller, no partial file gets its final name, and no
folder of the host is mounted. A manifest of its own after some of the files lets run.sh have these
already, whatever becomes of the others.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import typing
from collections.abc import Collection

from orchestrator.docker.workspace import take
from orchestrator.shared import command as programs
from orchestrator.shared.artifact import (
    BESIDE,
    BLOCK_MAP,
    BUILD_LOG,
    IMAGE_INFO,
    KNOWN_HOSTS,
    KNOWN_HOSTS_TYPE,
    RESULT,
    SBOM,
    Artifact,
)
from orchestrator.shared.errors import BuildError, DeliveryError
from orchestrator.shared.json_reader import JsonError, from_json
from orchestrator.shared.spec import is_file_name

SCHEMA = 1
#: File descriptor of the stream of the caller's files.
STDIN = 0

MANIFEST = ".complete"

#: Suffixes of the files that the orchestrator writes beside an image.
WRITTEN = frozenset(BESIDE) - {SBOM, BLOCK_MAP, IMAGE_INFO}

#: After a manifest that is not the last comes a file of so many bytes, more than tar and its reader
#: hold back: so the manifest arrives before the next image is made.
FILLER = ".filler"
FILLER_BYTES = 1 << 16

#: Delivery fails if the caller reads nothing for this many seconds: its disk hangs, or the
#: connection is gone.
STALL_SECONDS = 300


#: Public key of an image's SSH host, with a comment.
HOST_KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]+=* [A-Za-z0-9.-]+")


def known_hosts(images: list[Artifact]) -> str:
    """Return the known_hosts file (sshd(8)) of devices whose host keys are known, "" without one.

    A name without dots is the device's name in multicast DNS, too.
    """
    keys = {image.host: image.ssh_host_key for image in images if image.ssh_host_key}
    lines = [
        f"{host if '.' in host else f'{host},{host}.local'} {' '.join(key.split()[:2])}\n"
        for host, key in keys.items()
    ]
    return "".join([f"# {KNOWN_HOSTS_TYPE}\n", *lines]) if lines else ""


@dataclasses.dataclass(frozen=True)
class Result:
    """Content of `result.json`: images, emulation, privileges, durations of a run.

    `type` marks the file as ours. Sizes are bytes, times seconds. `path`, `size` and `sha256` are
    the first image's; `images` lists all images. An image's own result lists that image only.
    """

    type: str
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
    nix_settings: dict[str, str]
    other_nix_settings: list[str]
    sandbox: dict[str, typing.Any]
    builders: list[dict[str, typing.Any]]
    boot: dict[str, typing.Any] | None
    images: list[dict[str, typing.Any]]
    seconds: dict[str, float]

    def write(self, place: pathlib.Path) -> str:
        """Write the result to the new file `place`; return its name."""
        with place.open("x") as file:
            file.write(json.dumps(dataclasses.asdict(self), indent=2) + "\n")
        return place.name


def received_image(
    announced: object,
    folder: pathlib.Path,
    others: Collection[str] = (),
    hosts: Collection[str] = (),
) -> Artifact:
    """Take over an image that the builder has announced as JSON.

    `folder` is the run's shared folder; `others` are names of the run's other images, `hosts` the
    host names that the caller has asked for. Raises `BuildError` if a file does not match the
    announcement, or has a name that is not allowed.
    """
    image = as_announced(Artifact, announced, "image")
    if image.host and image.host not in hosts:
        raise BuildError(f"{image.host!r} is not a host of this run")
    reserved = {f"{name}{end}" for name in (image.file_name, *others) for end in WRITTEN}
    for name in (*_names(image), *others):
        if not is_file_name(name) or name in {RESULT, BUILD_LOG, KNOWN_HOSTS} | reserved:
            raise BuildError(f"{name!r} is not allowed as a delivered file's name")
    return _received(image, folder)


def as_announced[T](kind: type[T], value: object, what: str) -> T:
    """Parse JSON of the builder as a `kind`, named `what` in errors; raises `BuildError`."""
    try:
        return from_json(kind, value, what)
    except JsonError as error:
        raise BuildError(f"the builder's announcement is invalid: {error}") from error


def _received(image: Artifact, folder: pathlib.Path) -> Artifact:
    others = (image.sbom, *image.extras)
    if image.ssh_host_key and not HOST_KEY.fullmatch(image.ssh_host_key):
        raise BuildError(f"{image.file_name}: {image.ssh_host_key!r} is not a host key")
    for digest in (image.sha256, image.unpacked_sha256):
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise BuildError(f"{image.file_name}: {digest!r} is not a SHA-256")
    place, bill, *extras = (take(folder, path, _name_of(path)) for path in (image.path, *others))
    if place.stat().st_size != image.size:
        raise BuildError(f"{image.file_name} does not have the size that the builder announced")
    return dataclasses.replace(
        image,
        path=place.relative_to(folder).as_posix(),
        sbom=bill.relative_to(folder).as_posix(),
        extras=tuple(extra.relative_to(folder).as_posix() for extra in extras),
    )


def _names(image: Artifact) -> tuple[str, ...]:
    """Return the names that the builder gives an image and its files."""
    return (image.name, image.file_name, *map(_name_of, (image.sbom, *image.extras)))


def _name_of(path: str) -> str:
    return pathlib.PurePosixPath(path).name


class Delivery:
    """The tar stream to the caller: files as they become ready, the manifest last.

    Files can be sent while others are still being made. Of what no manifest lists run.sh keeps
    nothing.
    """

    def __init__(
        self, folder: pathlib.Path, stream: int, *, sparse: bool, private: bool = False
    ) -> None:
        """Start tar: files of `folder` go to the descriptor `stream`, with holes if `sparse`.

        Only root may write to `folder`, because links in it are followed and the manifest is
        written there. Sent files are removed. With `private` (the image has secrets), only the
        caller may read the delivered files.
        """
        self._folder = folder
        self._stream = stream
        self._lines: list[str] = []
        self._manifests = 0
        self._ended = False
        command = [
            *("tar", "--create", "--file=-", "--format=gnu"),
            f"--mode=u=rwX,go={'' if private else 'rX'}",
            *("--owner=0", "--group=0", "--numeric-owner"),
            *(["--sparse"] if sparse else []),
            # A file may get the inode of one that was removed: it is no hard link to that.
            *("--remove-files", "--hard-dereference"),
            f"--directory={folder}",
            # tar reads the next name when it has written the previous file.
            *("--null", "--files-from=-"),
        ]
        self._tar = programs.start(command, stdin=programs.PIPE, stdout=stream)

    def send(self, name: str, digest: str = "") -> None:
        """Send the file `name`.

        A `digest` marks an image, whose path run.sh prints. It is the SHA-256 that the builder
        computed, so that the caller compares with what was made, not with what was read here.
        """
        kind = "image" if digest else "file"
        if not digest:
            with (self._folder / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._lines.append(f"{digest} {kind} {name}\n")
        self._name(name)

    def there(self, name: str, digest: str) -> None:
        """List the image `name` as one that the caller has already."""
        self._lines.append(f"{digest} there {name}\n")

    def complete(self, names: Collection[str]) -> None:
        """Send a manifest of these files: the caller may have them.

        Others that were sent stay for a later one: an image comes with the files beside it.
        """
        self._manifests += 1
        later = [line for line in self._lines if line.split(" ", 2)[2].rstrip("\n") not in names]
        self._lines = [line for line in self._lines if line not in later]
        self._manifest(f"{MANIFEST}-{self._manifests}")
        self._lines = later
        filler = f"{FILLER}-{self._manifests}"
        # Zeros might be sent as a hole.
        (self._folder / filler).write_bytes(os.urandom(FILLER_BYTES))
        self._name(filler)

    def has_left(self, name: str) -> bool:
        """Return whether the file `name` was sent, and exists no more.

        Raises `DeliveryError` if nothing is sent any more.
        """
        if not (self._folder / name).exists():
            return True
        if self._tar.poll() is not None:
            self.close()
        return False

    def finish(self) -> None:
        """Send the manifest and end the stream; raises `DeliveryError` if a file was cut off."""
        self._manifest(MANIFEST)
        self.close()

    def close(self) -> None:
        """End the stream, if that was not done; what no manifest lists is dropped."""
        if self._ended:
            return
        said = self._end()
        if self._tar.returncode != 0:
            last = said[-1] if said else self._tar.returncode
            raise DeliveryError(f"the image cannot be delivered: {last}")

    def abandon(self) -> None:
        """End the stream of images without its manifest, so that run.sh keeps none of them."""
        programs.kill(self._tar)
        self._end()

    def _manifest(self, name: str) -> None:
        (self._folder / name).write_text("".join([*self._lines, "end\n"]))
        self._lines.clear()
        self._name(name)

    def _end(self) -> list[str]:
        self._ended = True
        sent, still = self._sent(), 0
        while (said := programs.rest(self._tar, 1)) is None:
            # Count iterations instead of the clock: this container may be paused meanwhile.
            before, sent = sent, self._sent()
            still = still + 1 if sent is not None and sent == before else 0
            if still > STALL_SECONDS:
                programs.kill(self._tar)
                programs.rest(self._tar, 1)
                os.close(self._stream)
                raise DeliveryError(
                    f"the image cannot be delivered: the caller read nothing for {STALL_SECONDS} s",
                    hint="check the disk of the output folder, and the connection to Docker",
                )
        os.close(self._stream)
        return said.decode(errors="replace").strip().splitlines()

    def _sent(self) -> int | None:
        """Return the number of bytes that tar has written so far; None if it is unknown."""
        with contextlib.suppress(OSError):
            found = pathlib.Path(f"/proc/{self._tar.pid}/io").read_text()
            return int(found.partition("wchar:")[2].split()[0])
        return None

    def _name(self, name: str) -> None:
        assert self._tar.stdin is not None
        # Broken pipe: tar has ended, and finish() reports its error.
        with contextlib.suppress(BrokenPipeError):
            self._tar.stdin.write(os.fsencode(name) + b"\0")


def receive(folder: pathlib.Path) -> None:
    """Unpack the caller's files from stdin to `folder`, under their paths on the caller's host."""
    folder.mkdir(exist_ok=True)
    command = [
        "tar",
        "--extract",
        "--file=-",
        "--ignore-zeros",  # the stream is several concatenated archives
        "--no-same-owner",
        "--no-same-permissions",
        f"--directory={folder}",
    ]
    done = programs.run(command, stdin=STDIN, check=False, fails=DeliveryError)
    if done.code != 0:
        raise DeliveryError(f"not all files that run.sh sent have arrived: {done.last}")
