"""Makes the delivered files of images: raw image, checks, conversion, checksum, SBOM."""

import concurrent.futures
import dataclasses
import functools
import itertools
import os
import pathlib
import shutil
import time
import uuid
from collections.abc import Callable, Sequence

from orchestrator.agents import events, room
from orchestrator.agents.builder import sbom
from orchestrator.agents.builder.image_info import DESCRIBED, image_info
from orchestrator.agents.failure import AgentError
from orchestrator.image import bmap, changes, compare, convert, examine, late, search, sparse
from orchestrator.image.assemble import assemble
from orchestrator.image.filesystems.filesystem import FilesystemError
from orchestrator.image.identity import Identity
from orchestrator.image.layout import Layout
from orchestrator.image.loaders.signing import Signer
from orchestrator.image.stamping import Late, Stamper
from orchestrator.shared.artifact import BLOCK_MAP, IMAGE_INFO, Artifact, sha256_of
from orchestrator.shared.codes import CODES, DISK_FULL
from orchestrator.shared.constants import MIB
from orchestrator.shared.cost import AT_A_TIME, UNSENT
from orchestrator.shared.filesystems import FILESYSTEMS
from orchestrator.shared.image_options import ImageOptions
from orchestrator.shared.run import Run
from orchestrator.shared.spec import ImageSpec

#: File name of the raw image before its conversion; raw images are assembled one at a time.
RAW = "image.raw"


@dataclasses.dataclass(frozen=True)
class Wanted:
    """An image to make: `late` are its device's entries, `parts` are listed in its bill.

    `identity` is the device's, if it is derived.
    """

    spec: ImageSpec
    device: late.Device
    late: Late
    parts: sbom.Parts
    identity: Identity | None = None


