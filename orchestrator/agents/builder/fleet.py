"""All images of a run: each result of Nix for each device, with as few assemblies as possible."""

import dataclasses
import json
import pathlib
import typing

from orchestrator.agents.builder import sbom
from orchestrator.agents.builder.imaging import Group, Wanted
from orchestrator.agents.builder.store import Keeper
from orchestrator.agents.builder.taking import take_artifacts
from orchestrator.image.closure import closure_of
from orchestrator.image.identity import Identity, read_identities
from orchestrator.image.late import Device, late_entries, one_device, read_devices
from orchestrator.image.stamping import shape
from orchestrator.shared.artifact import Artifact, Built
from orchestrator.shared.image_options import ImageOptions, apply
from orchestrator.shared.run import Run
from orchestrator.shared.spec_reader import read_spec


def make(
    run: Run, folder: pathlib.Path, results: list[Built], options: ImageOptions, keeper: Keeper
) -> list[Artifact]:
    """Make the files of all images in `folder`; returns them by result, then by device.

    A result that is a folder has its files copied. An image spec is made once for each device;
    results and devices share a raw image where they can (`image/stamping.py`).
    """
    devices = _devices(options)
    identities: dict[str, Identity] = {}
    if options.identity_seed:
        identities = read_identities(pathlib.Path(options.identity_seed).read_text())
    groups: dict[tuple[str, typing.Hashable], list[Wanted]] = {}
    stores: dict[tuple[str, typing.Hashable], set[str]] = {}
    order: list[str] = []
    made: dict[str, Artifact] = {}
    for built in results:
        keeper.hold([str(built.path)])
        if built.path.is_dir():
            for artifact in take_artifacts(run, folder, built):
                order.append(artifact.file_name)
                made[artifact.file_name] = artifact
            continue
        spec = apply(options, read_spec(built.path.read_text()))
        # Store paths that the spec names: boot loaders and other files, besides the system.
        named = closure_of([str(built.path)])
        keeper.hold(set(named).difference(closure_of([spec.toplevel, *spec.additionalPaths])))
        parts = sbom.parts_of_spec(spec, built.materials)
        disk = json.dumps(dataclasses.asdict(spec.disk), sort_keys=True)
        for device in devices:
            name = f"{spec.name}-{device.host}" if device.host else spec.name
            own = dataclasses.replace(spec, name=name)
            identity = identities.get(device.host)
            late = late_entries(options, device, spec.late, identity)
            key = (disk, shape(spec, late))
            groups.setdefault(key, []).append(Wanted(own, device, late, parts, identity))
            stores.setdefault(key, set()).update(named)
            order.append(own.file_name)
    for key, wanted in groups.items():
        group = Group(run, folder, options, wanted)
        made |= {one.file_name: one for one in keeper.attempt(stores[key], group.make)}
    return [made[name] for name in order]


def _devices(options: ImageOptions) -> list[Device]:
    if not options.stamp:
        return [one_device(options)]
    text = pathlib.Path(options.stamp).read_text("utf-8-sig", errors="replace")
    return read_devices(text)
