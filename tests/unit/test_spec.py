"""Tests the image spec: accepted values, and refusals that name the field."""

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import typing

import hypothesis
import pytest
from hypothesis import strategies as st

from orchestrator.shared.spec import ImageSpec, SpecError
from orchestrator.shared.spec_reader import read_spec

ROOT = pathlib.Path(__file__).parents[2]

SPEC: dict[str, typing.Any] = {
    "schema": 1,
    "name": "nixos-demo-aarch64",
    "system": "aarch64-linux",
    "toplevel": "/nix/store/0c7zvwjrlhqirf3z3q1k0l0r8bq9m5yd-toplevel",
    "format": "raw-efi",
    "partitionTable": "efi",
    "bootLoader": {
        "timeout": 0,
        "systemdBoot": "/nix/store/x/systemd-bootaa64.efi",
        "grub": "",
        "clover": "",
        "extlinux": {"deviceTree": True, "deviceTreeName": ""},
        "limine": None,
        "distroName": "NixOS",
        "editor": False,
        "entryNames": "content",
        "consoleMode": "max",
        "rebootForBitlocker": True,
        "tries": 3,
        "grubMenu": {
            "head": "set default=1\n",
            "theme": "",
            "settings": "",
            "before": "",
            "after": "",
            "perEntry": "",
            "entryOptions": "--class nixos --unrestricted",
            "files": {"memtest.bin": "/nix/store/x/memtest.efi"},
        },
        "extraEntries": {"a.conf": "title a\n"},
        "extraFiles": {"efi/a.efi": "/nix/store/x/a.efi"},
    },
    "root": {
        "fsType": "ext4",
        "label": "nixos",
        "additionalSpaceMiB": 64,
        "uuid": "",
        "partUuid": "",
    },
    "boot": {"label": "ESP", "sizeMiB": 96},
    "esp": {"label": "ESP", "sizeMiB": 40},
    "firmware": {
        "label": "FIRMWARE",
        "sizeMiB": 30,
        "offsetMiB": 8,
        "identifier": "2178694e",
        "files": {"config.txt": "/nix/store/x/config.txt"},
    },
    "diskSizeMiB": 0,
    "contents": [{"source": "/nix/store/x", "target": "/etc/x", "mode": "", "user": 0, "group": 0}],
    "additionalPaths": [],
    "onlyNixStore": False,
    "registration": True,
    "diskFormat": "raw",
    "compression": "none",
    "readyText": "",
    "late": {
        "etc": "etc",
        "keys": "etc/ssh/authorized_keys.d",
        "hostKey": "etc/ssh/ssh_host_ed25519_key",
        "wifi": {"iwd": "var/lib/iwd"},
    },
    "secureBoot": {"keyFile": "/db.key", "certFile": "/db.crt"},
}

#: Fields without a default.
NEEDED = ("schema", "name", "system", "toplevel", "format", "partitionTable", "bootLoader", "root")


def changed(path: str, value: object) -> str:
    """Return the spec as JSON, with one field changed."""
    document = json.loads(json.dumps(SPEC))
    *folders, name = path.split(".")
    inner = document
    for folder in folders:
        inner = inner[folder]
    inner[name] = value
    return json.dumps(document)


def without(path: str) -> str:
    document = json.loads(json.dumps(SPEC))
    *folders, name = path.split(".")
    inner = document
    for folder in folders:
        inner = inner[folder]
    del inner[name]
    return json.dumps(document)


def test_a_spec_is_read() -> None:
    spec = read_spec(json.dumps(SPEC))
    assert json.loads(json.dumps(dataclasses.asdict(spec))) == SPEC
    assert spec.file_name == "nixos-demo-aarch64.img"
    assert read_spec(changed("readyText", "up")).readyText == "up"
    least = read_spec(json.dumps({name: SPEC[name] for name in NEEDED}))
    assert (least.firmware.offsetMiB, least.diskFormat, least.contents) == (8, "raw", ())


def test_a_files_name_says_what_it_is() -> None:
    document = {**SPEC, "diskFormat": "qcow2-compressed", "compression": "xz"}
    assert read_spec(json.dumps(document)).file_name == "nixos-demo-aarch64.qcow2.xz"


@pytest.mark.parametrize(
    ("table", "firmware"), [("efi", ("uefi",)), ("sd-card", ("u-boot",)), ("none", ())]
)
def test_a_table_says_what_starts_it(table: str, firmware: tuple[str, ...]) -> None:
    assert read_spec(changed("partitionTable", table)).boots_under == firmware


@pytest.mark.parametrize("table", ["legacy", "legacy+boot", "legacy+gpt", "hybrid"])
def test_a_table_without_its_loader_is_refused_with_the_reason(table: str) -> None:
    with pytest.raises(SpecError, match=rf"bootLoader\.grub is missing: .*{re.escape(table)}"):
        read_spec(changed("partitionTable", table))


