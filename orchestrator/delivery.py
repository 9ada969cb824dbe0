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

from orchestrator.errors import DeliveryError

SCHEMA = 1
MANIFEST = ".complete"
RESULT = "result.json"


@dataclasses.dataclass(frozen=True)
class Result:
    """`result.json`: what was made, of what, by what and how long it took.

    Sizes are bytes, times seconds.
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
