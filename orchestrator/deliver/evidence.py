"""Writes files beside each image: provenance, Imager's list, report, checksums, their signature.

The builder has written the bill of materials already, because only it knows an image's content.
"""

import json
import pathlib
import typing
from collections.abc import Callable

from orchestrator.deliver import imager, provenance, signing
from orchestrator.deliver.report_checks import Story
from orchestrator.shared.artifact import (
    CHECKSUMS,
    IMAGER,
    PROVENANCE,
    REPORT,
    SIGNATURE,
    Artifact,
    sha256_of,
)
from orchestrator.shared.errors import STOPPED


def write(
    folder: pathlib.Path,
    image: Artifact,
    about: provenance.About,
    story: Story,
    warn: Callable[[str], None],
) -> list[str]:
    """Write the files to the image's `folder`; returns the names of all files beside the image.

    `story` is what the image's report says of the run. A report that fails is left out: `warn`
    gets the reason.
    """
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
    if told := _report(folder, image, document, about, story, warn):
        listings.append(told.name)
        found[told.name] = sha256_of(told)
    sums = folder / f"{image.file_name}{CHECKSUMS}"
    sums.write_text("".join(f"{digest}  {name}\n" for name, digest in found.items()))
    names = [bill, statement.name, sums.name]
    if about.request.sign:
        signature = folder / f"{image.file_name}{SIGNATURE}"
        signature.write_bytes(signing.sign(about.caller, sums.read_bytes()))
        names.append(signature.name)
    return [*names, *listings]


def _report(
    folder: pathlib.Path,
    image: Artifact,
    document: dict[str, typing.Any],
    about: provenance.About,
    story: Story,
    warn: Callable[[str], None],
) -> pathlib.Path | None:
    """Write the image's report; None if that failed, whatever the cause: the image is good."""
    try:
        from orchestrator.deliver import report  # its templates cost time at each start

        return report.write(folder, image, document, about, story)
    except STOPPED:
        raise
    except Exception as error:  # noqa: BLE001 - a fault of the report must not cost the image
        (folder / f"{image.file_name}{REPORT}").unlink(missing_ok=True)
        warn(f"{image.file_name}{REPORT} was not written: {error!r}")
        return None
