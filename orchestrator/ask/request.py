"""What the user asked for, frozen: what more than its own verb needs to know of."""

import dataclasses
import pathlib
import typing

from orchestrator.shared.filesystems import FsType
from orchestrator.shared.image_options import ImageOptions
from orchestrator.shared.nix_options import NixOptions

Emulation = typing.Literal["auto", "native", "private", "host", "shared"]

#: The value of `qemu` that has the next rung tried by itself where the default one crashes.
AUTO = "auto"

LogFormat = typing.Literal["auto", "plain", "json"]


@dataclasses.dataclass(frozen=True)
class Caller:
    """Where run.sh was called: facts of the host's side that a container cannot see.

    `cwd`, `home` and `root`, the checkout, are the host's paths; `columns` is the terminal's width,
    0 where there is none; `out_kib` the free KiB where images go, None if unknown; `socket` the
    Docker socket's path on the engine's host; `source` is the sum of what run.sh has
    made the orchestrator's image of; `sparse` says whether the caller's tar knows holes.
    """

    cwd: pathlib.PurePosixPath
    home: pathlib.PurePosixPath
    root: pathlib.PurePosixPath
    columns: int
    out_kib: int | None
    socket: str
    run: str
    source: str
    sparse: bool
    ca_bundle: str


@dataclasses.dataclass(frozen=True)
class ImageRequest:
    """What is asked by everything that makes images; `timeout` and the others are seconds.

    `qemu` is a rung of the ladder of emulators, `AUTO`, or empty where none is named.
    `memory` is the builder's limit in MiB, 0 for the default; `sign` a private SSH key.
    """

    out: pathlib.PurePosixPath
    boot: bool
    emulation: Emulation
    qemu: str
    locked: bool
    strict: bool
    memory: int
    emulation_timeout: float
    boot_timeout: float
    timeout: float
    dry_run: bool
    sign: pathlib.PurePosixPath | None
    log_format: LogFormat
    image: ImageOptions


@dataclasses.dataclass(frozen=True)
class Demo(ImageRequest):
    """`demo`: build the demo system.

    An empty `system` means the one that is foreign to the host.
    """

    system: str
    format: str
    root_fs: FsType
    ssh_key: pathlib.PurePosixPath | None


@dataclasses.dataclass(frozen=True)
class Build(ImageRequest):
    """`build`: make NixOS images of a configuration, or of a flake's.

    `flake` is a path of the caller's or a reference that Nix fetches, as is `nixpkgs`, which may be
    empty: then it is the one that is pinned, or the flake's own. `systems` may be empty, too.
    `boot_on_terminal` is for run.sh: that boots the first image by a call of its own.
    """

    configuration: pathlib.PurePosixPath | None
    flake: pathlib.PurePosixPath | str | None
    attribute: str
    nixpkgs: pathlib.PurePosixPath | str
    search_path: tuple[tuple[str, pathlib.PurePosixPath | str], ...]
    formats: tuple[str, ...]
    format_paths: tuple[pathlib.PurePosixPath, ...]
    systems: tuple[str, ...]
    root_fs: FsType | None
    nix_options: NixOptions
    allow_no_login: bool
    boot_on_terminal: bool

    @property
    def trees(self) -> tuple[tuple[str, pathlib.PurePosixPath], ...]:
        """What run.sh must send with all that lies beside it: the option, and the path."""
        named: list[tuple[str, pathlib.PurePosixPath | str | None]] = [
            ("--configuration", self.configuration),
            ("--flake", self.flake),
            ("--nixpkgs", self.nixpkgs),
            *(("-I", path) for _name, path in self.search_path),
            *(("--format-path", path) for path in self.format_paths),
        ]
        return tuple(
            (option, path) for option, path in named if isinstance(path, pathlib.PurePosixPath)
        )


@dataclasses.dataclass(frozen=True)
class Verify:
    """`verify IMAGE`: against what lies beside it, and whose signature it must have.

    That of the public `key`, or of one of the `allowed_signers`; not both, or any at all.
    """

    image: pathlib.PurePosixPath
    key: pathlib.PurePosixPath | None
    allowed_signers: pathlib.PurePosixPath | None
