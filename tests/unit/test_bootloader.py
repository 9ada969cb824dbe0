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


@pytest.mark.parametrize("version", ["26.05\nmenuentry x {\n}", '26.05" { reboot }', "26.05'"])
def test_a_version_adds_nothing_to_a_menu(version: str, store: pathlib.Path) -> None:
    """GRUB's and U-Boot's menus have NixOS' version, which a file of the store says."""
    boot = boot_of(store)
    pathlib.Path(boot.toplevel).mkdir(parents=True, exist_ok=True)
    (pathlib.Path(boot.toplevel) / "nixos-version").write_text(version)
    with pytest.raises(SpecError, match="no version"):
        bootloader.boot_entries(boot)
    (pathlib.Path(boot.toplevel) / "nixos-version").write_text("26.05.2 (Yarara)\n")
    assert bootloader.boot_entries(boot)[0].release == "26.05.2 (Yarara)"
