"""The caller's images that an earlier run has delivered, and that are whole: run.sh has checked."""

import os
import pathlib
import re
import typing
from collections.abc import Callable

from orchestrator.ask.request import Caller
from orchestrator.ask.uploads import DELIVERED, list_folder
from orchestrator.shared.artifact import CHECKSUMS, IMAGE_RESULT, SIGNATURE, Artifact
from orchestrator.shared.json_reader import JsonError, from_json, read_json
from orchestrator.shared.spec import is_file_name

#: Most bytes of a result that is read: it is a file of the caller's.
LARGEST = 1 << 20

SHA256 = re.compile("[0-9a-f]{64}")

#: Fields of an image whose names `Artifact.describe` does not change.
SAME = (
    *("name", "system", "format", "disk_format", "compression", "firmware", "host", "size"),
    *("virtual_size", "sha256", "sbom", "serial", "ssh_host_key", "made"),
)

type Document = dict[str, typing.Any]


def delivered(who: Caller, sign: Callable[[bytes], bytes] | None) -> tuple[Artifact, ...]:
    """Return the images whose results run.sh has sent.

    With `sign`, which signs checksums, only those that are signed with the same key.
    """
    folder = list_folder(who) / DELIVERED
    found = (_read(one, sign) for one in sorted(folder.glob(f"*{IMAGE_RESULT}")))
    return tuple(one for one in found if one)


def _read(result: pathlib.Path, sign: Callable[[bytes], bytes] | None) -> Artifact | None:
    """Return the image of one result; None if the result is not as runs write it."""
    name = result.name.removesuffix(IMAGE_RESULT)
    try:
        if sign:
            sums, signature = (result.with_name(f"{name}{end}") for end in (CHECKSUMS, SIGNATURE))
            if sign(_content(sums)) != _content(signature):
                return None
        document = read_json(_content(result).decode(), result.name)
        (image,) = typing.cast("Document", document)["images"]
        found = described(image)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, JsonError):
        return None
    names = (found.file_name, found.name, found.sbom, *found.extras)
    good = found.file_name == name and all(is_file_name(one) for one in names)
    return found if good and SHA256.fullmatch(found.sha256) else None


def described(image: Document) -> Artifact:
    """Return the image of an entry of `result.json`, without what that does not tell.

    Raises `JsonError`, `LookupError` or `TypeError` if the entry is not one of `Artifact.describe`.
    """
    fields = {name: image[name] for name in SAME} | {
        "path": pathlib.PurePosixPath(image["path"]).name,
        "toplevel": image["store_path"],
        "ready_text": "",
        "unpacked_sha256": "",
        "extras": [one for one in (image["bmap"], image["image_info"]) if one],
    }
    return from_json(Artifact, fields, "image")


def _content(file: pathlib.Path) -> bytes:
    """Return the content of a file of the caller's; raises `OSError` if it is a link or large."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as opened:
        content = opened.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise OSError(f"{file.name} is too large")
    return content
