"""Tests each option of images with each format: it has an effect, or it is refused by name."""

import dataclasses
import functools
import pathlib
import typing

import pytest

from orchestrator.ask.request import Build, Demo
from orchestrator.image.late import Device, late_entries
from orchestrator.image.layout import Sizes, plan_layout
from orchestrator.shared import demo_formats, nixos_formats
from orchestrator.shared.constants import MIB
from orchestrator.shared.disk_formats import DISK_FORMATS
from orchestrator.shared.errors import UsageError
from orchestrator.shared.filesystems import FILESYSTEMS, ROOTS
from orchestrator.shared.image_options import FLAGS, ImageOptions, apply
from orchestrator.shared.spec import Extlinux, ImageSpec, PartitionTable, SpecError
from orchestrator.shared.spec_reader import read_spec
from tests.unit.asking import ask

SPECS = pathlib.Path(__file__).parents[1] / "nixos/specs"

#: Values of each option; those that name a thing of a table are tried with each.
VALUES: dict[str, list[str]] = {
    "--partition-table": list(typing.get_args(PartitionTable)),
    "--disk-size": ["9G", "2097151", "2T", "3T"],
    "--boot-size": ["77"],
    "--firmware-size": ["77"],
    "--additional-space": ["77"],
    "--disk-format": [name for name, row in DISK_FORMATS.items() if row.assembled],
    "--compress": ["none", "zstd", "xz", "gz"],
    "--bmap": [""],
    "--check": [""],
    "--inject": ["/a:/etc/a"],
    "--host-name": ["alpha"],
    "--wifi-ssid": ["net"],
    "--stamp": ["/a.csv"],
    "--identity-seed": ["/seed"],
    "--root-fs": list(ROOTS),
    "--secure-boot-key": ["/key.pem"],
}

#: Options that make no sense without another one.
NEEDS = {
    "--wifi-password-file": "--wifi-ssid",
    "--identity-seed": "--stamp or --host-name",
    "--secure-boot-cert": "--secure-boot-key",
}

NIXOS = nixos_formats.read_formats()
CASES = [(flag, value) for flag, values in VALUES.items() for value in values]


def words(flag: str, value: str) -> list[str]:
    more = ["--secure-boot-cert", "/cert.pem"] if flag == "--secure-boot-key" else []
    more += ["--host-name", "a"] if flag == "--identity-seed" else []
    return [flag, value, *more] if value else [flag]


def asked(argv: list[str]) -> tuple[object, str]:
    """Return the request, or None and the refusal."""
    try:
        return ask(argv), ""
    except UsageError as error:
        return None, str(error)


@functools.cache
def golden(name: str) -> ImageSpec:
    """Return an image spec of the format, as Nix makes it of a plain configuration."""
    found = sorted(SPECS.glob(f"*/{name}.json"))
    return read_spec(found[-1].read_text())


def made(spec: ImageSpec) -> tuple[object, ...]:
    """Return what the assembler makes of the spec's fields: partitions, format, compression."""
    sizes = Sizes(
        root=(100 + spec.root.additionalSpaceMiB) * MIB,
        boot=spec.boot.sizeMiB * MIB,
        esp=spec.esp.sizeMiB * MIB,
        firmware=spec.firmware.sizeMiB * MIB,
        firmware_offset=spec.firmware.offsetMiB * MIB,
        disk=spec.diskSizeMiB * MIB,
    )
    return plan_layout(spec.partitionTable, sizes), spec.diskFormat, spec.compression


def has_effect(image: ImageOptions, spec: ImageSpec) -> bool:
    """Whether the options change the image, its late files, or what is made beside it."""
    beside = (
        image.bmap
        or image.check
        or bool(image.stamp or image.secure_boot_key or image.identity_seed)
    )
    device = Device(host=image.host_name, wifi_ssid=image.wifi_ssid)
    late = late_entries(dataclasses.replace(image, injections=()), device, spec.late)
    changed = made(apply(image, spec)) != made(spec)
    return changed or beside or bool(late) or bool(image.injections)


def refused_later(image: ImageOptions, spec: ImageSpec) -> str:
    """Return why the image cannot be made with these options, "" if it can."""
    try:
        apply(image, spec)
    except SpecError as error:
        return str(error)
    return ""


def test_no_option_of_images_is_forgotten() -> None:
    fields = {field.name for field in dataclasses.fields(ImageOptions)}
    flags = {FLAGS.get(name, "--" + name.replace("_", "-")) for name in fields}
    assert flags | {"--root-fs"} == VALUES.keys() | NEEDS.keys()


# All values of one format, or of one of the demo's, are one test: there are 1,700 pairs.


@pytest.mark.parametrize("form", NIXOS, ids=lambda form: form.name)
def test_an_option_of_a_build_has_an_effect_or_is_refused(form: nixos_formats.NixosFormat) -> None:
    for flag, value in CASES:
        request, refusal = asked(["-f", form.name, *words(flag, value)])
        given = f"{flag} {value}"
        if refusal:
            assert flag in refusal, given
            assert form.name in refusal or flag == "--root-fs", given
            continue
        assert isinstance(request, Build)
        assert form.assembler == "native", given  # all others have no use for these options
        if request.root_fs:
            continue  # Nix decides: nixosImage.fsType
        spec = golden(form.name)
        default = getattr(spec, {"--compress": "compression"}.get(flag, "diskFormat"))
        # What depends on the configuration's partition table is told when Nix has evaluated it.
        later = refused_later(request.image, spec)
        assert flag in later or "spec." in later or not later, given
        if not later and value not in {default, spec.partitionTable}:
            assert has_effect(request.image, spec), given


@pytest.mark.parametrize("name", demo_formats.FORMATS)
def test_an_option_of_the_demo_has_an_effect_or_is_refused(name: str) -> None:
    form = demo_formats.FORMATS[name]
    spec = dataclasses.replace(
        golden("raw-efi"),
        partitionTable=form.partition_table,
        diskFormat=form.disk_format,
        bootLoader=dataclasses.replace(
            golden("raw-efi").bootLoader, extlinux=Extlinux(), grub="/g", systemdBoot="/s"
        ),
    )
    defaults = {"none", form.partition_table, form.disk_format, "ext4", *FILESYSTEMS}
    for flag, value in CASES:
        request, refusal = asked(["demo", "-f", name, *words(flag, value)])
        given = f"{flag} {value}"
        if refusal:
            assert flag in refusal, given
            continue
        assert isinstance(request, Demo)
        # What is not refused at once must not be refused later, when the demo is built.
        assert has_effect(request.image, spec) or value in defaults, given


@pytest.mark.parametrize("argv", [["--format-path", "/mine.nix"], ["-f", "vm"], ["-f", "iso"]])
@pytest.mark.parametrize("flag", VALUES)
def test_who_makes_the_image_alone_gets_no_option(argv: list[str], flag: str) -> None:
    with pytest.raises(UsageError, match=f"^{flag}: "):
        ask([*argv, *words(flag, VALUES[flag][0] if flag != "--compress" else "xz")])
