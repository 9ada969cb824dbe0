"""What Nix hands over to the assembler, and the builder to the orchestrator."""

import dataclasses
import hashlib
import os
import pathlib
import typing

from orchestrator.shared.json_reader import Natural

#: What lies beside an image: its name, and one of these. CycloneDX' own suffix comes first.
SBOM = ".cdx.json"
PROVENANCE = ".provenance.json"
CHECKSUMS = ".sha256"
SIGNATURE = ".sha256.sig"
BLOCK_MAP = ".bmap"
#: The list of a run's images, beside them.
RESULT = "result.json"

BESIDE = (SBOM, PROVENANCE, CHECKSUMS, SIGNATURE, BLOCK_MAP)


@dataclasses.dataclass(frozen=True)
class Material:
    """Something from outside that an image was made of.

    `uri` is a package URL (purl) or a flake's reference, `digest` has hashes in hex by their names
    in in-toto's DigestSet.
    """

    name: str
    version: str
    uri: str
    digest: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Built:
    """What Nix has made for one `format` and `system`: an image spec, or a folder with files."""

    path: pathlib.Path
    system: str
    format: str
    materials: tuple[Material, ...] = ()


@dataclasses.dataclass(frozen=True)
class Artifact:
    """One finished image: `path` and `extras` are relative to the run's folder, `size` in bytes.

    `virtual_size` is that of the disk inside; `firmware` what can start it; `sbom` its bill of
    materials, a file like `path`.
    """

    path: str
    name: str
    system: str
    format: str
    disk_format: str
    compression: str
    firmware: tuple[str, ...]
    host: str
    toplevel: str
    ready_text: str
    size: Natural
    virtual_size: Natural
    sha256: str
    extras: tuple[str, ...]
    sbom: str

    @property
    def file_name(self) -> str:
        """Name of the image's file."""
        return pathlib.PurePosixPath(self.path).name

    def describe(self, out: pathlib.PurePosixPath) -> dict[str, typing.Any]:
        """This image's own part of `result.json`; `out` is the caller's folder."""
        return {
            "name": self.name,
            "system": self.system,
            "format": self.format,
            "store_path": self.toplevel,
            "path": os.fspath(out / self.file_name),
            "host": self.host,
            "disk_format": self.disk_format,
            "compression": self.compression,
            "firmware": list(self.firmware),
            "size": self.size,
            "virtual_size": self.virtual_size,
            "sha256": self.sha256,
            "sbom": pathlib.PurePosixPath(self.sbom).name,
            "bmap": next((pathlib.PurePosixPath(path).name for path in self.extras), None),
        }


def sha256_of(file: pathlib.Path) -> str:
    """Checksum of `file` in hex."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
