"""One raw image for many devices: the late values of the next one replace those of the last.

Images of one disk whose devices' late files have the same names, owners, modes and numbers of
blocks differ only in the content and the sizes of these files. So one of them is assembled, and the
others are made by changing those bytes: they have the bytes that an assembly would have given them.
"""

import pathlib
import typing
from collections.abc import Sequence

from orchestrator.image import changes
from orchestrator.image.changes import Change
from orchestrator.image.filesystems.ext4_files import Files
from orchestrator.image.layout import Layout
from orchestrator.image.tree import Entry, pieces
from orchestrator.shared.filesystems import FILESYSTEMS
from orchestrator.shared.spec import ImageSpec

#: Modules' classes that replace files of a finished file system, by its name: each that
#: `replaces` in filesystems.toml has one.
REPLACERS = {"ext4": Files}

type Late = tuple[Entry, ...]


def shape(spec: ImageSpec, late: Late) -> typing.Hashable:
    """Return a value that is equal for late entries for which one raw image of `spec` serves.

    Where files cannot be replaced in the root file system, that are equal entries only.
    """
    if not FILESYSTEMS[spec.root.fsType].replaces:
        return late
    return tuple(
        (
            *(one.path, one.kind, one.mode, one.user, one.group, one.target, one.source),
            tuple(any(piece) for piece in pieces(one.data)),  # a block of zeros is a hole
        )
        for one in late
    )


class Stamper:
    """The raw image `raw`, whose root has the late entries of the first of `devices`."""

    def __init__(
        self, raw: pathlib.Path, layout: Layout, spec: ImageSpec, devices: Sequence[Late]
    ) -> None:
        """`devices` are the late entries of all devices, which have one shape.

        Raises `FilesystemError` if a file that differs between them is not found in the image.
        """
        self.raw, self._now = raw, devices[0]
        columns = zip(*devices, strict=True)
        #: Positions of the entries that are not the same for all devices.
        self._varying = [at for at, same in enumerate(columns) if len(set(same)) > 1]
        self._files = None
        if self._varying:
            there = self._content(devices[0])
            self._files = REPLACERS[spec.root.fsType](raw, layout.root, there)

    def changes(self, late: Late) -> list[Change]:
        """Return the changes of the disk, whichever device it has, that give it `late`."""
        return self._files.changes(self._content(late)) if self._files else []

    def turn_to(self, late: Late) -> None:
        """Give the raw image the late entries `late`."""
        if late != self._now:
            changes.write(self.raw, self.changes(late))
            self._now = late

    def _content(self, late: Late) -> dict[str, bytes]:
        return {late[at].path: late[at].data for at in self._varying}
