"""All images of a run: each result of Nix for each device, with as few assemblies as possible."""

import dataclasses
import json
import pathlib
import typing

from orchestrator.agents.builder import sbom
from orchestrator.agents.builder.imaging import Group, Wanted
from orchestrator.agents.builder.post import Post
from orchestrator.agents.builder.store import Keeper
from orchestrator.agents.builder.taking import take_artifacts
from orchestrator.image.closure import closure_of
from orchestrator.image.filesystems.filesystem import FilesystemError
from orchestrator.image.identity import Identity, read_identities
from orchestrator.image.late import Device, late_entries, one_device, read_devices
from orchestrator.image.sources import Sources
from orchestrator.image.stamping import shape
from orchestrator.shared.artifact import Artifact, Built
from orchestrator.shared.image_options import ImageOptions, apply
from orchestrator.shared.run import Run
from orchestrator.shared.spec import is_file_name
from orchestrator.shared.spec_reader import read_spec

type Key = tuple[str, typing.Hashable]


def make(
    run: Run,
    folder: pathlib.Path,
    results: list[Built],
    options: ImageOptions,
    keeper: Keeper,
    post: Post,
) -> None:
    """Make the files of all images in `folder`, and hand them over by `post`.

    Positions are by result, then by device. A result that is a folder has its files copied. An
    image spec is made once for each device; results and devices share a raw image where they can
    (`image/stamping.py`).
    """
    devices = _devices(options)
    identities: dict[str, Identity] = {}
    if options.identity_seed:
        identities = read_identities(pathlib.Path(options.identity_seed).read_text())
    groups: dict[Key, list[Wanted]] = {}
    stores: dict[Key, set[str]] = {}
    order: list[str] = []
    for built in results:
        keeper.hold([str(built.path)])
        # The path is a build's output, and could be a link itself.
        result = Sources(closure_of([str(built.path)])).real(built.path)
        if result.is_dir():
            for artifact in take_artifacts(run, folder, built, order):
                order.append(artifact.file_name)
                post.hand(artifact, len(order) - 1)
            continue
        spec = apply(options, read_spec(result.read_text()))
        # Store paths that the spec names: boot loaders and other files, besides the system.
        named = closure_of([str(built.path)])
        keeper.hold(set(named).difference(closure_of([spec.toplevel, *spec.additionalPaths])))
        parts = sbom.parts_of_spec(spec, built.materials)
        disk = json.dumps(dataclasses.asdict(spec.disk), sort_keys=True)
        for device in devices:
            name = f"{spec.name}-{device.host}" if device.host else spec.name
            own = dataclasses.replace(spec, name=name)
            _check_name(own.file_name, order)
            identity = identities.get(device.host)
            late = late_entries(options, device, spec.late, identity, built.files)
            wanted = Wanted(own, device, late, parts, identity)
            order.append(own.file_name)
            if post.has(wanted, len(order) - 1):
                continue
            key = (disk, shape(spec, late))
            groups.setdefault(key, []).append(wanted)
            stores.setdefault(key, set()).update(named)

    def hand(one: Wanted, image: Artifact) -> None:
        post.hand(image, order.index(image.file_name), one)

    for key, group in groups.items():
        keeper.attempt(stores[key], Group(run, folder, options, group, hand).make)


def _check_name(name: str, others: list[str]) -> None:
    if not is_file_name(name):  # a --stamp row's host is part of the name
        raise FilesystemError(f"{name!r} is not allowed as a file name: too long?")
    if name in others:
        raise FilesystemError(
            f"{name}: two images of this run have that name; build one at a time, or do not set"
            " nixosImage.baseName"
        )


def _devices(options: ImageOptions) -> list[Device]:
    if not options.stamp:
        return [one_device(options)]
    text = pathlib.Path(options.stamp).read_text("utf-8-sig", errors="replace")
    return read_devices(text)