@pytest.mark.parametrize("name", ["/a.efi", "../a.efi", "efi//a.efi"])
def test_extra_files_stay_on_the_boot_partition(name: str) -> None:
    with pytest.raises(SpecError, match=r"bootLoader.*is not a relative path without `..`"):
        read_spec(changed("bootLoader.extraFiles", {name: "/nix/store/x/a.efi"}))


def test_a_root_that_cannot_be_is_refused_with_the_reason() -> None:
    with pytest.raises(SpecError, match=r"f2fs is not supported: it cannot grow"):
        read_spec(changed("root.fsType", "f2fs"))
    document = json.loads(changed("root.fsType", "btrfs"))
    assert read_spec(json.dumps(document)).root.fsType == "btrfs"
    with pytest.raises(SpecError, match=r"extlinux reads its files .* cannot read btrfs"):
        read_spec(json.dumps({**document, "partitionTable": "sd-card"}))


def test_a_store_alone_has_no_contents() -> None:
    document = json.loads(changed("onlyNixStore", True))
    assert read_spec(json.dumps({**document, "contents": []})).onlyNixStore
    with pytest.raises(SpecError, match=r"contents: not possible with onlyNixStore"):
        read_spec(json.dumps(document))


def test_clover_is_for_pcs_with_an_esp() -> None:
    document = json.loads(changed("bootLoader.clover", "/nix/store/x"))
    with pytest.raises(SpecError, match=r"bootLoader\.clover"):
        read_spec(json.dumps(document))
    spec = read_spec(json.dumps({**document, "system": "x86_64-linux"}))
    assert spec.boots_under == ("uefi", "bios")


@pytest.mark.parametrize(
    ("table", "settings", "firmware"),
    [
        ("efi", {"program": "/nix/store/x.EFI"}, ("uefi",)),
        (
            "hybrid",
            {"program": "/nix/store/x.EFI", "bios": "/nix/store/y"},
            ("uefi", "bios"),
        ),
        ("hybrid", {"bios": "/nix/store/y"}, ("bios",)),
    ],
)
def test_limine_starts_what_it_has_programs_for(
    table: str, settings: dict[str, str], firmware: tuple[str, ...]
) -> None:
    document = json.loads(changed("bootLoader", {"timeout": 3, "limine": settings}))
    assert read_spec(json.dumps({**document, "partitionTable": table})).boots_under == firmware


@pytest.mark.parametrize(
    ("changes", "settings", "why"),
    [
        ({"partitionTable": "efixbootldr"}, {"program": "/x"}, "takes partition table efi"),
        ({"partitionTable": "hybrid"}, {"program": "/x"}, "takes partition table efi"),
        ({"partitionTable": "efi"}, {"bios": "/x"}, "takes partition table hybrid"),
        ({"partitionTable": "efi"}, {}, "no program for UEFI and none for a BIOS"),
        ({"partitionTable": "efi"}, {"program": "/x", "files": {"../x": "/y"}}, "relative path"),
    ],
)
def test_limine_without_a_place_is_refused(
    changes: dict[str, str], settings: dict[str, object], why: str
) -> None:
    document = json.loads(changed("bootLoader", {"timeout": 3, "limine": settings}))
    with pytest.raises(SpecError, match=why):
        read_spec(json.dumps({**document, **changes}))


def test_clover_does_not_start_limine() -> None:
    loader = {"timeout": 3, "limine": {"program": "/x"}, "clover": "/nix/store/x"}
    document = {**json.loads(changed("bootLoader", loader)), "system": "x86_64-linux"}
    with pytest.raises(SpecError, match=r"bootLoader\.clover"):
        read_spec(json.dumps({**document, "partitionTable": "efi"}))


