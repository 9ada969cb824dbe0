"""The image spec and the bootspec: what is taken, what is refused and by which field's name."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import typing

import hypothesis
import pytest
from hypothesis import strategies as st

from orchestrator.image.spec import BOOTSPEC_V1, ImageSpec, SpecError, read_bootspec, read_spec

ROOT = pathlib.Path(__file__).parents[2]

SPEC: dict[str, typing.Any] = {
    "schema": 1,
    "name": "nixos-demo-aarch64",
    "system": "aarch64-linux",
    "toplevel": "/nix/store/0c7zvwjrlhqirf3z3q1k0l0r8bq9m5yd-toplevel",
    "format": "raw-efi",
    "partitionTable": "efi",
    "bootLoader": {
        "type": "systemd-boot",
        "source": "/nix/store/x/systemd-bootaa64.efi",
        "timeout": 0,
    },
    "esp": {"label": "ESP", "sizeMiB": 96},
    "root": {"fsType": "ext4", "label": "nixos", "additionalSpaceMiB": 64},
}


def changed(path: str, value: object) -> str:
    """The spec with one field set, as JSON."""
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
    assert dataclasses.asdict(spec) == {**SPEC, "readyText": ""}
    assert spec.file_name == "nixos-demo-aarch64.img"
    assert read_spec(changed("readyText", "up")).readyText == "up"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed("compression", "zstd"), r"^spec: unknown field compression$"),
        (changed("esp.files", []), r"^spec\.esp: unknown field files$"),
        (without("toplevel"), r"^spec: field toplevel is missing$"),
        (without("root.label"), r"^spec\.root: field label is missing$"),
        (changed("esp.sizeMiB", "96"), r"^spec\.esp\.sizeMiB: expected int, found '96'$"),
        (changed("esp.sizeMiB", 96.5), r"^spec\.esp\.sizeMiB: expected int"),
        (changed("esp.sizeMiB", True), r"^spec\.esp\.sizeMiB: expected int, found True$"),
        (changed("schema", True), r"^spec\.schema: expected int, found True$"),
        (changed("name", 7), r"^spec\.name: expected str, found 7$"),
        (changed("name", None), r"^spec\.name: expected str, found None$"),
        (changed("esp", []), r"^spec\.esp: expected an object, found \[\]$"),
        (changed("format", "iso"), r"^spec\.format: 'iso' is not one of raw-efi$"),
        (changed("root.fsType", "btrfs"), r"^spec\.root\.fsType: 'btrfs' is not one of ext4$"),
        (changed("root.fsType", []), r"^spec\.root\.fsType: \[\] is not one of ext4$"),
        (
            changed("bootLoader.type", {}),
            r"^spec\.bootLoader\.type: \{\} is not one of systemd-boot$",
        ),
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
    *(f"{part}.{name}" for part in ("bootLoader", "esp", "root") for name in SPEC[part]),
]


@hypothesis.given(JSON)
def test_any_json_is_read_or_refused(document: object) -> None:
    with pytest.raises(SpecError):
        read_spec(json.dumps(document))


@hypothesis.given(st.sampled_from(FIELDS), JSON)
@hypothesis.settings(max_examples=300)
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
        read_spec(changed("name", "b")),
        read_spec(changed("esp.sizeMiB", 97)),
        read_spec(changed("root.label", "b")),
    ]
    names = ("disk", "esp", "root", "hash seed", "partition ESP", "partition nixos")
    assert [spec.identifier(name) for name in names] == [same.identifier(name) for name in names]
    assert len({one.identifier(name) for one in (spec, *others) for name in names}) == 4 * len(
        names
    )


def test_identifiers_do_not_depend_on_the_process() -> None:
    """Python's own hashes differ between processes; images must not."""
    code = "from orchestrator.image.spec import read_spec; "
    code += f"print(read_spec({json.dumps(SPEC)!r}).identifier('disk'))"
    expected = str(read_spec(json.dumps(SPEC)).identifier("disk"))
    for seed in ("1", "2"):
        command = [sys.executable, "-c", code]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected


BOOT = {
    "system": "aarch64-linux",
    "label": "demo",
    "kernel": "/nix/store/k/Image",
    "initrd": "/nix/store/i/initrd",
    "init": "/nix/store/t/init",
    "toplevel": "/nix/store/t",
    "kernelParams": ["console=ttyAMA0", "quiet"],
}


def boot_json(folder: pathlib.Path, document: object) -> pathlib.Path:
    (folder / "boot.json").write_text(json.dumps(document))
    return folder


def test_a_bootspec_is_read(tmp_path: pathlib.Path) -> None:
    found = read_bootspec(
        boot_json(
            tmp_path,
            {BOOTSPEC_V1: {**BOOT, "initrdSecrets": "/x"}, "org.nixos.specialisation.v1": {}},
        )
    )
    assert (found.kernel, found.init, found.kernel_params) == (
        BOOT["kernel"],
        BOOT["init"],
        ("console=ttyAMA0", "quiet"),
    )


def test_a_bootspec_of_another_version_is_refused_by_name(tmp_path: pathlib.Path) -> None:
    with pytest.raises(
        SpecError, match=r"no org\.nixos\.bootspec\.v1 \(found: org\.nixos\.bootspec\.v2\)"
    ):
        read_bootspec(boot_json(tmp_path, {"org.nixos.bootspec.v2": BOOT}))


def test_a_toplevel_without_a_bootspec_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(SpecError, match=r"boot\.json: cannot be read"):
        read_bootspec(tmp_path)
    (tmp_path / "boot.json").write_text("{")
    with pytest.raises(SpecError, match=r"boot\.json: cannot be read"):
        read_bootspec(tmp_path)


@pytest.mark.parametrize("name", BOOT)
def test_a_missing_field_of_a_bootspec_is_named(name: str, tmp_path: pathlib.Path) -> None:
    document = {key: value for key, value in BOOT.items() if key != name}
    with pytest.raises(SpecError, match=name):
        read_bootspec(boot_json(tmp_path, {BOOTSPEC_V1: document}))


@hypothesis.given(document=JSON)
def test_any_json_is_no_bootspec(
    document: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("toplevel")
    for candidate in (document, {BOOTSPEC_V1: document}):
        with pytest.raises(SpecError):
            read_bootspec(boot_json(folder, candidate))
