"""Writes files beside each image: provenance, Imager's list, checksums, their signature.

The builder has written the bill of materials already, because only it knows an image's content.
"""

import json
import pathlib

from orchestrator.deliver import imager, provenance, signing
from orchestrator.shared.artifact import (
    CHECKSUMS,
    IMAGER,
    PROVENANCE,
    SIGNATURE,
    Artifact,
    sha256_of,
)


def write(folder: pathlib.Path, images: list[Artifact], about: provenance.About) -> list[str]:
    """Write the files to the images' `folder`; returns the names of all files beside images."""
    names = []
    for image in images:
        bill = pathlib.PurePosixPath(image.sbom).name
        found = {image.file_name: image.sha256}
        listings = []
        if imager.is_for_cards(image):
            listing = folder / f"{image.file_name}{IMAGER}"
            repository = imager.repository(image, about.request.out, about.ended)
            listing.write_text(json.dumps(repository, indent=1) + "\n")
            listings = [listing.name]
        others = [bill, *(pathlib.PurePosixPath(path).name for path in image.extras), *listings]
        found |= {name: sha256_of(folder / name) for name in others}
        statement = folder / f"{image.file_name}{PROVENANCE}"
        document = provenance.statement(image, found[bill], about)
        statement.write_text(json.dumps(document, indent=1) + "\n")
        found[statement.name] = sha256_of(statement)
        sums = folder / f"{image.file_name}{CHECKSUMS}"
        sums.write_text("".join(f"{digest}  {name}\n" for name, digest in found.items()))
        names += [bill, statement.name, sums.name]
        if about.request.sign:
            signature = folder / f"{image.file_name}{SIGNATURE}"
            signature.write_bytes(signing.sign(about.caller, sums.read_bytes()))
            names.append(signature.name)
        names += listings
    return names
