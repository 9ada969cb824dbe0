"""Whole images from a small made-up system in a real Nix store, read back with other tools."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import subprocess
import time
import typing
from collections.abc import Iterable

import pytest

from orchestrator.image.assemble import assemble
from orchestrator.image.closure import Record, changed, records, registration
from orchestrator.image.filesystems.filesystem import FilesystemError
from orchestrator.image.layout import LayoutError
from orchestrator.image.pack import ChangedError, pack
from orchestrator.image.search import misplaced
from orchestrator.image.tree import Entry, TreeError
from orchestrator.shared.constants import MIB
from orchestrator.shared.filesystems import FsType
from orchestrator.shared.spec import Content, FirmwarePartition, ImageSpec, PartitionTable
from tests.tools.nix_store import add, made_up, poisoned, run

pytestmark = pytest.mark.own_store


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ImageSpec:
    return made_up(tmp_path_factory.mktemp("system"))


def listing(image: pathlib.Path, start: int, path: str) -> list[str]:
    said = run("debugfs", "-R", f"ls -p {path}", f"{image}?offset={start}")
    return [line for line in said.splitlines() if line.startswith("/")]


def test_an_image_has_its_table_its_boot_files_and_its_closure(
    spec: ImageSpec, tmp_path: pathlib.Path
) -> None:
    image = tmp_path / "image"
    layout = assemble(spec, image, tmp_path)
    assert image.stat().st_size == layout.size
    table = json.loads(run("sfdisk", "--json", str(image)))["partitiontable"]
    assert [part["name"] for part in table["partitions"]] == ["ESP", "nixos"]
    assert table["id"].lower() == str(spec.identifier("disk"))
    names = run("mdir", "-b", "-f", "-/", "-i", f"{image}@@{MIB}", "::/").splitlines()
    assert "::/EFI/BOOT/BOOTAA64.EFI" in names
    assert "::/loader/entries/nixos-generation-1.conf" in names
    root = listing(image, layout.root.start, "/")
    assert {line.split("/")[5] for line in root} >= {"nix", "nix-path-registration", "lost+found"}
    store = listing(image, layout.root.start, "/nix/store")
    for line in store:
        _, _inode, _mode, user, group, name, _size, _ = line.split("/")
        assert (user, group) == (("0", "30000") if name == "." else ("0", "0")), name
    present = {line.split("/")[5] for line in store} - {".", ".."}
    paths = [spec.toplevel, *spec.additionalPaths]
    assert present == {path.removeprefix("/nix/store/") for path in paths}
    assert "ünï cödé" in run(
        "debugfs", "-R", f"ls -p {spec.toplevel}", f"{image}?offset={layout.root.start}"
    )


def test_the_first_boot_can_register_the_store_paths(
    spec: ImageSpec, tmp_path: pathlib.Path
) -> None:
    paths = (spec.toplevel, *spec.additionalPaths)
    document = registration(records(paths))
    assert document == registration(records(paths[::-1])), "in an order of its own"
    state = {"NIX_STATE_DIR": str(tmp_path / "state"), "NIX_REMOTE": "local"}
    subprocess.run(
        ["nix-store", "--load-db"], input=document, check=True, env={**os.environ, **state}
    )
    run("nix-store", "--check-validity", *paths, **state)
    run("nix-store", "--verify-path", *paths, **state)


@pytest.mark.parametrize("table", ["efi", "efixbootldr", "sd-card", "none"])
def test_the_same_spec_gives_the_same_bits(
    table: PartitionTable, spec: ImageSpec, tmp_path: pathlib.Path
) -> None:
    digests = set()
    for turn in range(2):
        image = tmp_path / f"image{turn}"
        time.sleep(1.1)  # a different time must not change the image
        assemble(dataclasses.replace(spec, partitionTable=table), image, tmp_path)
        with image.open("rb") as file:
            digests.add(hashlib.file_digest(file, "sha256").hexdigest())
    assert len(digests) == 1


def test_an_sd_card_has_extlinux_on_an_active_root(spec: ImageSpec, tmp_path: pathlib.Path) -> None:
    image = tmp_path / "image"
    layout = assemble(dataclasses.replace(spec, partitionTable="sd-card"), image, tmp_path)
    table = json.loads(run("sfdisk", "--json", str(image)))["partitiontable"]
    assert table["id"] == "0x2178694e"
    firmware, root = table["partitions"]
    assert (firmware["start"], firmware["type"], firmware.get("bootable")) == (16384, "b", None)
    assert (root["type"], root["bootable"]) == ("83", True)
    config = run(
        "debugfs",
        "-R",
        "cat /boot/extlinux/extlinux.conf",
        f"{image}?offset={layout.root.start}",
    )
    kernel = next(path for path in spec.additionalPaths if path.endswith("-kernel"))
    assert f"  LINUX ../nixos/{kernel.removeprefix('/nix/store/')}\n" in config


def test_a_late_value_is_where_it_belongs_and_nowhere_else(
    spec: ImageSpec, tmp_path: pathlib.Path
) -> None:
    entry = Entry("etc/wifi", "file", 0o600, data=b"psk=correct horse", user=5, group=6)
    image = tmp_path / "image"
    layout = assemble(spec, image, tmp_path, (entry,))
    assert misplaced(image, (entry,)) == []
    place = f"{image}?offset={layout.root.start}"
    shown = run("debugfs", "-R", "stat /etc/wifi", place)
    assert "Mode:  0600" in shown
    assert "User:     5   Group:     6" in shown
    assert run("debugfs", "-R", "cat /etc/wifi", place) == "psk=correct horse"
    twice = (entry, dataclasses.replace(entry, path="etc/other"))
    assert misplaced(image, twice) == ["etc/other", "etc/wifi"]


def test_a_disk_that_is_too_small_leaves_no_file(spec: ImageSpec, tmp_path: pathlib.Path) -> None:
    image = tmp_path / "image"
    with pytest.raises(LayoutError, match="too small"):
        assemble(dataclasses.replace(spec, diskSizeMiB=64), image, tmp_path)
    assert not image.exists()


def test_a_tool_that_fails_leaves_no_file(
    spec: ImageSpec, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sfdisk").write_text("#!/bin/sh\necho no table >&2; exit 1\n")
    (tmp_path / "bin/sfdisk").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    with pytest.raises(FilesystemError, match="sfdisk: no table"):
        assemble(spec, tmp_path / "image", tmp_path)
    assert not (tmp_path / "image").exists()


def test_a_path_that_is_missing_from_the_store_is_named(
    spec: ImageSpec, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = "/nix/store/0c7zvwjrlhqirf3z3q1k0l0r8bq9m5yd-gone"
    known = {path: Record("", "", ()) for path in (spec.toplevel, gone)}
    monkeypatch.setattr("orchestrator.image.assemble.records", lambda _paths: known)
    with pytest.raises(TreeError, match=f"{gone}: belongs to the closure, but is not in the store"):
        assemble(spec, tmp_path / "image", tmp_path)


def test_a_path_that_nix_does_not_know_is_an_error_with_its_words(
    spec: ImageSpec, tmp_path: pathlib.Path
) -> None:
    unknown = "/nix/store/0c7zvwjrlhqirf3z3q1k0l0r8bq9m5yd-unknown"
    with pytest.raises(TreeError, match=f"{unknown}' is not valid"):
        assemble(dataclasses.replace(spec, toplevel=unknown), tmp_path / "image", tmp_path)


def test_no_image_is_made_of_what_was_changed(spec: ImageSpec, tmp_path: pathlib.Path) -> None:
    paths = [spec.toplevel, *spec.additionalPaths]
    assert changed(paths) == []
    with poisoned(spec.additionalPaths[0]), poisoned(f"{spec.toplevel}/boot.json", b" "):
        wrong = sorted((spec.additionalPaths[0], spec.toplevel))
        assert changed(paths) == wrong
        with pytest.raises(ChangedError) as caught:
            assemble(spec, tmp_path / "image", tmp_path)
    assert caught.value.paths == (spec.toplevel,), "its boot.json is read first"
    assert not (tmp_path / "image").exists()


def test_what_cannot_be_read_was_changed(spec: ImageSpec) -> None:
    """After a path that cannot be read, the others are checked, too."""
    first, second, *_ = sorted((spec.toplevel, *spec.additionalPaths))
    gone = pathlib.Path(f"{first}-away")
    pathlib.Path(first).rename(gone)
    try:
        with poisoned(second if pathlib.Path(second).is_file() else f"{second}/boot.json"):
            assert changed([spec.toplevel, *spec.additionalPaths]) == [first, second]
    finally:
        gone.rename(first)


def hostile(case: str, spec: ImageSpec, folder: str, secret: pathlib.Path) -> ImageSpec:
    """Return a spec that asks for `secret`, or for other store paths, by way of `folder`."""
    loader = spec.bootLoader
    link = f"{folder}/out"
    contents = {
        "a link": link,
        "a folder with a link": folder,
        "a path that climbs": f"{folder}/../../..{secret}",
        "a pattern that climbs": f"{folder}/../../..{secret.parent}/*",
        "a pattern for the store": f"{folder}/store/*",
        "another store path's file": f"{folder}/other",
        "a path outside of the store": str(secret),
        "the store": "/nix/store/*",
    }
    if case in contents:
        return dataclasses.replace(spec, contents=(Content(contents[case], "/etc/stolen"),))
    if case == "a firmware file":
        firmware = FirmwarePartition(files={"x": link})
        return dataclasses.replace(spec, partitionTable="sd-card", firmware=firmware)
    if case == "GRUB's file":
        menu = dataclasses.replace(loader.grubMenu, files={"x": link})
        return dataclasses.replace(
            spec,
            partitionTable="legacy",
            bootLoader=dataclasses.replace(loader, grub=folder, grubMenu=menu),
        )
    if case == "the boot loader":
        loader = dataclasses.replace(loader, systemdBoot=link)
    else:
        loader = dataclasses.replace(loader, extraFiles={"x": link})
    return dataclasses.replace(spec, bootLoader=loader)


@pytest.mark.parametrize(
    "case",
    [
        *("a link", "a folder with a link", "a path that climbs", "a pattern that climbs"),
        *("a pattern for the store", "another store path's file", "a path outside of the store"),
        *("the store", "a firmware file", "GRUB's file", "the boot loader"),
        "a boot loader's file",
    ],
)
def test_an_image_has_nothing_that_its_spec_does_not_name(
    case: str, spec: ImageSpec, tmp_path: pathlib.Path
) -> None:
    """While it is assembled, the builder may read late values of other devices, for example."""
    secret = tmp_path / "late/of-another-device"
    secret.parent.mkdir()
    secret.write_text("made-up secret")
    (tmp_path / "other").write_text(f"another run's, {case}")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "out").symlink_to(secret)
    (folder / "store").symlink_to("/nix/store")
    (folder / "other").symlink_to(add(tmp_path / "other"))
    asked = hostile(case, spec, add(folder), secret)
    with pytest.raises(TreeError, match=r"the image's spec does not name|is in no store path"):
        assemble(asked, tmp_path / "image", tmp_path)
    assert not (tmp_path / "image").exists()


def test_a_system_whose_bootspec_leads_out_is_refused(
    spec: ImageSpec, tmp_path: pathlib.Path
) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (tmp_path / "secret").write_text("{}")
    (top / "boot.json").symlink_to(tmp_path / "secret")
    with pytest.raises(TreeError, match="the image's spec does not name"):
        assemble(dataclasses.replace(spec, toplevel=add(top)), tmp_path / "image", tmp_path)


def test_links_within_what_the_spec_names_are_followed(
    spec: ImageSpec, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_text("content")
    (folder / "link").symlink_to("a")
    (folder / "kernel").symlink_to(spec.additionalPaths[0])
    asked = dataclasses.replace(spec, contents=(Content(f"{add(folder)}/*", "/etc/mine"),))
    image = tmp_path / "image"
    layout = assemble(asked, image, tmp_path)
    found = {line.split("/")[5] for line in listing(image, layout.root.start, "/etc/mine")}
    assert found == {".", "..", "a", "kernel", "link"}


@pytest.mark.parametrize("kind", ["ext4", "btrfs"])
@pytest.mark.parametrize("case", ["contents", "folder", "kernel", "loader"])
def test_what_is_right_again_when_the_store_is_hashed_gets_into_no_image(
    case: str,
    kind: FsType,
    spec: ImageSpec,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A build without a sandbox may undo its change when a file has been read once."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a").write_text("right")
    folder = pathlib.Path(add(tmp_path / "folder"))
    loader = pathlib.Path(spec.bootLoader.systemdBoot or "")
    kernel = pathlib.Path(spec.additionalPaths[0])
    asked = dataclasses.replace(
        spec,
        contents=(Content(str(folder), "/etc/mine"),),
        root=dataclasses.replace(spec.root, fsType=kind, additionalSpaceMiB=64),
        additionalPaths=tuple(path for path in spec.additionalPaths if path != str(loader)),
    )
    wrong = {"contents": folder / "a", "folder": folder / "new", "kernel": kernel, "loader": loader}
    file = wrong[case]
    undo = contextlib.ExitStack()
    folder.chmod(0o755)
    if case == "folder":
        file.write_text("wrong")
        undo.callback(file.unlink)
    else:
        undo.enter_context(poisoned(str(file)))

    def later(
        paths: Iterable[str], sink: typing.IO[bytes], folder: str = "/", content: str = ""
    ) -> tuple[dict[str, str], str]:
        undo.close()
        return pack(paths, sink, folder, content)

    with undo, monkeypatch.context() as patch:
        patch.setattr("orchestrator.image.tree.pack", later)
        with pytest.raises(ChangedError) as caught:
            assemble(asked, tmp_path / "image", tmp_path)
    assert caught.value.paths == ("/".join(str(file).split("/")[:4]),)
    folder.chmod(0o555)
    assemble(asked, tmp_path / "image", tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"folder", "image"}, "no copy is left"
