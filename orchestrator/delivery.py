"""From the work volume to the caller: one tar stream on stdout, image first, a manifest last.

run.sh unpacks it into a folder of its own, believes it only when the manifest is there and its sums
are right, and then renames. So the caller's files are the caller's, nothing half-written gets its
final name, and no folder of the host is mounted anywhere.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import subprocess
import typing

from orchestrator.errors import BuildError, DeliveryError

SCHEMA = 1
MANIFEST = ".complete"
RESULT = "result.json"


@dataclasses.dataclass(frozen=True)
class Image:
    """What the builder handed over: fields of its `Artifact`, paths made absolute."""

    path: pathlib.Path
    name: str
    system: str
    format: str
    disk_format: str
    compression: str
    firmware: tuple[str, ...]
    host: str
    toplevel: str
    ready_text: str
    size: int
    virtual_size: int
    sha256: str
    extras: tuple[pathlib.Path, ...]

    def describe(self, out: pathlib.PurePosixPath) -> dict[str, typing.Any]:
        """This image's own part of `result.json`; `out` is the caller's folder."""
        return {
            "name": self.name,
            "path": os.fspath(out / self.path.name),
            "host": self.host,
            "disk_format": self.disk_format,
            "compression": self.compression,
            "firmware": list(self.firmware),
            "size": self.size,
            "virtual_size": self.virtual_size,
            "sha256": self.sha256,
            "bmap": next((path.name for path in self.extras), None),
        }


def received_image(fields: dict[str, typing.Any], folder: pathlib.Path) -> Image:
    """An image that the builder has announced, seen to be there; `folder` is the run's."""
    image = Image(
        **{
            **fields,
            "path": folder / fields["path"],
            "firmware": tuple(fields["firmware"]),
            "extras": tuple(folder / path for path in fields["extras"]),
        }
    )
    if image.path.stat().st_size != image.size:
        raise BuildError(f"{image.path.name} is not as large as the builder said")
    return image


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
    emulator: str | None
    emulator_version: str | None
    boot: dict[str, typing.Any] | None
    images: list[dict[str, typing.Any]]
    seconds: dict[str, float]

    def write(self, folder: pathlib.Path) -> None:
        """Write it below `folder`."""
        (folder / RESULT).write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")


def deliver(
    folder: pathlib.Path, names: list[str], images: dict[str, str], stream: int, *, sparse: bool
) -> None:
    """Write the files `names` of `folder` to the file descriptor `stream`, holes kept if `sparse`.

    Then a manifest.

    `images` are those of `names` whose path the caller wants to be told, with the SHA-256 that the
    builder took: what arrives is compared to what was made, not to what was read here.
    """
    lines = []
    for name in names:
        digest = images.get(name) or hashlib.sha256((folder / name).read_bytes()).hexdigest()
        lines.append(f"{digest} {'image' if name in images else 'file'} {name}\n")
    (folder / MANIFEST).write_text("".join([*lines, "end\n"]))
    command = [
        *(
            "tar",
            "--create",
            "--file=-",
            "--format=gnu",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
        ),
        *(
            "--mode=u=rw,go=r",
            *(["--sparse"] if sparse else []),
            f"--directory={folder}",
            "--",
            *names,
            MANIFEST,
        ),
    ]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.PIPE, check=False
    )
    os.close(stream)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise DeliveryError(
            f"the image cannot be handed over: {said[-1] if said else done.returncode}"
        )


def receive(folder: pathlib.Path) -> None:
    """Unpack the caller's files from stdin to `folder`, under their paths on the caller's host."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        "tar",
        "--extract",
        "--file=-",
        "--no-same-owner",
        "--no-same-permissions",
        f"--directory={folder}",
    ]
    done = subprocess.run(command, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise DeliveryError(
            f"the caller's files did not arrive: {said[-1] if said else done.returncode}"
        )
