"""Tests the archive of a configuration's sources in a kit, and the commands in it."""

import dataclasses
import pathlib
import tarfile

import pytest

from orchestrator.ask import uploads
from orchestrator.ask.request import Build, Caller
from orchestrator.deliver import sources
from orchestrator.deliver.sources import COMMANDS, write
from orchestrator.verbs import registry
from tests.unit.requests import CALLER


def build(*words: str, who: Caller = CALLER) -> Build:
    found = registry.verb("build").ask(list(words), who)
    assert isinstance(found, Build)
    return found


@pytest.fixture
def send(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> pathlib.Path:
    """Return the folder of what run.sh has sent: two folders of the caller's."""
    sent = tmp_path / "input"
    for name in ("home/me/pi/hosts/x.nix", "home/me/pi/common.nix", "home/nixpkgs/lib/a.nix"):
        (sent / name).parent.mkdir(parents=True, exist_ok=True)
        (sent / name).write_text(name)
    (sent / "home/me/pi/link").symlink_to("common.nix")
    monkeypatch.setattr(uploads, "input_folder", lambda _who: sent)
    monkeypatch.setattr(sources, "input_folder", lambda _who: sent)
    monkeypatch.setattr(sources, "trees", lambda _who: (sent / "home/me/pi", sent / "home/nixpkgs"))
    return sent


def packed(request: Build, folder: pathlib.Path) -> tuple[list[str], list[str]]:
    """Return the names of the members, and the commands."""
    place = folder / "sources.tar"
    found = write(request, CALLER, place, folder / "scratch")
    with tarfile.open(place) as archive:
        assert {(one.uid, one.gid) for one in archive} == {(0, 0)}
        commands = archive.extractfile(COMMANDS)
        assert commands
        assert commands.read().decode().splitlines() == found
        return sorted(one.name for one in archive if not one.isdir()), found


def test_folders_lie_to_each_other_as_at_the_callers(
    send: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    words = ["-c", "/home/me/pi/hosts/x.nix", "--nixpkgs", "/home/nixpkgs", "-f", "qcow-efi"]
    names, commands = packed(build(*words, "--option", "a", "b c"), tmp_path)
    pi = ["common.nix", "hosts/x.nix", "link"]
    assert names == [COMMANDS, *(f"me/pi/{one}" for one in pi), "nixpkgs/lib/a.nix"]
    again = "./run.sh -c me/pi/hosts/x.nix -f qcow-efi --nixpkgs nixpkgs --option a 'b c'"
    assert commands == ["git init --quiet me/pi", again]


def test_a_folder_in_another_one_is_packed_once(
    send: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = (send / "home/me/pi/hosts", send / "home/me/pi")
    monkeypatch.setattr(sources, "trees", lambda _who: both)
    names, _commands = packed(build("-c", "/home/me/pi/common.nix", "-f", "raw"), tmp_path)
    assert len(names) == len({*names}) == 4


def test_no_repository_is_made_where_the_folder_is_sent_whole(
    send: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    _names, commands = packed(build("-c", "/home/me/pi/common.nix", "-f", "raw"), tmp_path)
    assert commands == ["./run.sh -c me/pi/common.nix -f raw"]


def test_a_flake_keeps_its_name_and_inputs(send: pathlib.Path, tmp_path: pathlib.Path) -> None:
    words = ["--flake", "/home/me/pi#pi", "--override-input", "nixpkgs", "/home/nixpkgs"]
    _names, commands = packed(build(*words, "-f", "raw", "--system", "x86_64-linux"), tmp_path)
    again = "./run.sh --flake './me/pi#pi' -f raw --system x86_64-linux"
    assert commands == [f"{again} --override-input nixpkgs ./nixpkgs"]


def test_an_appliance_toml_that_was_not_sent_goes_with_its_folders(
    send: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    text = 'modules = ["pi/common.nix"]\n[image.pi]\nformats = ["qcow-efi"]\n'
    who = dataclasses.replace(CALLER, appliance="/home/me/pi.toml", appliance_text=text)
    request = build("--appliance", "/home/me/pi.toml", "--allow-no-login", who=who)
    names, commands = packed(request, tmp_path)
    assert "me/pi.toml" in names
    assert commands == [
        "./run.sh --appliance me/pi.toml --image pi -f qcow-efi --allow-no-login",
    ]


def test_late_values_are_not_in_it(send: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """What a build takes out of the sent folders before its agents start, a kit does not have."""
    secret = send / "home/me/pi/wifi"
    secret.write_text("secret")
    path = pathlib.PurePosixPath("/home/me/pi/wifi")
    uploads.keep_late(CALLER, path, tmp_path / "late")
    names, _commands = packed(build("-c", "/home/me/pi/common.nix", "-f", "raw"), tmp_path)
    assert "me/pi/wifi" not in names
    assert b"secret" not in (tmp_path / "sources.tar").read_bytes()
