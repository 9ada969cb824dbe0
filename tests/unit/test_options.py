"""Tests image options: each option sets its own field and no other."""

import dataclasses
import json
import typing

import hypothesis
import pytest
from hypothesis import strategies as st

from orchestrator.shared.disk_formats import ASSEMBLED, DiskFormat
from orchestrator.shared.filesystems import FsType
from orchestrator.shared.image_options import ImageOptions, Injection, apply
from orchestrator.shared.json_reader import TOO_LARGE_MIB, JsonError, from_json
from orchestrator.shared.spec import (
    SCHEMA,
    BootLoader,
    Compression,
    Extlinux,
    ImageSpec,
    Limine,
    PartitionTable,
    Root,
    SecureBoot,
    SpecError,
)

SPEC = ImageSpec(
    schema=SCHEMA,
    name="nixos",
    system="x86_64-linux",
    toplevel="/nix/store/x-toplevel",
    format="raw-efi",
    partitionTable="efi",
    bootLoader=BootLoader(
        timeout=3,
        systemdBoot="/nix/store/x-boot.efi",
        grub="/nix/store/x-grub",
        extlinux=Extlinux(),
    ),
    root=Root("ext4", "nixos"),
)


def flat(document: object, path: str = "") -> dict[str, object]:
    """Return the leaves of a JSON document by path."""
    if not isinstance(document, dict):
        return {path: document}
    return {
        key: value
        for name, inner in document.items()
        for key, value in flat(inner, f"{path}.{name}").items()
    }


def changes(options: ImageOptions) -> dict[str, object]:
    """Return the fields that `apply` has changed; of an SD card for an option of its own."""
    table: PartitionTable = "efi" if options.firmware_size is None else "sd-card"
    spec = dataclasses.replace(SPEC, partitionTable=table)
    before, after = (flat(dataclasses.asdict(one)) for one in (spec, apply(options, spec)))
    assert before.keys() == after.keys()
    return {path[1:]: value for path, value in after.items() if value != before[path]}


def test_nothing_asked_for_changes_nothing() -> None:
    assert apply(ImageOptions(), SPEC) == SPEC


@pytest.mark.parametrize(
    ("option", "value", "field"),
    [
        ("partition_table", "hybrid", "partitionTable"),
        ("disk_size", 4096, "diskSizeMiB"),
        ("boot_size", 77, "boot.sizeMiB"),
        ("firmware_size", 77, "firmware.sizeMiB"),
        ("additional_space", 77, "root.additionalSpaceMiB"),
        ("additional_space", 0, "root.additionalSpaceMiB"),
        ("firmware_size", 0, "firmware.sizeMiB"),
        ("disk_format", "vmdk", "diskFormat"),
        ("compression", "zstd", "compression"),
    ],
)
def test_an_option_changes_its_field_and_no_other(option: str, value: object, field: str) -> None:
    named: typing.Any = {option: value}
    assert changes(dataclasses.replace(ImageOptions(), **named)) == {field: value}


def test_auto_overrides_a_size_of_the_spec() -> None:
    given = apply(ImageOptions(disk_size=900, boot_size=64), SPEC)
    assert apply(ImageOptions(disk_size=0, boot_size=0), given) == apply(
        ImageOptions(boot_size=0), SPEC
    )


def test_several_options_go_together() -> None:
    options = ImageOptions(boot_size=64, disk_size=900, disk_format="qcow2", compression="xz")
    assert changes(options) == {
        "boot.sizeMiB": 64,
        "diskSizeMiB": 900,
        "diskFormat": "qcow2",
        "compression": "xz",
    }


@pytest.mark.parametrize(
    "options",
    [
        ImageOptions(bmap=True, check=True),
        ImageOptions(host_name="pi", stamp="/x.csv"),
        ImageOptions(injections=(Injection("/a", "/b", 0o600),)),
    ],
)
def test_what_is_no_field_of_the_spec_changes_nothing(options: ImageOptions) -> None:
    assert apply(options, SPEC) == SPEC


def test_an_image_that_must_be_signed_takes_a_key_of_the_command_line() -> None:
    files = SecureBoot("/home/me/my db.key", "db.crt;reboot")
    spec = dataclasses.replace(SPEC, secureBoot=files)
    with pytest.raises(SpecError, match="wants a signed image") as caught:
        apply(ImageOptions(), spec)
    assert str(caught.value).endswith(
        ": --secure-boot-key '/home/me/my db.key' --secure-boot-cert 'db.crt;reboot'"
    )
    signed = ImageOptions(secure_boot_key="/k", secure_boot_cert="/c")
    assert apply(signed, spec) == spec


