"""What a build will cost: the builder says it after the evaluation, before it fetches or builds."""

import dataclasses
import typing

from orchestrator.shared.json_reader import Natural

#: Most images that are copied and hashed at a time: more only compete for the disk.
AT_A_TIME = 4

#: Images that wait for the caller while the builder makes further ones.
UNSENT = 1

#: Most images of a run on the work volume at a time: the raw image, the one that others are copied
#: from, those that are made and those that wait.
AT_ONCE = 2 + AT_A_TIME + UNSENT

#: Builds that this CPU runs, builds that an emulator runs, those of a foreign system that builders
#: on other machines run, downloads of sources by a derivation.
WorkKind = typing.Literal["native", "either", "emulated", "remote", "source"]


@dataclasses.dataclass(frozen=True)
class PlannedImage:
    """One image: its system and format, and the derivation (a .drv path) of it or of its spec."""

    system: str
    format: str
    derivation: str


@dataclasses.dataclass(frozen=True)
class Fetch:
    """Store paths that one substituter has; an empty `substituter` is not known. Sizes: bytes."""

    substituter: str
    paths: Natural
    download: Natural
    unpacked: Natural


@dataclasses.dataclass(frozen=True)
class Work:
    """A derivation that is built; `kernel`: it is a Linux kernel. `host` is the source's server."""

    kind: WorkKind
    name: str
    kernel: bool = False
    host: str = ""


@dataclasses.dataclass(frozen=True)
class Cost:
    """All that a build fetches and builds, and what it needs of the engine's disks, in bytes.

    `content` is an upper bound of one image's content; the size of what is built is not known.
    `store_free` and `work_free` are free bytes of the store's and the work volume's disk, which is
    one disk if `one_disk`. Each of `images` is made once for each of the `devices`.
    """

    images: tuple[PlannedImage, ...]
    fetches: tuple[Fetch, ...]
    works: tuple[Work, ...]
    content: Natural
    store_free: Natural
    work_free: Natural
    one_disk: bool
    devices: Natural = 1

    @property
    def files(self) -> int:
        """Number of images in the output folder."""
        return len(self.images) * self.devices

    @property
    def download(self) -> int:
        """Bytes that substituters send."""
        return sum(one.download for one in self.fetches)

    @property
    def unpacked(self) -> int:
        """Bytes that fetched paths take in the store."""
        return sum(one.unpacked for one in self.fetches)

    @property
    def paths(self) -> int:
        """Number of fetched paths."""
        return sum(one.paths for one in self.fetches)

    @property
    def work_needed(self) -> int:
        """Bytes of the work volume: an image that is converted exists twice; images leave it."""
        return self.content * min(2 * self.files, AT_ONCE)

    @property
    def out_needed(self) -> int:
        """Bytes of the output folder."""
        return self.content * self.files

    def works_of(self, kind: WorkKind) -> list[Work]:
        """Return the builds of one kind."""
        return [one for one in self.works if one.kind == kind]

    @property
    def emulated_kernels(self) -> list[str]:
        """Names of kernels that an emulator builds."""
        return [one.name for one in self.works_of("emulated") if one.kernel]
