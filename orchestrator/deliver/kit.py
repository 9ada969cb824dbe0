"""Writes a kit: a tar archive of plain files whose last members are a manifest and its signature.

run.sh reads kits by itself, on machines that have none of our images yet (caller/kit.sh). So a kit
is simple: only files, in the oldest format of tar that all know, images by the checksums of their
parts. It has no tags, and Docker's own list of images is made anew when a kit is imported.
"""

import dataclasses
import hashlib
import io
import tarfile
import typing
from collections.abc import Callable, Collection, Iterable

from orchestrator.shared.errors import DeliveryError
from orchestrator.shared.kit import MANIFEST, SIGNATURE, TYPE

#: Size of a block of tar, and of the archive's end, in bytes.
BLOCK, END = 512, 1024

#: Size limit of a member in bytes: eleven octal digits.
LARGEST = 8**11 - 1

CHUNK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class KitImage:
    """An image: its name, and the SHA-256 of its configuration (its id) and of its layers."""

    name: str
    config: str
    layers: tuple[str, ...]

    @property
    def parts(self) -> dict[str, str]:
        """Names of the members that the image is made of, by their checksums."""
        return {self.config: f"{self.config}.json"} | {one: f"{one}.tar" for one in self.layers}


class KitWriter:
    """A kit that is being written to a file; each member is hashed while it is copied."""

    def __init__(self, file: typing.BinaryIO) -> None:
        """`file` is empty and seekable."""
        self._file = file
        self._lines: list[str] = []
        self._names: set[str] = set()

    def add(self, name: str, source: typing.BinaryIO) -> str:
        """Add the content of `source` as member `name`; return its SHA-256."""
        return self.add_named(lambda _digest: name, source)

    def add_named(self, named: Callable[[str], str | None], source: typing.BinaryIO) -> str:
        """Add `source` under the name that `named` makes of its SHA-256, or drop it for None."""
        start = self._file.tell()
        self._file.write(bytes(BLOCK))
        total, size = hashlib.sha256(), 0
        while chunk := source.read(CHUNK_BYTES):
            total.update(chunk)
            size += len(chunk)
            self._file.write(chunk)
        digest = total.hexdigest()
        name = named(digest)
        if name is None or name in self._names:
            self._file.seek(start)
            self._file.truncate()
            return digest
        if size > LARGEST:
            raise DeliveryError(
                f"{name} has {size >> 30} GiB, and a part of a kit may have 8",
                hint="make several kits, each with fewer --with",
            )
        self._file.write(bytes(-size % BLOCK))
        end = self._file.tell()
        self._file.seek(start)
        member = tarfile.TarInfo(name)
        member.size = size
        self._file.write(member.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict"))
        self._file.seek(end)
        self._names.add(name)
        self._lines.append(f"file {digest} {size} {name}\n")
        return digest

    def add_images(self, images: Collection[KitImage], saved: Iterable[bytes]) -> None:
        """Add the parts of `images` from the stream of `docker save`; raises `DeliveryError`.

        What its members are is found by their content: each version of Docker names them
        differently.
        """
        wanted = {digest: name for image in images for digest, name in image.parts.items()}
        with tarfile.open(
            fileobj=typing.cast("typing.BinaryIO", _Stream(saved)), mode="r|"
        ) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isreg() else None
                if content is not None:
                    self.add_named(wanted.get, typing.cast("typing.BinaryIO", content))
        for image in images:
            if set(image.parts.values()) - self._names:
                raise DeliveryError(
                    f"Docker has not saved the whole image {image.name}",
                    hint="an engine with containerd's image store saves images in another form:"
                    " make the kit on an engine without",
                )

    def finish(self, heads: Iterable[str], sign: Callable[[bytes], bytes] | None) -> None:
        """Write the manifest, which begins with the lines `heads`, its signature, and the end."""
        text = "".join(f"{line}\n" for line in [TYPE, *heads]) + "".join(self._lines) + "end\n"
        data = text.encode("ascii")
        self.add(MANIFEST, io.BytesIO(data))
        if sign:
            self.add(SIGNATURE, io.BytesIO(sign(data)))
        self._file.write(bytes(END))


class _Stream:
    """A readable file of chunks of bytes."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._left = b""

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; fewer only at the end."""
        parts, missing = [], size
        while missing > 0:
            self._left = self._left or next(self._chunks, b"")
            if not self._left:
                break
            part, self._left = self._left[:missing], self._left[missing:]
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)


def image_line(image: KitImage) -> str:
    """Return the manifest's line about an image."""
    return " ".join(["image", image.name, image.config, *image.layers])
