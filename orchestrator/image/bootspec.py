"""Reads a toplevel's bootspec (NixOS RFC 125): kernel, initrd, parameters of a system."""

import dataclasses
import pathlib
import typing
from collections.abc import Callable

from orchestrator.shared.json_reader import UNUSABLE, JsonError, read_json
from orchestrator.shared.spec import SpecError

#: Name of the file in a toplevel, and its keys: RFC 125's and NixOS' extensions.
BOOTSPEC = "boot.json"
BOOTSPEC_V1 = "org.nixos.bootspec.v1"
SPECIALISATION_V1 = "org.nixos.specialisation.v1"
EXTRA_INITRD_V1 = "org.nixos.extra-initrd.v1"
SYSTEMD_BOOT = "org.nixos.systemd-boot"


@dataclasses.dataclass(frozen=True)
class Bootspec:
    """One bootable system: paths in the store, kernel parameters in order.

    `initrd` is empty if the kernel boots without one; `extra_initrds` follow it, and are paths on
    the boot partition. `device_tree` is a file's path or empty. `specialisations` are (name,
    bootspec) pairs.
    """

    system: str
    label: str
    kernel: str
    init: str
    toplevel: str
    kernel_params: tuple[str, ...]
    initrd: str = ""
    extra_initrds: tuple[str, ...] = ()
    sort_key: str = "nixos"
    device_tree: str = ""
    specialisations: tuple[tuple[str, "Bootspec"], ...] = ()


def read_bootspec(
    toplevel: pathlib.Path, real: Callable[[pathlib.Path], pathlib.Path] = pathlib.Path
) -> Bootspec:
    """Read `boot.json` of a toplevel, from the file that `real` returns for its path.

    Raises `SpecError` if the file is missing, invalid, or has no version 1 bootspec.
    """
    path = toplevel / BOOTSPEC
    try:
        document = read_json(real(path).read_text(), str(path))
    except JsonError as error:
        raise SpecError(str(error)) from error
    except (OSError, ValueError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from error
    return _parse(document, str(path))


def _parse(document: object, where: str) -> Bootspec:
    if not isinstance(document, dict) or not isinstance(document.get(BOOTSPEC_V1), dict):
        keys = document if isinstance(document, dict) else {}
        versions = ", ".join(sorted(key for key in keys if key.startswith("org.nixos.bootspec")))
        raise SpecError(f"{where}: no {BOOTSPEC_V1} (found: {versions or 'none'})")
    boot = document[BOOTSPEC_V1]
    if boot.get("initrdSecrets"):
        raise SpecError(
            f"{where}: boot.initrd.secrets are appended on the device itself; the image cannot hold"
            " them (put them into the root file system with --inject)"
        )
    loader, specialisations, further = (
        _object(document, name, where)
        for name in (SYSTEMD_BOOT, SPECIALISATION_V1, EXTRA_INITRD_V1)
    )
    return Bootspec(
        **{
            name: _text(boot, name, where)
            for name in ("system", "label", "kernel", "init", "toplevel")
        },
        kernel_params=_texts(boot.get("kernelParams"), "kernelParams", where),
        # Optional in RFC 125: a kernel can boot without an initrd.
        initrd=_text({"initrd": boot.get("initrd") or ""}, "initrd", where),
        extra_initrds=_texts(further.get("paths") or [], "initrd", where),
        sort_key=_text({"sortKey": "nixos", **loader}, "sortKey", where),
        device_tree=_text({"devicetree": loader.get("devicetree") or ""}, "devicetree", where),
        specialisations=tuple(
            (name, _parse(inner, f"{where}: {name}"))
            for name, inner in sorted(specialisations.items())
        ),
    )


def _object(document: dict[str, typing.Any], name: str, where: str) -> dict[str, typing.Any]:
    """Return an optional extension of the bootspec, empty if it is absent."""
    value = document.get(name) or {}
    if not isinstance(value, dict):
        raise SpecError(f"{where}: {name} is not an object")
    return value


def _text(document: dict[str, typing.Any], name: str, where: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or UNUSABLE.search(value):
        raise SpecError(f"{where}: {BOOTSPEC_V1} has no valid field {name}")
    return value


def _texts(value: object, name: str, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise SpecError(f"{where}: {BOOTSPEC_V1} has no valid field {name}")
    return tuple(_text({name: word}, name, where) for word in value)
