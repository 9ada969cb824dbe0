"""The image spec: what Nix says an image is made of (JSON in, frozen types out).

Nix evaluates a configuration to this; everything after it is assembly. Unknown fields are an error,
because a spec that asks for something that is silently left out makes an image that is not what was
asked for.
"""

import dataclasses
import json
import pathlib
import types
import typing
import uuid

#: Version of the spec that this assembler reads.
SCHEMA = 1

#: Key of the bootspec document in a toplevel's `boot.json` (NixOS RFC 125).
BOOTSPEC_V1 = "org.nixos.bootspec.v1"

#: Any constant will do: it makes the identifiers of one image from its spec, the same on every run.
_NAMESPACE = uuid.UUID("6b0f4c1e-7a6e-5d0c-9a53-0f2c7b9d1e11")


class SpecError(Exception):
    """A spec or bootspec that cannot be read; the message names the field."""


@dataclasses.dataclass(frozen=True)
class BootLoader:
    """`source` is the store path of the EFI program, `timeout` is in seconds."""

    type: typing.Literal["systemd-boot"]
    source: str
    timeout: int


@dataclasses.dataclass(frozen=True)
class Esp:
    """The EFI system partition: FAT32 label and size in MiB."""

    label: str
    sizeMiB: int  # noqa: N815 - the JSON's own name


@dataclasses.dataclass(frozen=True)
class Root:
    """The root file system: `additionalSpaceMiB` is what stays free beside the closure."""

    fsType: typing.Literal["ext4"]  # noqa: N815
    label: str
    additionalSpaceMiB: int  # noqa: N815


@dataclasses.dataclass(frozen=True)
class ImageSpec:
    """One image: `toplevel` is the store path of the NixOS system.

    `name` the file's name without its suffix.
    """

    schema: int
    name: str
    system: str
    toplevel: str
    format: typing.Literal["raw-efi"]
    partitionTable: typing.Literal["efi"]  # noqa: N815
    bootLoader: BootLoader  # noqa: N815
    esp: Esp
    root: Root
    readyText: str = ""  # noqa: N815 - printed on the console of a booted system, where there is such a text

    def identifier(self, what: str) -> uuid.UUID:
        """A UUID for `what` (a file system, a partition).

        The same for the same spec, different between specs.
        """
        return uuid.uuid5(
            _NAMESPACE, f"{json.dumps(dataclasses.asdict(self), sort_keys=True)}/{what}"
        )

    @property
    def file_name(self) -> str:
        """Name of the image file."""
        return f"{self.name}.img"


@dataclasses.dataclass(frozen=True)
class Bootspec:
    """What a boot loader needs of a system (RFC 125, version 1).

    Paths in the store, kernel parameters in order.
    """

    system: str
    label: str
    kernel: str
    initrd: str
    init: str
    toplevel: str
    kernel_params: tuple[str, ...]


def read_spec(text: str) -> ImageSpec:
    """Parse an image spec.

    Raises `SpecError` for unknown or missing fields, wrong types and unknown values.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise SpecError(f"image spec: not JSON: {error}") from error
    spec = typing.cast("ImageSpec", _build(ImageSpec, document, "spec"))
    if spec.schema != SCHEMA:
        raise SpecError(
            f"spec.schema: {spec.schema} is not supported, this assembler reads {SCHEMA}"
        )
    if "/" in spec.name or spec.name in {"", ".", ".."}:
        raise SpecError(f"spec.name: {spec.name!r} cannot be a file name")
    return spec


def read_bootspec(toplevel: pathlib.Path) -> Bootspec:
    """Read `boot.json` of a toplevel.

    Raises `SpecError` where it is missing, or of another version.
    """
    path = toplevel / "boot.json"
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get(BOOTSPEC_V1), dict):
        keys = document if isinstance(document, dict) else {}
        versions = ", ".join(sorted(key for key in keys if key.startswith("org.nixos.bootspec")))
        raise SpecError(f"{path}: no {BOOTSPEC_V1} (found: {versions or 'none'})")
    boot = document[BOOTSPEC_V1]
    texts = {
        name: boot.get(name) for name in ("system", "label", "kernel", "initrd", "init", "toplevel")
    }
    params = boot.get("kernelParams")
    wrong = [name for name, text in texts.items() if not isinstance(text, str)]
    if wrong or not isinstance(params, list) or not all(isinstance(word, str) for word in params):
        raise SpecError(
            f"{path}: {BOOTSPEC_V1} has no valid field {', '.join(wrong) or 'kernelParams'}"
        )
    return Bootspec(**typing.cast("dict[str, str]", texts), kernel_params=tuple(params))


def _build(kind: type, value: object, where: str) -> object:
    """Make a `kind` of a JSON value, checking names and types on the way."""
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise SpecError(f"{where}: expected an object, found {value!r}")
        hints = typing.get_type_hints(kind)
        fields = {field.name: field for field in dataclasses.fields(kind)}
        unknown = sorted(value.keys() - fields.keys())
        if unknown:
            raise SpecError(f"{where}: unknown field {', '.join(unknown)}")
        required = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
        missing = sorted(required - value.keys())
        if missing:
            raise SpecError(f"{where}: field {', '.join(missing)} is missing")
        return kind(
            **{name: _build(hints[name], item, f"{where}.{name}") for name, item in value.items()}
        )
    if typing.get_origin(kind) is typing.Literal:
        allowed = typing.get_args(kind)
        if value not in allowed:
            raise SpecError(f"{where}: {value!r} is not one of {', '.join(map(str, allowed))}")
        return value
    if (
        isinstance(kind, types.UnionType)
        or not isinstance(value, kind)
        or isinstance(value, bool) is not (kind is bool)
    ):
        raise SpecError(f"{where}: expected {kind.__name__}, found {value!r}")
    return value
