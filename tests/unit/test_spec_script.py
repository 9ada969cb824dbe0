"""Tests nix/spec.sh: the files of an SD card's firmware partition in the image spec."""

import json
import pathlib
import subprocess

import pytest

from orchestrator.image.filesystems.fat import fat_tree

SCRIPT = pathlib.Path(__file__).parents[2] / "nix/spec.sh"
SPEC = '{"firmware":{"files":{},"label":"FIRMWARE"},"name":"pi"}'


def listed(folder: pathlib.Path | str, tmp_path: pathlib.Path) -> dict[str, str]:
    out = tmp_path / "out"
    variables = {"spec": SPEC, "firmware": str(folder), "out": str(out)}
    subprocess.run(["/bin/sh", "-e", SCRIPT], env=variables, check=True)
    document = json.loads(out.read_text())
    assert document["name"] == "pi"
    assert document["firmware"]["label"] == "FIRMWARE"
    files: dict[str, str] = document["firmware"]["files"]
    return files


def test_without_firmware_the_spec_stays(tmp_path: pathlib.Path) -> None:
    assert listed("", tmp_path) == {}


@pytest.mark.parametrize(
    ("files", "folders"),
    [
        ([], []),
        (["config.txt"], ["overlays"]),
        (["config.txt", ".hidden", ".a/b", "x/.c", "x/y/z"], [".empty", "x/e/f"]),
        (["a b.txt", "..data", "...", "[x]", "*", "-n", "x$y"], ["a b/ c"]),
        ([f"file{number}" for number in range(600)], []),
    ],
)
def test_hidden_files_and_empty_folders_are_taken(
    files: list[str], folders: list[str], tmp_path: pathlib.Path
) -> None:
    firmware = tmp_path / "firmware"
    firmware.mkdir()
    for name in folders:
        (firmware / name).mkdir(parents=True)
    for name in files:
        (firmware / name).parent.mkdir(parents=True, exist_ok=True)
        (firmware / name).write_text(name)
    found = listed(firmware, tmp_path)
    assert found == {name: f"{firmware}/{name}" for name in (*files, *(f"{n}/" for n in folders))}


def test_links_are_followed_and_dangling_ones_left_out(tmp_path: pathlib.Path) -> None:
    firmware, other = tmp_path / "firmware", tmp_path / "other"
    other.mkdir()
    firmware.mkdir()
    (other / "a").write_text("a")
    (firmware / "folder").symlink_to(other)
    (firmware / "file").symlink_to(other / "a")
    (firmware / "lost").symlink_to("nowhere")
    assert sorted(listed(firmware, tmp_path)) == ["file", "folder/a"]


def test_an_empty_folder_is_made_on_the_partition(tmp_path: pathlib.Path) -> None:
    source = tmp_path / "a"
    source.write_text("a")
    tree = fat_tree({"overlays/": tmp_path, "x/a": source}, tmp_path / "tree")
    assert (tree / "overlays").is_dir()
    assert (tree / "x/a").read_text() == "a"
