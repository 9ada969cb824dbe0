"""Checks that a run's images do not replace files that no run made.

The builder announces file names when Nix has evaluated the configuration, long before the images
exist. run.sh (caller/place.sh) checks again before it places the files.
"""

import dataclasses
import pathlib
from collections.abc import Iterable

from orchestrator.ask.request import ImageRequest
from orchestrator.deliver.stream import as_announced
from orchestrator.shared.artifact import BESIDE
from orchestrator.shared.disk_formats import DiskFormat
from orchestrator.shared.errors import DeliveryError, UsageError
from orchestrator.shared.spec import Compression, file_name, is_file_name


@dataclasses.dataclass(frozen=True)
class Announced:
    """File that the builder will make; with a `diskFormat`, `name` lacks the suffix."""

    name: str
    diskFormat: DiskFormat | None = None  # noqa: N815 - nix/spec.nix's
    compression: Compression = "none"


def check_free(
    told: object, request: ImageRequest, hosts: tuple[str, ...], kept: frozenset[str]
) -> None:
    """Raise `DeliveryError` if a file that the builder announced (`told`) has a `kept` name.

    Raises `UsageError` for a name that no image may have.

    `hosts` are the host names in the images' names, an empty one for an image without.
    """
    for name in file_names(as_announced(Announced, told, "file"), request, hosts):
        if not is_file_name(name):
            raise UsageError(
                f"{name!r} is not allowed as a file name",
                hint="set nixosImage.baseName to a short name of letters, digits, - and _",
            )
        for one in (name, *(f"{name}{suffix}" for suffix in BESIDE)):
            if one in kept:
                raise DeliveryError(
                    f"{request.out / one} exists and was not made by this project",
                    hint="use --force to replace it, or -o for another folder",
                )


def check_absent(names: Iterable[str], out: pathlib.PurePosixPath, kept: frozenset[str]) -> None:
    """Raise `DeliveryError` if one of `names` is in `kept`, the files that no run made."""
    for name in names:
        if name in kept:
            raise DeliveryError(
                f"{out / name} exists, and no file is replaced",
                hint="move it away, or use -o for another folder",
            )


def file_names(file: Announced, request: ImageRequest, hosts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the file names of the image `file`, one for each of `hosts`."""
    if not file.diskFormat:
        return (file.name,)
    disk_format = request.image.disk_format or file.diskFormat
    compression = request.image.compression or file.compression
    names = (f"{file.name}-{host}" if host else file.name for host in hosts)
    return tuple(file_name(name, disk_format, compression) for name in names)
