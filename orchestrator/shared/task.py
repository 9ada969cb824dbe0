"""What the builder has to do: written by the orchestrator, read by the builder (`task.json`)."""

import dataclasses
import json
import pathlib
import typing

from orchestrator.shared.image_options import ImageOptions
from orchestrator.shared.json_reader import KIND, FreeText, from_json, read_json
from orchestrator.shared.nix_options import NixOptions

#: Name of the file in the run's folder.
TASK = "task.json"


@dataclasses.dataclass(frozen=True)
class DemoTask:
    """The demo system, from Debian's packages; `locked` forbids successors of those pinned."""

    system: str
    format: str = "raw-efi"
    root_fs: str = "ext4"
    authorized_keys: tuple[FreeText, ...] = ()
    locked: bool = False


@dataclasses.dataclass(frozen=True)
class NixosTask:
    """NixOS images, one for each of `formats` and `systems`. Paths are those in the builder.

    `configuration` is a file, or `attribute` names a configuration of `flake`, a reference. An
    empty `nixpkgs` is the pinned one, or the flake's own; `format_paths` has files that describe
    formats, by name. `disk` are options of `nixosImage`. `systems_given` is false where nobody has
    named a system. Below `sources` lies what the caller has sent, under the caller's own paths.
    """

    systems: tuple[str, ...]
    systems_given: bool
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


@dataclasses.dataclass(frozen=True)
class Task:
    """`foreign` are systems whose programs must run in the builder; `leased` that cleanup waits.

    `private` are those whose emulators the builder registers for itself. `strict` forbids builds
    without a sandbox. `late` says that the orchestrator has files of `options` which come when Nix
    has ended.
    """

    work: DemoTask | NixosTask
    leased: bool
    foreign: tuple[str, ...]
    wait_seconds: float = 60.0
    ca_bundle: str = ""
    options: ImageOptions = dataclasses.field(default_factory=ImageOptions)
    private: tuple[str, ...] = ()
    strict: bool = False
    late: bool = False

    def write(self, folder: pathlib.Path) -> None:
        """Write it to the run's `folder`."""
        document = dataclasses.asdict(self)
        document["work"][KIND] = type(self.work).__name__
        (folder / TASK).write_text(json.dumps(document))

    @classmethod
    def read(cls, folder: pathlib.Path) -> typing.Self:
        """Read what `write` has written; `FileNotFoundError` where nothing was.

        Raises `JsonError` for what another version has written.
        """
        return from_json(cls, read_json((folder / TASK).read_text(), TASK), "task")