def test_given_identifiers_are_taken() -> None:
    given = "44444444-4444-4444-8888-888888888888"
    spec = read_spec(changed("root.uuid", given))
    assert str(spec.identifier("root")) == given
    assert str(spec.identifier("partition nixos")) != given


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed("unheard", "zstd"), r"^spec: unknown field unheard$"),
        (changed("esp.files", []), r"^spec\.esp: unknown field files$"),
        (without("toplevel"), r"^spec: field toplevel is missing$"),
        (without("root.label"), r"^spec\.root: field label is missing$"),
        (changed("esp.sizeMiB", "96"), r"^spec\.esp\.sizeMiB: expected int, found '96'$"),
        (changed("esp.sizeMiB", 96.5), r"^spec\.esp\.sizeMiB: expected int"),
        (changed("esp.sizeMiB", True), r"^spec\.esp\.sizeMiB: expected int, found True$"),
        (changed("esp.sizeMiB", -1), r"^spec\.esp\.sizeMiB: -1 is negative$"),
        (changed("schema", True), r"^spec\.schema: expected int, found True$"),
        (changed("name", 7), r"^spec\.name: expected str, found 7$"),
        (changed("name", None), r"^spec\.name: expected str, found None$"),
        (changed("esp", []), r"^spec\.esp: expected an object, found \[\]$"),
        (changed("partitionTable", "mbr"), r"^spec\.partitionTable: 'mbr' is not one of none, "),
        (changed("root.fsType", "zfs"), r"^spec\.root\.fsType: 'zfs' is not one of ext4, "),
        (changed("root.fsType", []), r"^spec\.root\.fsType: expected str, found \[\]$"),
        (changed("contents", {}), r"^spec\.contents: expected a list"),
        (changed("contents", [{}]), r"^spec\.contents\[0\]: field source, target is missing$"),
        (changed("firmware.files", {"a": 1}), r"^spec\.firmware\.files\.a: expected str"),
        (
            changed("contents", [{"source": "/s", "target": "/"}]),
            r"^spec\.contents: '/' is no path",
        ),
        (
            changed("contents", [{"source": "/s", "target": "a/../b"}]),
            r"^spec\.contents: 'a/\.\./b' is no path",
        ),
        (
            changed("contents", [{"source": "/s", "target": "//nix/./store/x"}]),
            r"^spec\.contents: .*only Nix may add files to the store",
        ),
        (changed("root.label", "a b"), r"^spec\.root\.label: 'a b' is empty, or has letters"),
        (changed("firmware.label", "a.b"), r"^spec\.firmware\.label: 'a\.b' is empty, or has"),
        (changed("late.wifi", {"connman": "x"}), r"^spec\.late\.wifi: connman is not one of"),
        (changed("firmware.identifier", "x"), r"^spec\.firmware\.identifier: 'x' is not 8"),
        (changed("root.uuid", "x"), r"^spec\.root\.uuid: "),
        (changed("root.label", "x" * 17), r"^spec\.root\.label: 'x+' is longer than ext4"),
        (changed("boot.label", "é" * 6), r"^spec\.boot\.label: 'é+' is longer than vfat"),
        (changed("schema", 2), r"^spec\.schema: 2 is not supported"),
        (changed("name", "../out"), r"^spec\.name: '\.\./out' cannot be a file name$"),
        (changed("name", ""), r"^spec\.name"),
        (changed("name", ".."), r"^spec\.name"),
        ("{", "^image spec: not JSON"),
        ("", "^image spec: not JSON"),
        ("[]", r"^spec: expected an object, found \[\]$"),
        ("null", "^spec: expected an object, found None$"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read_spec(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    *SPEC,
    *(
        f"{part}.{name}"
        for part in ("bootLoader", "boot", "esp", "firmware", "root")
        for name in SPEC[part]
    ),
]


@hypothesis.given(JSON)
def test_any_json_is_read_or_refused(document: object) -> None:
    with pytest.raises(SpecError):
        read_spec(json.dumps(document))


@hypothesis.given(st.sampled_from(FIELDS), JSON)
@hypothesis.settings(max_examples=3 * hypothesis.settings().max_examples)
def test_any_value_of_any_field_is_read_or_refused(field: str, value: object) -> None:
    try:
        spec = read_spec(changed(field, value))
    except SpecError:
        return
    assert isinstance(spec, ImageSpec)
    assert "/" not in spec.name


@hypothesis.given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(SpecError):
        read_spec(text)


def test_identifiers_are_the_same_for_the_same_spec_and_differ_otherwise() -> None:
    spec, same = read_spec(json.dumps(SPEC)), read_spec(json.dumps(SPEC))
    others = [
        read_spec(changed("esp.sizeMiB", 97)),
        read_spec(changed("root.label", "b")),
    ]
    names = ("disk", "esp", "root", "hash seed", "partition ESP", "partition nixos")
    assert [spec.identifier(name) for name in names] == [same.identifier(name) for name in names]
    assert len({one.identifier(name) for one in (spec, *others) for name in names}) == 3 * len(
        names
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "b"),
        ("format", "qcow-efi"),
        ("diskFormat", "qcow2"),
        ("compression", "zstd"),
        ("readyText", "b"),
    ],
)
def test_a_disk_has_the_same_identifiers_in_each_file(field: str, value: str) -> None:
    spec, other = read_spec(json.dumps(SPEC)), read_spec(changed(field, value))
    assert spec != other
    assert spec.disk == other.disk
    assert spec.identifier("disk") == other.identifier("disk")


def test_identifiers_do_not_depend_on_the_process() -> None:
    """Identifiers are equal in another process, although Python's hashes are not."""
    code = "from orchestrator.shared.spec_reader import read_spec; "
    code += f"print(read_spec({json.dumps(SPEC)!r}).identifier('disk'))"
    expected = str(read_spec(json.dumps(SPEC)).identifier("disk"))
    for seed in ("1", "2"):
        command = [sys.executable, "-c", code]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected
