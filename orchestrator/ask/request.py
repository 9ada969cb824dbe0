"""Requests of the user as frozen types, for verbs whose requests other modules need."""

import dataclasses
import os
import pathlib
import typing

from orchestrator.blueprint.marks import PATHS
from orchestrator.shared.builders import Builder
from orchestrator.shared.display import Ci, Display, Terminal
from orchestrator.shared.filesystems import FsType
from orchestrator.shared.image_options import ImageOptions
from orchestrator.shared.nix_options import NixOptions
from orchestrator.shared.push import Push

if typing.TYPE_CHECKING:
    from orchestrator.blueprint.model import Blueprint

Emulation = typing.Literal["auto", "native", "private", "host", "shared"]

#: Value of --qemu: if the default emulator crashes, try the next version automatically.
AUTO = "auto"

#: A path on the caller's host, or a reference that Nix fetches.
Place = pathlib.PurePosixPath | str


@dataclasses.dataclass(frozen=True)
class Caller:
    """Facts of the caller's host, which a container cannot see; run.sh collects them.

    `cwd`, `home` and `root` (the checkout) are paths on the caller's host. `columns` is the
    terminal's width, 0 without a terminal; `out_kib` the free KiB in the output folder, None if
    unknown; `socket` the Docker socket's path on the engine's host; `source` the checksum of the
    orchestrator's image; `sparse` whether the caller's tar can read sparse files; `image` the id of
    the orchestrator's image, which run.sh started by it; `computer` the name of the caller's host.
    `configuration` and `nixpkgs` are what the caller's NIXOS_CONFIG and NIX_PATH name, or empty;
    `searched` is the caller's NIX_PATH. `appliance` is the path of the appliance.toml that run.sh
    has found, and `appliance_text` its content; both are empty without one. For `init` there are
    the caller's name (`user`), time zone and the lines of public keys that the SSH agent has.
    `rows`, `color` and `ci` are those of `Terminal`; `asks` says whether run.sh can ask a person.
    For `doctor` there are run.sh's own `findings` (`shared/rules.py`). `builders` are the lines of
    --builders, after a line @FOLDER for each (`ask/builders.py`).
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
    image: str
    computer: str = ""
    configuration: str = ""
    nixpkgs: str = ""
    searched: str = ""
    appliance: str = ""
    appliance_text: str = ""
    user: str = ""
    zone: str = ""
    agent_keys: str = ""
    rows: int = 0
    color: bool = True
    ci: Ci = ""
    asks: bool = False
    findings: str = ""
    builders: str = ""

    @property
    def terminal(self) -> Terminal:
        """Where the caller reads the output."""
        return Terminal(self.columns, self.rows, self.color, self.ci)

    @property
    def program(self) -> str:
        """How the caller names run.sh from the working directory."""
        path = os.path.relpath(self.root / "run.sh", self.cwd)
        return path if "/" in path else f"./{path}"


@dataclasses.dataclass(frozen=True)
class Machine:
    """An image of an appliance.toml: its table's name, its formats; `systems` may be empty."""

    name: str
    formats: tuple[str, ...]
    systems: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Appliance:
    """An appliance.toml: its path on the caller's host, text and content, the images to build.

    `home` is the caller's home folder.
    """

    path: pathlib.PurePosixPath
    home: pathlib.PurePosixPath
    text: str
    blueprint: "Blueprint"
    machines: tuple[Machine, ...]

    def place(self, name: str) -> pathlib.PurePosixPath:
        """Return the path that the file calls `name`: at home, absolute, or beside the file."""
        below = self.home if name.startswith("~/") else self.path.parent
        whole = os.path.normpath(below / name.removeprefix("~/"))
        return pathlib.PurePosixPath(f"/{whole.lstrip('/')}")

    @property
    def modules(self) -> tuple[pathlib.PurePosixPath, ...]:
        """NixOS modules that the file names."""
        return tuple(self.place(name) for name in self.blueprint.modules)

    @property
    def keys(self) -> dict[str, pathlib.PurePosixPath]:
        """Files of public keys, by what the file calls them."""
        named = [key for user in self.blueprint.users for key in user.keys]
        return {name: self.place(name) for name in named if name.startswith(PATHS)}


