"""Tests the bootspec reader: parsed fields, and refusals that name the field."""

import json
import pathlib

import hypothesis
import pytest

from orchestrator.image.bootspec import (
    BOOTSPEC_V1,
    EXTRA_INITRD_V1,
    SPECIALISATION_V1,
    SYSTEMD_BOOT,
    read_bootspec,
)
from orchestrator.shared.spec import SpecError
from tests.unit.test_spec import JSON

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
            {BOOTSPEC_V1: {**BOOT, "initrdSecrets": None}, "org.nixos.specialisation.v1": {}},
        )
    )
    assert (found.kernel, found.init, found.kernel_params) == (
        BOOT["kernel"],
        BOOT["init"],
        ("console=ttyAMA0", "quiet"),
    )


def test_the_extensions_of_nixos_are_read(tmp_path: pathlib.Path) -> None:
    extensions = {
        SPECIALISATION_V1: {"b": {BOOTSPEC_V1: {**BOOT, "label": "b"}}, "a": {BOOTSPEC_V1: BOOT}},
        EXTRA_INITRD_V1: {"paths": ["more.cpio"]},
        SYSTEMD_BOOT: {"sortKey": "mine", "devicetree": "/nix/store/d/board.dtb"},
    }
    found = read_bootspec(boot_json(tmp_path, {BOOTSPEC_V1: BOOT, **extensions}))
    assert (found.initrd, found.extra_initrds) == (BOOT["initrd"], ("more.cpio",))
    assert (found.sort_key, found.device_tree) == ("mine", "/nix/store/d/board.dtb")
    assert [(name, inner.label) for name, inner in found.specialisations] == [
        ("a", "demo"),
        ("b", "b"),
    ]


def test_a_kernel_may_need_no_initrd(tmp_path: pathlib.Path) -> None:
    document = {key: value for key, value in BOOT.items() if key != "initrd"}
    assert read_bootspec(boot_json(tmp_path, {BOOTSPEC_V1: document})).initrd == ""


def test_secrets_that_only_the_device_has_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(SpecError, match=r"boot\.initrd\.secrets.*--inject"):
        read_bootspec(boot_json(tmp_path, {BOOTSPEC_V1: {**BOOT, "initrdSecrets": "/x"}}))


def test_a_bootspec_of_another_version_is_refused_by_name(tmp_path: pathlib.Path) -> None:
    with pytest.raises(
        SpecError, match=r"no org\.nixos\.bootspec\.v1 \(found: org\.nixos\.bootspec\.v2\)"
    ):
        read_bootspec(boot_json(tmp_path, {"org.nixos.bootspec.v2": BOOT}))


def test_a_toplevel_without_a_bootspec_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(SpecError, match=r"boot\.json: cannot be read"):
        read_bootspec(tmp_path)
    (tmp_path / "boot.json").write_text("{")
    with pytest.raises(SpecError, match=r"boot\.json: not JSON"):
        read_bootspec(tmp_path)


@pytest.mark.parametrize("name", sorted(BOOT.keys() - {"initrd"}))
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