@pytest.mark.parametrize("kind", ["qcow2", "vhdx"])
def test_only_raw_images_have_a_block_map(kind: DiskFormat) -> None:
    with pytest.raises(SpecError, match=f"--bmap needs a raw image, not {kind}"):
        apply(ImageOptions(bmap=True, disk_format=kind), SPEC)


@pytest.mark.parametrize("kind", ["btrfs", "xfs", "erofs"])
def test_only_ext4_has_a_block_map(kind: FsType) -> None:
    with pytest.raises(SpecError, match=f"--bmap does not support {kind}"):
        apply(ImageOptions(bmap=True), dataclasses.replace(SPEC, root=Root(kind, "nixos")))


@pytest.mark.parametrize("table", typing.get_args(PartitionTable))
def test_every_table_is_possible_with_every_loader(table: PartitionTable) -> None:
    assert apply(ImageOptions(partition_table=table), SPEC).partitionTable == table


@pytest.mark.parametrize(
    ("table", "loader"),
    [
        ("legacy", "grub"),
        ("legacy+boot", "grub"),
        ("legacy+gpt", "grub"),
        ("hybrid", "grub"),
        ("sd-card", "extlinux"),
    ],
)
def test_a_table_without_its_loader_is_refused(table: PartitionTable, loader: str) -> None:
    spec = dataclasses.replace(SPEC, bootLoader=BootLoader(3, systemdBoot="/nix/store/x-boot.efi"))
    with pytest.raises(SpecError, match=rf"^spec\.bootLoader\.{loader} is missing"):
        apply(ImageOptions(partition_table=table), spec)
    assert apply(ImageOptions(), spec) == spec


def test_limine_is_not_signed() -> None:
    spec = dataclasses.replace(
        SPEC, partitionTable="efi", bootLoader=BootLoader(3, limine=Limine(program="/x"))
    )
    assert apply(ImageOptions(), spec) == spec
    signed = ImageOptions(secure_boot_key="/key", secure_boot_cert="/cert")
    with pytest.raises(SpecError, match="the image has Limine"):
        apply(signed, spec)


LINES = st.text(st.characters(exclude_categories=["Cc", "Cs"]))


def strategy_of(field: dataclasses.Field[typing.Any]) -> st.SearchStrategy[typing.Any]:
    """Strategy for values that the type of `field` allows."""
    if field.name == "injections":
        one = st.builds(Injection, LINES, LINES, st.integers(0, 0o7777))
        return st.lists(one, max_size=3).map(tuple)
    kind = typing.get_type_hints(ImageOptions)[field.name]
    if kind == (int | None):
        return st.none() | st.integers(0, TOO_LARGE_MIB - 1)
    if kind == (str | None):  # only the disk format, a name in the table, has this type
        return st.none() | st.sampled_from(ASSEMBLED)
    return LINES if kind is str else st.from_type(kind)


OPTIONS = st.builds(
    ImageOptions, **{field.name: strategy_of(field) for field in dataclasses.fields(ImageOptions)}
)


@hypothesis.given(OPTIONS)
def test_options_come_back_from_json(options: ImageOptions) -> None:
    document = json.loads(json.dumps(dataclasses.asdict(options)))
    assert from_json(ImageOptions, document, "options") == options


def test_a_document_without_fields_has_the_defaults() -> None:
    assert from_json(ImageOptions, {}, "options") == ImageOptions()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("disk-size", 1, r"^options: unknown field disk-size$"),
        ("disk_size", "1", r"^options\.disk_size: expected int, found '1'$"),
        ("disk_size", -1, r"^options\.disk_size: -1 is negative$"),
        ("disk_size", 1 << 24, r"^options\.disk_size: \d+ MiB is more than the limit of 16 TiB$"),
        ("bmap", 1, r"^options\.bmap: expected bool, found 1$"),
        (
            "injections",
            [{"source": "/s", "target": "/t"}],
            r"injections\[0\]: field mode is missing",
        ),
        ("stamp", "/a\nb", r"^options\.stamp: .* has characters that are not allowed in a text$"),
    ],
)
def test_a_wrong_field_is_named(field: str, value: object, message: str) -> None:
    with pytest.raises(JsonError, match=message):
        from_json(ImageOptions, {field: value}, "options")


@hypothesis.given(st.sampled_from(ASSEMBLED), st.sampled_from(typing.get_args(Compression)))
def test_every_format_has_a_name_of_its_own(form: DiskFormat, packed: Compression) -> None:
    spec = apply(ImageOptions(disk_format=form, compression=packed), SPEC)
    assert spec.file_name.startswith("nixos.")
    assert (packed == "none") == (spec.file_name.count(".") == 1)
