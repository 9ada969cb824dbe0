"""Reads the files of late values, and gives their later paths to the builder's task."""

import dataclasses
import os
import pathlib
import typing

from orchestrator.ask.request import Caller
from orchestrator.ask.ssh_keys import fingerprints, is_public_key
from orchestrator.ask.uploads import keep_late, received_file
from orchestrator.decide import identities
from orchestrator.docker.workspace import Workspace
from orchestrator.image.late import Device, one_device, read_devices
from orchestrator.shared.errors import UsageError
from orchestrator.shared.image_options import ImageOptions
from orchestrator.shared.spec import SpecError


def read_late(options: ImageOptions, who: Caller) -> list[Device]:
    """Read the late values that run.sh has sent; raises `UsageError` before anything is built."""

    def sent(path: str) -> pathlib.Path:
        return received_file(who, pathlib.PurePosixPath(path))

    try:
        if options.stamp:
            text = sent(options.stamp).read_text("utf-8-sig", errors="replace")
            return read_devices(text, is_public_key)
        password = options.wifi_password_file and os.fspath(sent(options.wifi_password_file))
        return [one_device(dataclasses.replace(options, wifi_password_file=password))]
    except SpecError as error:
        hint = "docs/images.md explains late values"
        raise UsageError(str(error), hint=hint) from error


def late_facts(options: ImageOptions, devices: list[Device]) -> dict[str, typing.Any]:
    """Return what the configuration must know of late values: which there are, not what they are.

    The fields are those of `nixosImage.late`; {} without late values.
    """
    found = {
        "hostName": any(device.host for device in devices),
        "keyUsers": sorted({device.user for device in devices if device.ssh_key}),
        "everyDeviceHasKey": all(device.ssh_key for device in devices),
        "wifi": any(device.wifi_ssid for device in devices),
        "identity": bool(options.identity_seed),
        "injected": [one.target for one in options.injections],
    }
    return found if any(found.values()) else {}


def move_late(
    options: ImageOptions, who: Caller, kept: pathlib.Path, hosts: list[str]
) -> ImageOptions:
    """Replace the caller's paths of late files by their later paths in the builder.

    The seed of identities is replaced by the identities of the devices `hosts`.
    """
    if options.identity_seed:
        _derive(_seed(options, who), hosts)

    def here(path: str) -> str:
        return keep_late(who, pathlib.PurePosixPath(path), kept) if path else ""

    return dataclasses.replace(
        options,
        injections=tuple(
            dataclasses.replace(one, source=here(one.source)) for one in options.injections
        ),
        stamp=here(options.stamp),
        identity_seed=here(options.identity_seed),
        wifi_password_file=here(options.wifi_password_file),
        secure_boot_key=here(options.secure_boot_key),
        secure_boot_cert=here(options.secure_boot_cert),
    )


def _seed(options: ImageOptions, who: Caller) -> pathlib.Path:
    """Return the received seed of identities.

    Raises `UsageError` if another option names the file, too: that would get the identities.
    """

    def place(path: str) -> pathlib.Path:
        return received_file(who, pathlib.PurePosixPath(path))

    seed = place(options.identity_seed)
    others = (
        *(one.source for one in options.injections),
        *(options.stamp, options.wifi_password_file),
        *(options.secure_boot_key, options.secure_boot_cert),
    )
    if seed in [place(path) for path in others if path]:
        raise UsageError(
            f"--identity-seed {options.identity_seed}: another option names this file, too",
            hint="the seed is in no image; make one, and keep it: openssl rand -hex 32 > seed",
        )
    return seed


def _derive(file: pathlib.Path, hosts: list[str]) -> None:
    """Replace the seed in `file` by the identities of the devices `hosts`.

    So the seed, which could tell the identities of further devices, gets nowhere else.
    """
    seed = identities.seed_of(file.read_bytes())
    if fingerprints(seed.decode(errors="replace")):
        raise UsageError(
            "--identity-seed: the file has a public key, which is no secret",
            hint="make one, and keep it: openssl rand -hex 32 > seed",
        )
    text = identities.derive(seed, hosts)
    file.unlink()
    file.touch(mode=0o600)
    file.write_text(text)


def hosts(options: ImageOptions, workspace: Workspace) -> tuple[str, ...]:
    """Return the host names in the names of a task's images; an empty one if it has none."""
    if not options.stamp:
        return (options.host_name,)
    kept = workspace.late / pathlib.PurePosixPath(options.stamp).name
    text = kept.read_text("utf-8-sig", errors="replace")
    return tuple(device.host for device in read_devices(text))
