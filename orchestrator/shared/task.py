"""The builder's task (`task.json`): written by the orchestrator, read by the builder."""

import dataclasses
import json
import pathlib
import typing

from orchestrator.shared.image_options import ImageOptions
from orchestrator.shared.json_reader import KIND, FreeText, Natural, from_json, read_json
from orchestrator.shared.nix_options import NixOptions

#: Name of the task file in the run's folder.
TASK = "task.json"

#: Files in the demo's image: the name of its user, and the public keys that let the user in.
USER_FILE, KEYS_FILE = "etc/demo/user", "etc/demo/keys"

#: Name of the file in the run's folder that tells of a derivation that failed, for --debug-shell.
FAILED = "failed.json"


@dataclasses.dataclass(frozen=True)
class DemoTask:
    """Task: build the demo system from Debian packages; `locked` allows only pinned versions.

    `user` is the name of its user, whom `authorized_keys` let in.
    """

    system: str
    format: str = "raw-efi"
    root_fs: str = "ext4"
    authorized_keys: tuple[FreeText, ...] = ()
    user: str = "nixos"
    locked: bool = False
    dry_run: bool = False
    substituters: tuple[str, ...] = ()
    trusted_keys: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Commit:
    """The git commit that a sent folder is based on.

    `seconds` is its time since 1970, `count` the number of its ancestors and itself, 0 if unknown.
    If it is `clean`, the folder has exactly the commit's files, with `submodules` theirs, too.
    """

    revision: str
    seconds: Natural
    count: Natural
    clean: bool
    submodules: bool = False


@dataclasses.dataclass(frozen=True)
class Machine:
    """One of several NixOS configurations, with its images' formats and systems."""

    name: str
    configuration: str
    formats: tuple[str, ...]
    systems: tuple[str, ...]
    systems_given: bool


@dataclasses.dataclass(frozen=True)
class Copy:
    """A sent folder in the builder that is as in an earlier run: its path and Nix' hash of it.

    `modified` is the time of the newest file in seconds since 1970.
    """

    path: str
    nar_hash: str
    modified: Natural


@dataclasses.dataclass(frozen=True)
class NixosTask:
    """Task: build NixOS images, one for each of `formats` and `systems`. Paths: in the builder.

    If there are `machines`, they say what is built. Else `configuration` is a file, or
    `attribute` names a configuration of the flake reference `flake`; an empty one means that of
    the caller's `computer`, or the only one. `overrides` are names of the flake's inputs and
    the references that replace them; `commit` is the one of the flake's sent folder. An empty
    `nixpkgs` means the pinned one; a flake has its own. `format_paths` has module files of
    further formats, by name. `disk` are options of `nixosImage`. `systems_given` is false if
    the user named no system. `name` is the configuration file's, for the names of images.
    `sources` is the folder with the caller's files, under their paths on the caller's host.
    `copies` are folders there whose hashes are known: a flake's tree that the store has by its
    hash is not copied there again.
    `late` says which late values there are (`nixosImage.late`), not what they are.
    """

    systems: tuple[str, ...]
    systems_given: bool
    name: str
    formats: tuple[str, ...]
    format_paths: dict[str, str]
    configuration: str
    flake: str
    attribute: str
    nixpkgs: str
    search_path: tuple[tuple[str, str], ...]
    disk: dict[str, typing.Any]
    nix_options: NixOptions
    dry_run: bool
    sources: str
    computer: str = ""
    overrides: tuple[tuple[str, str], ...] = ()
    commit: Commit | None = None
    late: dict[str, typing.Any] = dataclasses.field(default_factory=dict)
    machines: tuple[Machine, ...] = ()
    copies: tuple[Copy, ...] = ()

    @property
    def images(self) -> tuple[tuple[str, ...], ...]:
        """All images that are built: machine if there are several, system, format."""
        if not self.machines:
            return tuple((system, name) for system in self.systems for name in self.formats)
        return tuple(
            (machine.name, system, name)
            for machine in self.machines
            for system in machine.systems
            for name in machine.formats
        )


@dataclasses.dataclass(frozen=True)
class Delivered:
    """An image in the caller's output folder: its file's name and SHA-256, and `Artifact.made`."""

    file_name: str
    sha256: str
    made: str


@dataclasses.dataclass(frozen=True)
class Task:
    """The builder's task: `work` says what to build, `options` how to assemble it.

    `foreign` are systems whose programs need an emulator, `private` those whose emulators the
    builder registers in its own binfmt_misc. With `leased` the builder holds cleanup's lease.
    `strict` forbids builds without Nix' sandbox. With `keep_failed` a failed derivation's folder is
    kept, and what it is told (`FAILED`). With `asks` the builder waits for the
    orchestrator's word between its plan and what that costs. With `late` the orchestrator sends
    files of `options` only when Nix has ended. With `verbose` it gets the log lines of builds.
    With `closure` nothing is assembled: only what the images are made of is built.
    `tools` names the state of the builder's image. An image that is `delivered`, and was made from
    the same, is not made again; with `first_anew` the first one is. `elsewhere` are systems that
    builders on other machines build for, where a dry run asks none of them. `stranger` is the
    address for `--push` of a machine whose host key is unknown.
    """

    work: DemoTask | NixosTask
    leased: bool
    foreign: tuple[str, ...]
    wait_seconds: float = 60.0
    ca_bundle: str = ""
    options: ImageOptions = dataclasses.field(default_factory=ImageOptions)
    private: tuple[str, ...] = ()
    strict: bool = False
    keep_failed: bool = False
    late: bool = False
    asks: bool = False
    verbose: bool = False
    closure: bool = False
    tools: str = ""
    delivered: tuple[Delivered, ...] = ()
    first_anew: bool = False
    elsewhere: tuple[str, ...] = ()
    stranger: str = ""

    def write(self, folder: pathlib.Path) -> None:
        """Write the task to the run's `folder`."""
        document = dataclasses.asdict(self)
        document["work"][KIND] = type(self.work).__name__
        (folder / TASK).write_text(json.dumps(document))

    @classmethod
    def read(cls, folder: pathlib.Path) -> typing.Self:
        """Read the task from the run's `folder`; raises `FileNotFoundError` if there is none.

        Raises `JsonError` if another version of this project has written the task.
        """
        return from_json(cls, read_json((folder / TASK).read_text(), TASK), "task")
