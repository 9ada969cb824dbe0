"""Tests entries of boot menus: their files must be in the store."""

import pathlib

import pytest

from orchestrator.image.loaders import bootloader
from orchestrator.shared.spec import SpecError
from tests.unit.boot_systems import HASH, boot_of, own_store


@pytest.fixture
def store(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    return own_store(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "place", ["outside", "nix/store/not-a-hash/Image", f"nix/store/{HASH}-gone/Image"]
)
def test_a_kernel_that_is_not_in_the_store_is_refused(
    place: str, store: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / place
    if "gone" not in place:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("kernel")
    with pytest.raises(SpecError):
        bootloader.boot_entries(boot_of(store, kernel=str(path)))
