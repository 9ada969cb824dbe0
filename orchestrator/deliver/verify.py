"""Verifies an image against its checksums, SBOM, provenance and signature.

Files are checked while they are received: a large image is not stored again.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import tarfile
import typing

from orchestrator.ask.request import Verify
from orchestrator.deliver import provenance, signing
from orchestrator.shared.artifact import CHECKSUMS, DOCUMENTS, PROVENANCE, SBOM, SIGNATURE
from orchestrator.shared.errors import DeliveryError, VerificationError

#: Suffixes of documents that must be beside the image.
DESCRIBES = (SBOM, PROVENANCE)

#: Suffixes of all documents that must have a checksum, if they are there: who has verified an image
#: trusts what lies beside it.
TRUSTED = tuple(suffix for suffix in DOCUMENTS if suffix not in {CHECKSUMS, SIGNATURE})

#: Last line if no signature was checked: whoever changes a file can change its checksum, too.
NOT_AUTHENTICATED = (
    "origin      not authenticated: the files match each other, but anybody may have made them;"
    " --key FILE checks who signed them"
)

#: Size limit of a document that is read, in bytes. Its values take many times as much memory. An
#: SBOM of this size has tens of thousands of packages.
DOCUMENT_BYTES = 16 << 20

#: Longest text of a provenance that is shown. A longer one could fill the lines below.
SHOWN = 60

CHUNK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class File:
    """A received file; `data` is None for a file that is only compared with its checksum."""

    sha256: str
    data: bytes | None


def verify(request: Verify, stream: typing.BinaryIO) -> str:
    """Check the files of the tar archive `stream`, which run.sh sends; returns a report.

    Without a key or allowed signers in `request`, the report ends with `NOT_AUTHENTICATED`. Raises
    `VerificationError` for the first failed check.
    """
    image = request.image
    described = [f"{image}{suffix}" for suffix in (*DESCRIBES, CHECKSUMS, SIGNATURE)]
    read = {pathlib.PurePosixPath(path) for path in described}
    signers = {path for path in (request.key, request.allowed_signers) if path}
    files = read_files(stream, (read | signers) - {image})
    sums = files.get(image.with_name(f"{image.name}{CHECKSUMS}"))
    if not sums:
        raise VerificationError(
            f"{image.name}{CHECKSUMS} is not beside the image",
            hint="keep all delivered files in one folder",
        )
    found = _check_sums(image, sums, files)
    lines = [f"checksums   {len(found)} files, SHA-256 of the image {files[image].sha256}"]
    lines.append(_check_sbom(image.name, files[image].sha256, _document(files, image, SBOM)))
    statement = _document(files, image, PROVENANCE)
    lines.append(_check_provenance(image.name, files[image].sha256, statement))
    lines.append(_check_signature(request, sums, files))
    if not (request.key or request.allowed_signers):
        lines.append(NOT_AUTHENTICATED)
    return "".join(f"{_printable(line)}\n" for line in lines)


def read_files(
    stream: typing.BinaryIO, read: set[pathlib.PurePosixPath]
) -> dict[pathlib.PurePosixPath, File]:
    """Read a tar archive; returns files by absolute path, with the content of those in `read`."""
    files = {}
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is None:
                    continue
                path = pathlib.PurePosixPath("/", member.name)
                if path in read and member.size > DOCUMENT_BYTES:
                    raise VerificationError(
                        f"{path.name}: too large for checksums, a signature or a provenance"
                    )
                digest, chunks = hashlib.sha256(), []
                while chunk := content.read(CHUNK_BYTES):
                    digest.update(chunk)
                    if path in read:
                        chunks.append(chunk)
                data = b"".join(chunks) if path in read else None
                files[path] = File(digest.hexdigest(), data)
    except tarfile.TarError as error:
        raise DeliveryError(f"not all files that run.sh sent have arrived: {error}") from error
    return files


def _check_sums(
    image: pathlib.PurePosixPath, sums: File, files: dict[pathlib.PurePosixPath, File]
) -> dict[str, str]:
    listed = {}
    known = [f"{image.name}{suffix}" for suffix in ("", *TRUSTED)]
    for line in (sums.data or b"").splitlines():
        # Format of sha256sum, text or binary mode.
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line.decode(errors="replace"))
        if not match or match[2] not in known:  # no other name gets into a message
            raise VerificationError(f"{image.name}{CHECKSUMS} is not a list of checksums")
        listed[match[2]] = match[1]
    needed = [image.name, *(f"{image.name}{suffix}" for suffix in DESCRIBES)]
    there = [name for name in known if image.with_name(name) in files]
    for name in dict.fromkeys([*needed, *there, *listed]):
        file = files.get(image.parent / name)
        if name not in listed:
            hint = "" if name in needed else "the image's run has not made this file: remove it"
            raise VerificationError(f"{image.name}{CHECKSUMS} does not list {name}", hint=hint)
        if not file:
            raise VerificationError(f"{name} has a checksum, but is not beside the image")
        if file.sha256 != listed[name]:
            raise VerificationError(
                f"{name} has changed: its SHA-256 is {file.sha256}, not {listed[name]}"
            )
    return listed


def _document(
    files: dict[pathlib.PurePosixPath, File], image: pathlib.PurePosixPath, suffix: str
) -> dict[str, typing.Any]:
    """Parse the JSON document with this suffix; _check_sums has verified that it exists."""
    try:
        document = json.loads(files[image.with_name(f"{image.name}{suffix}")].data or b"")
    except (ValueError, RecursionError) as error:
        raise VerificationError(f"{image.name}{suffix} is not JSON: {error}") from error
    return document if isinstance(document, dict) else {}


def _check_sbom(name: str, sha256: str, document: dict[str, typing.Any]) -> str:
    component = _inside(document, "metadata", "component")
    hashes = _inside(component, "hashes")
    if document.get("bomFormat") != "CycloneDX" or hashes != [
        {"alg": "SHA-256", "content": sha256}
    ]:
        raise VerificationError(f"{name}{SBOM} is not about this image")
    components = document.get("components")
    return f"SBOM        {len(components) if isinstance(components, list) else 0} components"


def _check_provenance(name: str, sha256: str, document: dict[str, typing.Any]) -> str:
    subject = {"name": name, "digest": {"sha256": sha256}}
    if document.get("_type") != provenance.STATEMENT or document.get("subject") != [subject]:
        raise VerificationError(f"{name}{PROVENANCE} is not about this image")
    metadata = _inside(document, "predicate", "runDetails", "metadata")
    when, run = _inside(metadata, "finishedOn"), _inside(metadata, "invocationId")
    return f"provenance  made {str(when)[:SHOWN]} by run {str(run)[:SHOWN]}"


def _check_signature(request: Verify, sums: File, files: dict[pathlib.PurePosixPath, File]) -> str:
    name = f"{request.image.name}{SIGNATURE}"
    signature = files.get(request.image.with_name(name))
    given = request.key or request.allowed_signers
    if not given:
        return f"signature   {'present, not checked' if signature else 'none'}"
    if not signature:
        raise VerificationError(
            f"{name} is not beside the image: the image is not signed",
            hint="build the image with --sign FILE",
        )
    signers = (files[given].data or b"").decode(errors="replace")
    if request.key:
        signers = signing.signers_of(signers, os.fspath(request.key))
    return f"signature   {signing.verify(sums.data or b'', signature.data or b'', signers)}"


def _printable(text: str) -> str:
    """Replace unprintable characters: untrusted files must not control the terminal."""
    return "".join(one if one.isprintable() else "?" for one in text)


def _inside(document: object, *names: str) -> typing.Any:  # noqa: ANN401 - JSON
    """Return the value at the path `names`; None if it is missing."""
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return document