class Group:
    """Images that one raw image serves: one disk, late entries of one shape.

    Each is handed over when it is made, but the one that others are copied from after these. Of a
    group that fails nothing else is left.
    """

    def __init__(
        self,
        run: Run,
        folder: pathlib.Path,
        options: ImageOptions,
        wanted: Sequence[Wanted],
        hand: Callable[[Wanted, Artifact], None],
    ) -> None:
        """Make nothing yet; the files go to `folder`.

        `hand` takes over an image that is finished, and returns when there is room for another.
        """
        self._run, self._folder, self._options, self._hand = run, folder, options, hand
        # A raw file is what the others are made from, so its turn comes last.
        self._wanted = sorted(wanted, key=lambda one: (_is_raw(one.spec), *_kind(one.spec)))
        self._second = folder / "second"
        #: Names of images that were handed over.
        self._gone: set[str] = set()

    def make(self) -> None:
        """Make the images of the group that were not handed over yet.

        Raises the assembler's errors; then it may be called again.
        """
        left = [one for one in self._wanted if one.spec.file_name not in self._gone]
        made: set[pathlib.Path] = set()
        try:
            stamper, layout = self._assembled(left)
            kinds = itertools.groupby(left, key=lambda one: _kind(one.spec))
            for _kind_of, group in kinds:
                self._of_one_kind(list(group), stamper, layout, made)
        except BaseException:
            for path in made:
                path.unlink(missing_ok=True)
            raise
        finally:
            (self._folder / RAW).unlink(missing_ok=True)
            for folder in (self._second, self._folder / "signed"):
                shutil.rmtree(folder, ignore_errors=True)

    def _hand_over(self, one: Wanted, image: Artifact, made: set[pathlib.Path]) -> None:
        """Let go of an image and of the files beside it."""
        for path in (image.path, image.sbom, *image.extras):
            made.discard(self._run.folder / path)
        self._gone.add(one.spec.file_name)
        self._hand(one, image)

    def _assembled(self, wanted: Sequence[Wanted]) -> tuple[Stamper, Layout]:
        """Assemble the raw image with the first device's late values, and check it."""
        first, raw = wanted[0], self._folder / RAW
        events.emit("assemble", message=f"assembling {first.spec.file_name}")
        layout = self._assemble(first, raw)
        examine.raw_image(raw, layout, first.spec.root.fsType)
        if wrong := search.misplaced(
            raw,
            first.late,
            others=[entry for one in wanted for entry in one.late],
            inline_copies=FILESYSTEMS[first.spec.root.fsType].inline_copies,
        ):
            raise FilesystemError(
                f"/{wrong[0]}: the image also has the first bytes of this secret elsewhere"
                " (with mode 644 the file is not treated as a secret)"
            )
        return Stamper(raw, layout, first.spec, [one.late for one in wanted]), layout

    def _assemble(self, one: Wanted, target: pathlib.Path) -> Layout:
        return assemble(
            one.spec,
            target,
            scratch=self._run.folder,
            late=one.late,
            mapped=self._options.bmap,
            signer=_signer(self._options, self._folder / "signed"),
        )

    def _of_one_kind(
        self, wanted: list[Wanted], stamper: Stamper, layout: Layout, made: set[pathlib.Path]
    ) -> None:
        """Make images of one disk format and compression; their files are added to `made`."""
        first, *others = wanted
        finish = functools.partial(self._finished, layout=layout, made=made)
        target, unpacked = self._converted(first, stamper, made)
        image = finish(first, target, unpacked)
        self._check_room(target, len(others))
        packed = first.spec.compression != "none" or not others
        where = [] if packed else changes.extents(target, first.spec.diskFormat)
        template = functools.partial(changes.placed, where=where)
        if packed or template(stamper.changes(first.late)) is None:
            self._hand_over(first, image, made)
            for one in others:
                self._hand_over(one, finish(one, *self._converted(one, stamper, made)), made)
            return

        def copied(one: Wanted) -> None:
            events.emit("assemble", message=f"stamping {one.spec.file_name}")
            copy = self._folder / one.spec.file_name
            made.add(copy)
            sparse.copy(target, copy)
            changes.write(copy, template(stamper.changes(one.late)) or [])
            convert.identify(copy, one.spec.diskFormat, _identity(one.spec))
            examine.disk_file(copy, one.spec.diskFormat)
            self._hand_over(one, finish(one, copy, sha256_of(copy)), made)

        # Second assemblies use one folder.
        workers = 1 if self._options.check else min(AT_A_TIME, len(os.sched_getaffinity(0)))
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            list(pool.map(copied, others))
        self._hand_over(first, image, made)

    def _converted(
        self, one: Wanted, stamper: Stamper, made: set[pathlib.Path]
    ) -> tuple[pathlib.Path, str]:
        """Make the file of `one` from the raw image; returns it, and the SHA-256 before packing."""
        stamper.turn_to(one.late)
        target = self._folder / one.spec.file_name
        made.add(target)
        return target, _finish(one.spec, stamper.raw, target)

    def _finished(
        self,
        one: Wanted,
        target: pathlib.Path,
        unpacked: str,
        *,
        layout: Layout,
        made: set[pathlib.Path],
    ) -> Artifact:
        """Check the image `target`, write the files beside it, and describe it."""
        spec = one.spec
        if self._options.check:
            self._check(one, target)
        extras = []
        if self._options.bmap:
            extras.append((BLOCK_MAP, bmap.block_map(self._raw_of(one, target))))
        if spec.format in DESCRIBED:
            extras.append((IMAGE_INFO, image_info(spec, layout.size)))
        files = [target.with_name(f"{target.name}{suffix}") for suffix, _text in extras]
        made.update(files)
        for file, (_suffix, text) in zip(files, extras, strict=True):
            file.write_text(text)
        digest = unpacked if spec.compression == "none" else sha256_of(target)
        bill = sbom.write(target, digest, one.parts)
        made.add(bill)
        return Artifact(
            path=target.relative_to(self._run.folder).as_posix(),
            name=spec.name,
            system=spec.system,
            format=spec.format,
            disk_format=spec.diskFormat,
            compression=spec.compression,
            firmware=spec.boots_under,
            host=one.device.host,
            toplevel=spec.toplevel,
            ready_text=spec.readyText,
            size=target.stat().st_size,
            virtual_size=layout.size,
            sha256=digest,
            unpacked_sha256=unpacked,
            extras=tuple(path.relative_to(self._run.folder).as_posix() for path in files),
            sbom=bill.relative_to(self._run.folder).as_posix(),
            serial=one.identity.serial if one.identity else "",
            ssh_host_key=one.identity.public_key if one.identity and spec.late.hostKey else "",
        )

    def _raw_of(self, one: Wanted, target: pathlib.Path) -> pathlib.Path:
        """Return the raw image that the raw or packed file `target` has."""
        return target if _is_raw(one.spec) else self._folder / RAW

    def _check(self, one: Wanted, target: pathlib.Path) -> None:
        """Assemble the image a second time, at another time and path, and compare."""
        events.emit("assemble", message="assembling a second time, to compare")
        self._second.mkdir()
        time.sleep(1.1)  # then even times in whole seconds differ
        raw = self._second / RAW
        layout = self._assemble(one, raw)
        offset = None
        if _is_raw(one.spec):
            offset = compare.first_difference(target, raw)
        elif (self._folder / RAW).exists():
            offset = compare.first_difference(self._folder / RAW, raw)
        if offset is not None:
            raise FilesystemError(
                f"two raw images differ at byte {offset}: {compare.describe(raw, layout, offset)}"
            )
        again = self._second / one.spec.file_name
        _finish(one.spec, raw, again)
        offset = compare.first_difference(target, again)
        if offset is not None:
            raise FilesystemError(f"two builds of {target.name} differ at byte {offset}")
        shutil.rmtree(self._second)
        events.emit("checked", message="two builds are identical")

    def _check_room(self, target: pathlib.Path, others: int) -> None:
        """Raise `AgentError` if `others` more images like `target` would fill the disk."""
        at_once = min(others, AT_A_TIME + UNSENT)
        needed = at_once * target.stat().st_blocks * 512
        free = room.Room(self._folder).least - room.SCARCE
        if others and needed > free:
            raise AgentError(
                f"{at_once} more images of {target.name}'s size need {-(-needed // MIB)} MiB, and"
                f" the disk of Docker's data has {max(free, 0) // MIB} MiB",
                hint=CODES[DISK_FULL].remedy,
                kind="disk",
                code=DISK_FULL,
            )


