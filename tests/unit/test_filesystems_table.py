"""Tests the table of file systems: each root file system has a module and consistent facts."""

import inspect
import json
import pathlib
import re
import tomllib
import typing

import pytest

from orchestrator.image.filesystems import rootfs
from orchestrator.shared.filesystems import FILESYSTEMS, REFUSED, ROOTS, Row
from orchestrator.shared.spec import LOADERS

ROOT = pathlib.Path(__file__).parents[2]
MADE = [name for name in ROOTS if name not in REFUSED]


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("function", ["size", "write", "examine"])
def test_a_root_has_its_module(name: str, function: str) -> None:
    wanted = inspect.signature(getattr(rootfs.Filesystem, function)).parameters
    found = inspect.signature(getattr(rootfs.module_of(name), function)).parameters
    assert [one.lstrip("_") for one in found] == [one for one in wanted if one != "self"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_made_has_no_module(name: str) -> None:
    with pytest.raises(ModuleNotFoundError):
        rootfs.module_of(name)


@pytest.mark.parametrize("row", FILESYSTEMS.values(), ids=FILESYSTEMS)
def test_a_row_is_whole(row: Row) -> None:
    loaders = {loader for loaders in LOADERS.values() for loader in loaders}
    assert set(row.read_by) <= loaders
    assert row.label_bytes
    assert ("grub" in row.read_by) <= bool(row.grub_module)
    assert row.refused or (row.packages and row.kernel_modules)


def test_what_is_read_only_is_mounted_below_memory_in_the_demo() -> None:
    script = (ROOT / "nix/demo/initrd-init.sh").read_text()
    (named,) = re.findall(r'\[ "\$type" = (\w+) \]', script)
    assert [name for name in MADE if not FILESYSTEMS[name].writable] == [named]


def test_the_specs_of_nixpkgs_name_roots_that_are_made() -> None:
    found: list[dict[str, typing.Any]] = [
        json.loads(path.read_text()) for path in (ROOT / "tests/nixos/specs").rglob("*.json")
    ]
    assert found
    assert {one["root"]["fsType"] for one in found} <= set(MADE)


def test_mount_options_are_known_of_each_type_that_is_made() -> None:
    options = tomllib.loads((ROOT / "nix/mount-options.toml").read_text())
    assert set(MADE) | {"vfat"} <= set(options)
    for names in options.values():
        assert len(names) == len(set(names))
