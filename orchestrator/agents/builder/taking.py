"""Takes over the files that nixpkgs' own recipes have made: checks, checksums, SBOM."""

import json
import pathlib
import shutil
from collections.abc import Collection

from orchestrator.agents import events
from orchestrator.agents.builder import sbom
from orchestrator.image import examine
from orchestrator.image.closure import closure_of
from orchestrator.image.filesystems.filesystem import FilesystemError
from orchestrator.image.sources import Sources
from orchestrator.shared.artifact import Artifact, Built, sha256_of
from orchestrator.shared.disk_formats import of_suffix
from orchestrator.shared.paths import ROOT
from orchestrator.shared.run import Run
from orchestrator.shared.spec import is_file_name

#: Table of formats, which has the firmware of images that nixpkgs assembles.
FORMATS = ROOT / "nix/formats.json"


def take_artifacts(
    run: Run, folder: pathlib.Path, built: Built, names: Collection[str]
) -> list[Artifact]:
    """Copy the files that nixpkgs' recipe has made to `folder`, except those for Hydra.

    `names` are those of the run's images before. Raises `TreeError` for a file that leads out of
    what the recipe's output refers to.
    """
    sources = Sources(closure_of([str(built.path)]))
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
        real = sources.real(path)
        events.emit("assemble", message=f"copying {path.name}")
        target = folder / path.name
        if target.name in names:  # an image of another format or system has this name
            target = folder / f"{built.format}-{built.system}-{path.name}"
        if not is_file_name(target.name):
            raise FilesystemError(f"{target.name!r} is not allowed as a file name")
        shutil.copyfile(real, target)
        disk_format = of_suffix(path.suffix)
        examine.packed(target)
        examine.disk_file(target, disk_format)
        target.chmod(0o755 if real.stat().st_mode & 0o100 else 0o644)
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