def _kind(spec: ImageSpec) -> tuple[str, str]:
    return spec.diskFormat, spec.compression


def _is_raw(spec: ImageSpec) -> bool:
    return _kind(spec) == ("raw", "none")


def _identity(spec: ImageSpec) -> uuid.UUID:
    """Return the identifier of the image's file, which VirtualBox and others tell files by."""
    return spec.identifier(f"image {spec.name}")


def _finish(spec: ImageSpec, raw: pathlib.Path, target: pathlib.Path) -> str:
    """Convert and compress `raw` to the delivered file `target`; only to deliver it, raw is moved.

    Returns the SHA-256 of the image before it is compressed.
    """
    plain = raw
    if spec.diskFormat != "raw":
        events.emit("assemble", message=f"converting the image to {spec.diskFormat}")
        plain = raw.with_name(f"{spec.name}.plain")
        convert.convert(raw, spec.diskFormat, plain, _identity(spec))
        examine.disk_file(plain, spec.diskFormat)
    digest = sha256_of(plain)
    if spec.compression != "none":
        events.emit("assemble", message=f"compressing with {spec.compression}")
    convert.compress(plain, spec.compression, target)
    if plain != raw:
        plain.unlink(missing_ok=True)
    examine.packed(target)
    return digest


def _signer(options: ImageOptions, folder: pathlib.Path) -> Signer | None:
    """Return what signs for Secure Boot, if a key is given; `folder` is for signed programs."""
    if not options.secure_boot_key:
        return None
    return Signer(options.secure_boot_key, options.secure_boot_cert, folder)
