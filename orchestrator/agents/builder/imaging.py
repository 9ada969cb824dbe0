"""Makes the delivered files of an image: raw image, checks, conversion, checksum, SBOM."""

import functools
import glob
import json
import pathlib
import shutil
import time
from collections.abc import Callable

from orchestrator.agents import events
from orchestrator.agents.builder import sbom
from orchestrator.agents.builder.image_info import DESCRIBED, image_info
from orchestrator.image import bmap, compare, convert, examine, late
from orchestrator.image.assemble import assemble
from orchestrator.image.filesystems.filesystem import FilesystemError
from orchestrator.image.layout import Layout
from orchestrator.image.loaders.signing import Signer
from orchestrator.shared.artifact import BLOCK_MAP, IMAGE_INFO, Artifact, Built, sha256_of
from orchestrator.shared.disk_formats import of_suffix
from orchestrator.shared.filesystems import FILESYSTEMS
from orchestrator.shared.image_options import ImageOptions
from orchestrator.shared.paths import ROOT
from orchestrator.shared.run import Run
from orchestrator.shared.spec import ImageSpec, is_file_name

#: Table of formats, which has the firmware of images that nixpkgs assembles.
FORMATS = ROOT / "nix/formats.json"

#: File name of the raw image before its conversion; images are made one at a time.
RAW = "image.raw"


def make_artifact(
    run: Run,
    folder: pathlib.Path,
    spec: ImageSpec,
    options: ImageOptions,
    device: late.Device,
    parts: sbom.Parts,
) -> Artifact:
    """Make the image of `spec` in `folder`, with the late values of `device`.

    `parts` are listed in its bill of materials. Raises the assembler's errors; partial files are
    removed.
    """
    events.emit("assemble", message=f"assembling {spec.file_name}")
    entries = late.late_entries(options, device, spec.late)
    raw, second, signed = folder / RAW, folder / "second", folder / "signed"
    target = folder / spec.file_name
    if not is_file_name(target.name):  # a --stamp row's host is part of the name
        raise FilesystemError(f"{target.name!r} is not allowed as a file name: too long?")
    if target.exists():
        raise FilesystemError(
            f"{target.name}: two images of this run have that name; build one at a time, or do"
            " not set nixosImage.baseName"
        )
    try:
        make = functools.partial(
            assemble,
            spec,
            scratch=run.folder,
            late=entries,
            mapped=options.bmap,
            signer=_signer(options, signed),
        )
        layout = make(raw)
        if options.check:
            _check_raw(raw, second / RAW, make)
        examine.raw_image(raw, layout, spec.root.fsType)
        if wrong := late.misplaced(
            raw, entries, inline_copies=FILESYSTEMS[spec.root.fsType].inline_copies
        ):
            raise FilesystemError(
                f"/{wrong[0]}: the image also has the first bytes of this secret elsewhere"
                " (with mode 644 the file is not treated as a secret)"
            )
        extras = []
        if options.bmap:
            mapped = folder / f"{spec.file_name}{BLOCK_MAP}"
            mapped.write_text(bmap.block_map(raw))
            extras.append(mapped)
        if spec.format in DESCRIBED:
            described = folder / f"{spec.file_name}{IMAGE_INFO}"
            described.write_text(image_info(spec, layout.size))
            extras.append(described)
        unpacked = _finish(spec, raw, target)
        if options.check:
            _finish(spec, second / RAW, second / spec.file_name)
            _check_file(target, second / spec.file_name)
    except BaseException:
        for path in folder.glob(f"{glob.escape(spec.name)}*"):
            path.unlink()
        raw.unlink(missing_ok=True)
        raise
    finally:
        shutil.rmtree(second, ignore_errors=True)
        shutil.rmtree(signed, ignore_errors=True)
    digest = unpacked if spec.compression == "none" else sha256_of(target)
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
        unpacked_sha256=unpacked,
        extras=tuple(path.relative_to(run.folder).as_posix() for path in extras),
        sbom=sbom.write(target, digest, parts).relative_to(run.folder).as_posix(),
    )


