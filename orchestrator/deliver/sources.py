"""Packs what a configuration is made of for a machine without a network: files and folders.

They were sent for an evaluation, and the late values are no more among them. The archive has them
as they lie to each other, and the commands that make the images there.
"""

import dataclasses
import os
import pathlib
import shlex
from collections.abc import Iterator

from orchestrator.ask.request import Build, Caller
from orchestrator.ask.uploads import input_folder, received, trees
from orchestrator.shared import command
from orchestrator.shared.errors import DeliveryError, UsageError

#: Name of the file with the commands in the archive.
COMMANDS = "build-commands"

#: Options of tar: the same files make the same archive.
TAR = ("tar", "--format=gnu", "--sort=name", "--owner=0", "--group=0", "--numeric-owner")


def check(request: Build) -> None:
    """Raise `UsageError` for a source that Nix fetches: a kit has files and folders only."""
    named = [
        ("--with", request.flake),
        (request.nixpkgs_by, request.nixpkgs),
        *(("-I", place) for _name, place in request.search_path),
        *(("--override-input", place) for _name, place, _folder in request.overrides),
    ]
    for option, place in named:
        if isinstance(place, str) and place:
            raise UsageError(
                f"{option} {place}: Nix fetches it, and a kit has files and folders only",
                hint="fetch it into a folder, and name that",
            )


def write(request: Build, who: Caller, place: pathlib.Path, scratch: pathlib.Path) -> list[str]:
    """Write the archive of what was sent for `request` to the new file `place`.

    `scratch` is a new folder. Returns the commands that make the images where it is unpacked.
    """
    folders = [pathlib.PurePosixPath("/", one.relative_to(input_folder(who))) for one in trees(who)]
    appliance = request.appliance
    beside = [appliance.path.parent] if appliance else []
    top = pathlib.PurePosixPath(os.path.commonpath([*(one.parent for one in folders), *beside]))
    scratch.mkdir()
    if appliance and not received(who, appliance.path).exists():
        copy = scratch / appliance.path.relative_to(top)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(appliance.text)
    found = Inside(request, top, tuple(folders)).commands()
    (scratch / COMMANDS).write_text("".join(f"{line}\n" for line in found))
    # A folder in another one is packed with that.
    outer = {one for one in folders if not {*one.parents} & {*folders}}
    names = sorted(os.fspath(one.relative_to(top)) for one in outer)
    words = [*TAR, f"--file={place}", "--create", f"--directory={received(who, top)}", "--", *names]
    command.run(words, fails=DeliveryError)
    words = [*TAR, f"--file={place}", "--append", f"--directory={scratch}", "--"]
    command.run([*words, *sorted(one.name for one in scratch.iterdir())], fails=DeliveryError)
    return found


@dataclasses.dataclass(frozen=True)
class Inside:
    """Where the files of `request` are in the archive: seen from `top`, the folder above them.

    `folders` are those that were sent, innermost first.
    """

    request: Build
    top: pathlib.PurePosixPath
    folders: tuple[pathlib.PurePosixPath, ...]

    def commands(self) -> list[str]:
        """Return the commands that make the images there."""
        return [*self._repositories(), shlex.join(["./run.sh", *self._words()])]

    def _name(self, path: pathlib.PurePosixPath) -> str:
        return os.fspath(path.relative_to(self.top))

    def _repositories(self) -> Iterator[str]:
        """Yield commands that make repositories: run.sh sends the whole one of a configuration."""
        own = (self.request.configuration, self.request.flake)
        modules = self.request.appliance.modules if self.request.appliance else ()
        paths = [one for one in (*own, *modules) if isinstance(one, pathlib.PurePosixPath)]
        above = [next(one for one in self.folders if path.is_relative_to(one)) for path in paths]
        for tree in dict.fromkeys(
            one for one, path in zip(above, paths, strict=True) if one not in {path, path.parent}
        ):
            yield shlex.join(["git", "init", "--quiet", self._name(tree)])

    def _words(self) -> Iterator[str]:
        """Yield the options of the build, with the paths in the archive."""
        asked = self.request
        if asked.appliance:
            yield from ("--appliance", self._name(asked.appliance.path))
            for machine in asked.appliance.machines:
                yield from ("--image", machine.name)
        elif isinstance(asked.flake, pathlib.PurePosixPath):
            attribute = f"#{asked.attribute}" if asked.attribute else ""
            yield from ("--flake", f"{self._flake(asked.flake, asked.flake_folder)}{attribute}")
        elif asked.configuration:
            yield from ("-c", self._name(asked.configuration))
        # Where an appliance.toml says the formats, they differ, or saying them changes nothing.
        machines = asked.appliance.machines if asked.appliance else ()
        for name in asked.formats if all(one.formats == asked.formats for one in machines) else ():
            yield from ("-f", name)
        for path in asked.format_paths:
            yield from ("--format-path", self._name(path))
        for system in asked.systems:
            yield from ("--system", system)
        if asked.root_fs:
            yield from ("--root-fs", asked.root_fs)
        if isinstance(asked.nixpkgs, pathlib.PurePosixPath):
            yield from ("--nixpkgs", self._name(asked.nixpkgs))
        for name, place in asked.search_path:
            if isinstance(place, pathlib.PurePosixPath):
                yield from ("-I", f"{name}={self._name(place)}" if name else self._name(place))
        for name, place, folder in asked.overrides:
            if isinstance(place, pathlib.PurePosixPath):
                yield from ("--override-input", name, self._flake(place, folder))
        for flag, pairs in (
            ("--option", asked.nix_options.options),
            ("--special-arg", asked.nix_options.arguments),
        ):
            for name, value in pairs:
                yield from (flag, name, value)
        yield from ["--allow-no-login"] if asked.allow_no_login else []
        yield from ["--ignore-hardware"] if asked.ignore_hardware else []

    def _flake(self, place: pathlib.PurePosixPath, folder: str) -> str:
        """Return the reference of a folder; a name without a slash is one of a registry."""
        return f"./{self._name(place)}{f'?dir={folder}' if folder else ''}"
