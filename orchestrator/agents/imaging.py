"""From a spec to the files that are handed over: raw image, its checks, conversion, checksum."""

import hashlib
import pathlib
import time

from orchestrator.agents import events
from orchestrator.agents.artifact import Artifact
from orchestrator.agents.run import Run
from orchestrator.image import bmap, compare, convert, late
from orchestrator.image.assemble import assemble
from orchestrator.image.filesystem import FilesystemError
from orchestrator.image.options import ImageOptions
from orchestrator.image.spec import ImageSpec
from orchestrator.image.tree import Entry

#: The image before its conversion; a stamp's images are made one after the other.
RAW = "image.raw"


def make_artifact(
    run: Run, folder: pathlib.Path, spec: ImageSpec, options: ImageOptions, device: late.Device
) -> Artifact:
    """Make the image of `spec` for `device` below `folder`.

    Raises the assembler's errors; nothing half-written stays.
    """
    events.emit("assemble", message=f"assembling {spec.file_name}")
    entries = late.late_entries(options, device)
    raw = folder / RAW
    target = folder / spec.file_name
    try:
        layout = assemble(spec, raw, run.folder, entries)
        if options.check:
            _check_twice(run, spec, raw, entries)
        if wrong := late.misplaced(raw, entries, inline_twice=spec.root.fsType == "btrfs"):
            raise FilesystemError(f"/{wrong[0]}: a secret is not only where it belongs")
        extras = []
        if options.bmap:
            mapped = folder / f"{spec.file_name}.bmap"
            mapped.write_text(bmap.block_map(raw))
            extras.append(mapped)
        plain = folder / f"{spec.name}.plain"
        if spec.diskFormat != "raw":
            events.emit("assemble", message=f"converting to {spec.diskFormat}")
        convert.convert(raw, spec.diskFormat, plain, spec.identifier("image"))
        raw.unlink(missing_ok=True)
        if spec.compression != "none":
            events.emit("assemble", message=f"compressing with {spec.compression}")
        convert.compress(plain, spec.compression, target)
        plain.unlink(missing_ok=True)
    except BaseException:
        for path in folder.glob(f"{spec.name}*"):
            path.unlink()
        raw.unlink(missing_ok=True)
        raise
    with target.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Artifact(
        path=target.relative_to(run.folder).as_posix(),
        name=spec.name,
        system=spec.system,
        format=spec.format,
        disk_format=spec.diskFormat,
        compression=spec.compression,
        firmware=spec.boots_under,
        host=device.host,
        toplevel=spec.toplevel,
        ready_text=spec.readyText,
        size=target.stat().st_size,
        virtual_size=layout.size,
        sha256=digest,
        extras=tuple(path.relative_to(run.folder).as_posix() for path in extras),
    )


def _check_twice(
    run: Run, spec: ImageSpec, first: pathlib.Path, entries: tuple[Entry, ...]
) -> None:
    """Assemble again, at another time and place, and compare."""
    events.emit("assemble", message="assembling once more, to compare")
    second = first.with_name("second.raw")
    time.sleep(1.1)  # clocks that count whole seconds must not show the same
    try:
        layout = assemble(spec, second, run.folder, entries)
        offset = compare.first_difference(first, second)
        if offset is not None:
            raise FilesystemError(
                f"two builds differ at byte {offset}: {compare.describe(second, layout, offset)}"
            )
    finally:
        second.unlink(missing_ok=True)
    events.emit("checked", message="two builds are the same bits")