def take_artifacts(run: Run, folder: pathlib.Path, built: Built) -> list[Artifact]:
    """Copy the files that nixpkgs' recipe has made to `folder`, except those for Hydra."""
    found = sorted(
        path
        for path in built.path.rglob("*")
        if path.is_file() and "nix-support" not in path.relative_to(built.path).parts
    )
    if not found:
        raise FilesystemError(f"{built.path}: nixpkgs' recipe made no file")
    formats = json.loads(FORMATS.read_text()).items()
    named = (one for name, one in formats if built.format in (name, *one["aliases"]))
    firmware = tuple(next(named, {"firmware": ()})["firmware"])
    parts = sbom.parts_of_output(built.path)
    artifacts = []
    for path in found:
        events.emit("assemble", message=f"copying {path.name}")
        target = folder / path.name
        if target.exists():  # an image of another format or system has this name
            target = folder / f"{built.format}-{built.system}-{path.name}"
        if not is_file_name(target.name):
            raise FilesystemError(f"{target.name!r} is not allowed as a file name")
        shutil.copyfile(path, target)
        disk_format = of_suffix(path.suffix)
        examine.packed(target)
        examine.disk_file(target, disk_format)
        target.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        digest = sha256_of(target)
        artifacts.append(
            Artifact(
                path=target.relative_to(run.folder).as_posix(),
                name=target.name.partition(".")[0],
                system=built.system,
                format=built.format,
                disk_format=disk_format,
                compression="none",
                firmware=firmware,
                host="",
                toplevel="",
                ready_text="",
                size=target.stat().st_size,
                virtual_size=target.stat().st_size,
                sha256=digest,
                unpacked_sha256=digest,
                extras=(),
                sbom=sbom.write(target, digest, parts).relative_to(run.folder).as_posix(),
            )
        )
    return artifacts


def _finish(spec: ImageSpec, raw: pathlib.Path, target: pathlib.Path) -> str:
    """Convert and compress `raw` to the delivered file `target`; `raw` is removed.

    Returns the SHA-256 of the image before it is compressed.
    """
    if spec.diskFormat != "raw":
        events.emit("assemble", message=f"converting the image to {spec.diskFormat}")
    plain = raw.with_name(f"{spec.name}.plain")
    convert.convert(raw, spec.diskFormat, plain, spec.identifier("image"))
    raw.unlink(missing_ok=True)
    examine.disk_file(plain, spec.diskFormat)
    digest = sha256_of(plain)
    if spec.compression != "none":
        events.emit("assemble", message=f"compressing with {spec.compression}")
    convert.compress(plain, spec.compression, target)
    plain.unlink(missing_ok=True)
    examine.packed(target)
    return digest


def _signer(options: ImageOptions, folder: pathlib.Path) -> Signer | None:
    """Return what signs for Secure Boot, if a key is given; `folder` is for signed programs."""
    if not options.secure_boot_key:
        return None
    return Signer(options.secure_boot_key, options.secure_boot_cert, folder)


def _check_raw(
    first: pathlib.Path, second: pathlib.Path, make: Callable[[pathlib.Path], Layout]
) -> None:
    """Assemble a second raw image, at another time and path, and compare."""
    events.emit("assemble", message="assembling a second time, to compare")
    second.parent.mkdir()
    time.sleep(1.1)  # then even times in whole seconds differ
    layout = make(second)
    offset = compare.first_difference(first, second)
    if offset is not None:
        raise FilesystemError(
            f"two raw images differ at byte {offset}: {compare.describe(second, layout, offset)}"
        )


def _check_file(first: pathlib.Path, second: pathlib.Path) -> None:
    """Compare the delivered file with that of the second build."""
    offset = compare.first_difference(first, second)
    if offset is not None:
        raise FilesystemError(f"two builds of {first.name} differ at byte {offset}")
    events.emit("checked", message="two builds are identical")