@dataclasses.dataclass(frozen=True)
class ImageRequest:
    """What a verb that makes images is asked for; timeouts are in seconds.

    `appliance` is the appliance.toml that describes the images, if one does; `written` are those
    paths of `image` that it names. `builders` are other machines that build. `qemu` is a version of
    the emulators, `AUTO`, or empty for the default. `memory` is the builder's limit in MiB, 0 for
    the default; `sign` a private SSH key. `force` replaces files in the output folder that no run
    made. A `dry_run` ends with the plan, which is JSON on stdout with `as_json`; `yes` answers the
    question whether to build it. With `debug_shell` a failed derivation's folder is kept, and
    run.sh opens a shell in it afterwards. What was built is copied to the cache of `push`.
    """

    out: pathlib.PurePosixPath
    force: bool
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
    as_json: bool
    yes: bool
    debug_shell: bool
    sign: pathlib.PurePosixPath | None
    display: Display
    image: ImageOptions
    appliance: Appliance | None
    written: frozenset[str]
    push: Push | None
    builders: tuple[Builder, ...]

    @property
    def asks(self) -> bool:
        """Whether a person is asked before a build that costs much."""
        return not self.yes and not self.dry_run

    @property
    def fleet(self) -> bool:
        """Whether several images are asked for."""
        return bool(self.image.stamp)

    @property
    def keeps(self) -> bool:
        """Whether images that the caller has already need not be made again."""
        return self.fleet and not self.dry_run and not self.image.check


@dataclasses.dataclass(frozen=True)
class Demo(ImageRequest):
    """`demo`: build the demo system.

    An empty `system` means the default one, which is foreign to the host.
    """

    system: str
    format: str
    root_fs: FsType
    ssh_key: pathlib.PurePosixPath | None
    substituters: tuple[str, ...] = ()
    trusted_keys: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Build(ImageRequest):
    """`build`: make NixOS images of a configuration file or of a flake.

    `flake_folder` is the flake's folder in the folder `flake`, which has its repository's
    `submodules` if the user asks for them; an empty `attribute` means the
    configuration of the caller's computer. An empty `nixpkgs` means the pinned one, or the flake's
    own. `overrides` replace inputs of the flake: name, place, folder in it. `systems` may be empty.
    With `boot_on_terminal`, run.sh boots the first image afterwards, by a separate call. `notes`
    tell what the caller's environment has decided. `configuration_by`, `flake_by` and `nixpkgs_by`
    are the option or the variable that names them, for errors.
    """

    configuration: pathlib.PurePosixPath | None
    flake: Place | None
    attribute: str
    nixpkgs: Place
    search_path: tuple[tuple[str, Place], ...]
    formats: tuple[str, ...]
    format_paths: tuple[pathlib.PurePosixPath, ...]
    systems: tuple[str, ...]
    root_fs: FsType | None
    nix_options: NixOptions
    allow_no_login: bool
    ignore_hardware: bool
    boot_on_terminal: bool
    flake_folder: str = ""
    submodules: bool = False
    overrides: tuple[tuple[str, Place, str], ...] = ()
    notes: tuple[str, ...] = ()
    configuration_by: str = "--configuration"
    flake_by: str = "--flake"
    nixpkgs_by: str = "--nixpkgs"

    @property
    def fleet(self) -> bool:
        """Whether several images are asked for."""
        machines = self.appliance.machines if self.appliance else ()
        count = sum(len(one.formats) * max(1, len(one.systems)) for one in machines)
        count += (len(self.formats) + len(self.format_paths)) * max(1, len(self.systems))
        return bool(self.image.stamp) or (len(machines) > 1 or count > 1)

    @property
    def trees(self) -> tuple[tuple[str, pathlib.PurePosixPath], ...]:
        """Option and path of each file whose whole folder or repository run.sh must send."""
        named: list[tuple[str, Place | None]] = [
            *(("--appliance", path) for path in (self.appliance.modules if self.appliance else ())),
            (self.configuration_by, self.configuration),
            (self.flake_by, self.flake),
            (self.nixpkgs_by, self.nixpkgs),
            *(("--override-input", path) for _name, path, _folder in self.overrides),
            *(("-I", path) for _name, path in self.search_path),
            *(("--format-path", path) for path in self.format_paths),
        ]
        return tuple(
            (option, path) for option, path in named if isinstance(path, pathlib.PurePosixPath)
        )


@dataclasses.dataclass(frozen=True)
class Verify:
    """`verify IMAGE`: check the image against its checksum, provenance, SBOM and signature.

    The signature must be by the public `key`, or by one of the `allowed_signers`; at most one of
    the two is given.
    """

    image: pathlib.PurePosixPath
    key: pathlib.PurePosixPath | None
    allowed_signers: pathlib.PurePosixPath | None
