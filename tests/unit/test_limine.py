"""Limine's files are those that NixOS' own program writes; its BIOS stages are put in place."""

import json
import pathlib

import pytest

from orchestrator.image.layout import CODE_BYTES, Layout, Partition, Sizes, plan_layout
from orchestrator.image.loaders import bootloader, limine
from orchestrator.shared.constants import MIB
from orchestrator.shared.spec import BootLoader, Limine, SpecError
from tests.unit.boot_systems import LIMINE_CASES, boot_of, our_limine, own_store

RECORDS = pathlib.Path(__file__).parents[1] / "nixos/esp"


@pytest.fixture
def store(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    return own_store(tmp_path, monkeypatch)


@pytest.mark.parametrize("case", LIMINE_CASES)
def test_the_files_are_those_that_nixos_wrote(
    case: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootloader, "STORE", tmp_path / "nix/store")
    assert our_limine(case, tmp_path) == json.loads((RECORDS / f"{case}.json").read_text())


def with_limine(**settings: object) -> BootLoader:
    return BootLoader(3, limine=Limine(**settings))  # type: ignore[arg-type]


def test_without_efi_there_is_no_efi_program(store: pathlib.Path) -> None:
    entries = bootloader.boot_entries(boot_of(store))
    files = limine.loader_files("x86_64-linux", with_limine(bios="/stages"), entries)
    assert files["limine/limine-bios.sys"] == pathlib.Path("/stages/limine-bios.sys")
    assert not [path for path in files if path.startswith("EFI/")]


@pytest.mark.parametrize("name", ["limine.conf", "LIMINE.CONF", "limine-bios.sys"])
def test_limines_own_file_is_not_replaced(name: str, store: pathlib.Path) -> None:
    loader = with_limine(bios="/stages", files={name: "/x"})
    with pytest.raises(SpecError, match="Limine's own file"):
        limine.loader_files("x86_64-linux", loader, bootloader.boot_entries(boot_of(store)))


def test_a_further_initrd_must_be_there(store: pathlib.Path) -> None:
    entries = bootloader.boot_entries(boot_of(store, extra_initrds=("limine/more.cpio",)))
    with pytest.raises(SpecError, match=r"limine/more\.cpio is not on the boot partition"):
        limine.loader_files("x86_64-linux", with_limine(program="/x"), entries)
    there = with_limine(program="/x", files={"more.cpio": "/y"})
    files = limine.loader_files("x86_64-linux", there, entries)
    assert "module_path: boot():/limine/more.cpio" in str(files["limine/limine.conf"])


def test_no_file_outside_of_the_store_is_read(store: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "secret").write_text("secret")
    picture = store / "0c7zvwjrlhqirf3z3q1k0l0r8bq9m5yd-picture"
    picture.symlink_to(tmp_path / "secret")
    loader = with_limine(program="/x", wallpapers=(str(picture),))
    with pytest.raises(SpecError, match="not in a store path"):
        limine.loader_files("x86_64-linux", loader, bootloader.boot_entries(boot_of(store)))


def hybrid() -> Layout:
    return plan_layout("hybrid", Sizes(root=8 * MIB, boot=8 * MIB))


def bios(layout: Layout) -> Partition:
    slot = layout.find("BIOS")
    assert slot is not None
    return slot


def stages(folder: pathlib.Path, place: int, *, size: int = 1000) -> pathlib.Path:
    """Make stages like Limine's, whose boot code names `place` as the next stage's."""
    code = bytearray(b"\xfa" * CODE_BYTES)
    code[limine.PLACE_FIELD] = place.to_bytes(8, "little")
    (folder / "mbr").write_bytes(code)
    (folder / "stage2").write_bytes(b"\x2a" * size)
    return folder


def test_the_stages_get_to_their_places(tmp_path: pathlib.Path) -> None:
    layout = hybrid()
    slot = bios(layout)
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(layout.size))
    limine.embed(disk, layout, stages(tmp_path, slot.start))
    written = disk.read_bytes()
    assert written[:CODE_BYTES] == (tmp_path / "mbr").read_bytes()
    assert written[slot.start : slot.start + 1000] == b"\x2a" * 1000
    rest = written[CODE_BYTES : slot.start] + written[slot.start + 1000 :]
    assert not any(rest)


@pytest.mark.parametrize(("shift", "size"), [(512, 1000), (0, MIB + 1)])
def test_stages_for_another_place_are_refused(
    shift: int, size: int, tmp_path: pathlib.Path
) -> None:
    layout = hybrid()
    slot = bios(layout)
    disk = tmp_path / "disk"
    disk.write_bytes(b"")
    with pytest.raises(SpecError, match=r"bootLoader\.limine\.bios"):
        limine.embed(disk, layout, stages(tmp_path, slot.start + shift, size=size))
    assert disk.read_bytes() == b""


def test_boot_code_of_another_size_is_refused(tmp_path: pathlib.Path) -> None:
    layout = hybrid()
    slot = bios(layout)
    made = stages(tmp_path, slot.start)
    (made / "mbr").write_bytes((made / "mbr").read_bytes() + b"\0")
    with pytest.raises(SpecError, match=r"bootLoader\.limine\.bios"):
        limine.embed(tmp_path / "disk", layout, made)
