"""Describes what was built: results of Nix, finished images, and what they were made from."""

import dataclasses
import hashlib
import os
import pathlib
import typing

from orchestrator.shared.json_reader import Natural

#: Suffixes of the files beside an image: the image's file name plus one of these. .cdx.json is
#: CycloneDX' standard suffix.
SBOM = ".cdx.json"
PROVENANCE = ".provenance.json"
CHECKSUMS = ".sha256"
SIGNATURE = ".sha256.sig"
BLOCK_MAP = ".bmap"
IMAGE_INFO = ".image-info.json"
#: Repository for Raspberry Pi Imager that has this image.
IMAGER = ".rpi-imager.json"
#: Report for people.
REPORT = ".report.html"
#: More suffixes: of the image's own result, of its boot check's log, of Nix' log.
IMAGE_RESULT = ".result.json"
SERIAL_LOG = ".serial.log"
LOG = ".log"

#: Suffixes of what `verify` checks, and of all files beside an image (`beside` in caller/named.sh
#: is the same list).
DOCUMENTS = (SBOM, PROVENANCE, CHECKSUMS, SIGNATURE, BLOCK_MAP, IMAGE_INFO, IMAGER, REPORT)
BESIDE = (*DOCUMENTS, IMAGE_RESULT, SERIAL_LOG, LOG)

#: Files that list the last run's images and their SSH host keys, and Nix' log of a run that failed.
RESULT = "result.json"
KNOWN_HOSTS = "known_hosts"
BUILD_LOG = "build.log"

#: Marks in the files that runs make: by these run.sh (caller/ours.sh) knows them, whatever their
#: names are.
BUILD_TYPE = "urn:nixos-image:build:v1"
RESULT_TYPE = "urn:nixos-image:result:v1"
LOG_TYPE = "urn:nixos-image:log:v1"
KNOWN_HOSTS_TYPE = "urn:nixos-image:known-hosts:v1"


@dataclasses.dataclass(frozen=True)
class Material:
    """A source or package that an image was built from.

    `uri` is a package URL (purl) or a flake reference; `digest` has hex hashes by algorithm, as
    in-toto's DigestSet.
    """

    name: str
    version: str
    uri: str
    digest: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Built:
    """Build result for one `format` and `system`: the path of an image spec or of a folder.

    `files` are further files of an image with this spec, text by path: Nix knows nothing of them.
    """

    path: pathlib.Path
    system: str
    format: str
    materials: tuple[Material, ...] = ()
    files: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Artifact:
    """One finished image: `path` and `extras` are relative to the run's folder, `size` in bytes.

    `virtual_size` is the size of the disk in the image, `firmware` the kinds that can boot it,
    `sbom` the path of its bill of materials, `unpacked_sha256` the SHA-256 of the image before it
    was compressed. `serial` and `ssh_host_key`, a public key, are the device's, "" if they are not
    derived (`--identity-seed`). `made` tells what the image was made from
    (`agents/builder/post.py`), "" if the run does not want to know.
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
    unpacked_sha256: str
    extras: tuple[str, ...]
    sbom: str
    serial: str = ""
    ssh_host_key: str = ""
    made: str = ""

    @property
    def file_name(self) -> str:
        """File name of the image."""
        return pathlib.PurePosixPath(self.path).name

    def describe(self, out: pathlib.PurePosixPath) -> dict[str, typing.Any]:
        """Return this image's entry of `result.json`; `out` is the caller's output folder."""
        return {
            "name": self.name,
            "system": self.system,
            "format": self.format,
            "store_path": self.toplevel,
            "path": os.fspath(out / self.file_name),
            "host": self.host,
            "serial": self.serial,
            "ssh_host_key": self.ssh_host_key,
            "disk_format": self.disk_format,
            "compression": self.compression,
            "firmware": list(self.firmware),
            "size": self.size,
            "virtual_size": self.virtual_size,
            "sha256": self.sha256,
            "sbom": pathlib.PurePosixPath(self.sbom).name,
            "bmap": self._beside(BLOCK_MAP),
            "image_info": self._beside(IMAGE_INFO),
            "made": self.made,
        }

    def _beside(self, suffix: str) -> str | None:
        """Return the name of the extra file with `suffix`."""
        names = (pathlib.PurePosixPath(path).name for path in self.extras)
        return next((name for name in names if name.endswith(suffix)), None)


def sha256_of(file: pathlib.Path) -> str:
    """SHA-256 of `file` in hex."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
