"""Tests the verb kit, the writer of kits, and what the agent takes from the store in a kit."""

import dataclasses
import hashlib
import io
import os
import pathlib
import re
import shlex
import tarfile
import types
import unittest.mock
from collections.abc import Callable

import pytest

from orchestrator.agents.builder import collect, kit
from orchestrator.agents.failure import AgentError
from orchestrator.ask.request import Build
from orchestrator.deliver.kit import LARGEST, KitImage, KitWriter, image_line
from orchestrator.docker.images import IMAGES
from orchestrator.run.kit import OWN, restore
from orchestrator.shared import command
from orchestrator.shared.errors import DeliveryError, UsageError, VerificationError
from orchestrator.shared.kit import STORE, KitOrder
from orchestrator.shared.paths import ROOT
from orchestrator.verbs.kit import VERB, unpacking
from tests.unit import orders
from tests.unit.requests import CALLER

CONFIG, LAYER, OTHER = b"config", b"layer", b"other"
HASH = "0123456789abcdfghijklmnpqrsvwxyz"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


IMAGE = KitImage("nixos-image-builder", digest(CONFIG), (digest(LAYER),))


def saved(*members: tuple[str, bytes]) -> list[bytes]:
    """Return what `docker save` may say, in pieces of one byte."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return [bytes([one]) for one in buffer.getvalue()]


def written(members: list[bytes], images: list[KitImage]) -> bytes:
    file = io.BytesIO()
    writer = KitWriter(file)
    writer.add_images(images, members)
    writer.add("store.tar", io.BytesIO(b"store"))
    writer.finish(map(image_line, images), lambda data: b"signed " + digest(data).encode())
    return file.getvalue()


@pytest.mark.parametrize(
    "members",
    [
        (("blobs/sha256/a", CONFIG), ("blobs/sha256/b", LAYER), ("index.json", OTHER)),
        ((f"{digest(CONFIG)}.json", CONFIG), ("abc/VERSION", b"1.0"), ("abc/layer.tar", LAYER)),
        (("a", LAYER), ("b", LAYER), ("c", CONFIG)),
    ],
    ids=["from Docker 25", "before", "a layer twice"],
)
def test_an_image_is_found_in_what_docker_saves_by_its_content(
    members: tuple[tuple[str, bytes], ...],
) -> None:
    with tarfile.open(fileobj=io.BytesIO(written(saved(*members), [IMAGE]))) as archive:
        found = {one.name: archive.extractfile(one) for one in archive}
        data = {name: file.read() for name, file in found.items() if file}
    assert data[f"{IMAGE.config}.json"] == CONFIG
    assert data[f"{IMAGE.layers[0]}.tar"] == LAYER
    assert data.keys() == {
        *IMAGE.parts.values(),
        *("store.tar", "manifest", "manifest.sig"),
    }
    lines = data["manifest"].decode().splitlines()
    assert lines[0] == "nixos-image-kit 1"
    assert lines[-1] == "end"
    assert f"image nixos-image-builder {IMAGE.config} {IMAGE.layers[0]}" in lines
    assert f"file {digest(b'store')} 5 store.tar" in lines
    assert data["manifest.sig"] == b"signed " + digest(data["manifest"]).encode()


def test_a_kit_says_neither_when_nor_by_whom_it_was_made() -> None:
    data = written(saved(("a", CONFIG), ("b", LAYER)), [IMAGE])
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert {(one.mtime, one.uid, one.gid, one.uname) for one in archive} == {(0, 0, 0, "")}


def test_an_image_that_docker_does_not_save_whole_makes_no_kit() -> None:
    with pytest.raises(DeliveryError, match="not saved the whole image nixos-image-builder"):
        written(saved(("a", CONFIG), ("b", OTHER)), [IMAGE])


def test_a_part_that_tars_oldest_format_cannot_have_makes_no_kit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert LARGEST == (8 << 30) - 1
    monkeypatch.setattr("orchestrator.deliver.kit.LARGEST", 4)
    with pytest.raises(DeliveryError, match=r"store.tar has 0 GiB"):
        KitWriter(io.BytesIO()).add("store.tar", io.BytesIO(b"store"))


def test_run_sh_knows_the_names_of_the_images() -> None:
    """Kits and registries: run.sh gives no other name to what they bring."""
    made = (*IMAGES.items(),)
    names = {one.name.format(qemu="latest", guest="?*") for key, one in made if key != "worker"}
    text = (ROOT / "caller/manifest.sh").read_text()
    known = set(re.findall(r"nixos-image-[a-z?*:-]+(?= \||\) ;;)", text))
    assert known == {*OWN, *names}
    (published,) = re.findall(
        r"^published='(.*)'$", (ROOT / "caller/registry.sh").read_text(), re.MULTILINE
    )
    assert set(published.split()) == {*OWN, *(names - {"nixos-image-test", "nixos-image-boot-?*"})}


# --- the command line -----------------------------------------------------------------------------


def test_words_of_with_are_systems_results_or_the_tests() -> None:
    words = ["--with", "riscv64-linux", "--with", "pi", "--with", "tests"]
    asked = VERB.ask(["export", "a.kit", *words], CALLER)
    assert (asked.systems, asked.results, asked.tests) == (("riscv64-linux",), ("pi",), True)


def asked(*words: str) -> Build:
    found = VERB.ask(["export", "a.kit", *words], CALLER).build
    assert found
    return found


def test_a_configuration_is_built_as_build_would() -> None:
    found = asked("--with", "pi/x.nix", "-f", "qcow-efi", "--nixpkgs", "/n", "--option", "a", "b")
    assert found.configuration == CALLER.cwd / "pi/x.nix"
    assert (found.formats, found.nixpkgs) == (("qcow-efi",), pathlib.PurePosixPath("/n"))
    assert found.nix_options.options == (("a", "b"),)
    assert (found.asks, found.boot, found.push) == (False, False, None)
    flake = asked("--with", "/etc/nixos?dir=a#pi", "--override-input", "x", "/x")
    assert (flake.flake, flake.attribute) == (pathlib.PurePosixPath("/etc/nixos"), "pi")
    assert flake.flake_folder == "a"
    for host in ("nix", "toml"):
        assert asked("--with", f".#nixosConfigurations.{host}").flake == CALLER.cwd


@pytest.mark.parametrize(
    "words",
    [
        ["--with", "github:me/pi"],
        ["--with", "a.nix", "--nixpkgs", "channel:nixos-unstable"],
        ["--with", "a.nix", "-I", "x=https://example.org/x.tar.gz"],
        ["--with", ".#pi", "--override-input", "nixpkgs", "github:NixOS/nixpkgs"],
    ],
)
def test_sources_that_nix_fetches_are_in_no_kit(words: list[str]) -> None:
    with pytest.raises(UsageError, match="a kit has files and folders only"):
        asked(*words)


def test_options_of_a_build_need_a_configuration_and_there_is_one() -> None:
    with pytest.raises(UsageError, match="--nixpkgs: only for a configuration"):
        VERB.ask(["export", "a.kit", "--nixpkgs", "/n"], CALLER)
    with pytest.raises(UsageError, match="a kit has one configuration"):
        asked("--with", "a.nix", "--with", ".#pi")


def test_run_sh_is_told_to_send_the_configuration() -> None:
    words = ["--with", "x.nix", "--nixpkgs", "/n", "--nix-conf", "/tokens"]
    found = VERB.orders(VERB.ask(["export", "a.kit", *words], CALLER))
    assert found[1:] == [
        ["send_tree", "--with", f"{CALLER.cwd}/x.nix"],
        ["send_tree", "--nixpkgs", "/n"],
        ["send", "--nix-conf", "/tokens"],
    ]
    flake = VERB.ask(["export", "a.kit", "--with", "/f?submodules=1#a"], CALLER)
    assert VERB.orders(flake)[1:] == [["send_modules", "--with", "/f"]]


def test_the_keys_of_an_appliances_builders_are_sent_for_its_kit() -> None:
    text = 'builders = ["ssh-ng://me@192.0.2.7 x86_64-linux ../key"]\n[image.pi]\nboard = "pc"\n'
    who = dataclasses.replace(CALLER, appliance="/home/me/pi/a.toml", appliance_text=text)
    argv = ["kit", "export", "a.kit", "--with", "/home/me/pi/a.toml", "--allow-no-login"]
    sent = ["send", "--builders", "/home/me/key"]
    assert sent in (wanted := orders.words(orders.asked(argv, who)))
    assert orders.obeyed(orders.asked(argv, who), argv, who) == wanted


def test_the_command_that_unpacks_sources_may_be_copied() -> None:
    assert unpacking("pi.kit") == "tar -xOf pi.kit sources.tar | tar -xf -"
    assert shlex.split(unpacking("pi's $1.kit"))[2] == "pi's $1.kit"


@pytest.mark.parametrize(
    "words",
    [
        ["import", "a", "--with", "pi"],
        ["import", "a", "--sign-key", "key"],
        ["import", "a", "--force"],
        ["import", "a", "--with", "pi.nix"],
        ["import", "a", "-f", "qcow-efi"],
        ["export", "a", "--public-key", "key"],
        ["export", ".a"],
        ["export", "a\nb"],
        ["export"],
        ["copy", "a"],
    ],
)
def test_what_an_action_does_not_know_is_refused(words: list[str]) -> None:
    with pytest.raises(UsageError):
        VERB.ask(words, CALLER)


def test_an_option_of_the_other_action_is_told_by_its_name() -> None:
    with pytest.raises(UsageError, match=r"^--format is for kit export"):
        VERB.ask(["import", "a", "-f", "qcow-efi"], CALLER)
    with pytest.raises(UsageError, match=r"^--public-key is for kit import"):
        VERB.ask(["export", "a", "--with", "pi.nix", "--public-key", "key"], CALLER)


def test_run_sh_is_told_the_kits_own_path() -> None:
    asked = VERB.ask(["export", "x/a.kit", "--force", "--sign-key", "key"], CALLER)
    folder = CALLER.cwd
    assert VERB.orders(asked) == [
        ["force"],
        ["out_file", "kit", f"{folder}/x/a.kit"],
        ["send", "--sign-key", f"{folder}/key"],
    ]
    assert VERB.orders(VERB.ask(["import", "a"], CALLER)) == [["kit"]]


# --- the store's paths in a kit -------------------------------------------------------------------


def archive(*members: tarfile.TarInfo) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for member in members:
            made.addfile(member, io.BytesIO(bytes(member.size)))
    buffer.seek(0)
    return buffer


def plain(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = 3
    return member


def linked(name: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member


def test_files_of_a_cache_are_taken(tmp_path: pathlib.Path) -> None:
    names = ["nix-cache-info", f"{HASH}.narinfo", f"nar/{HASH}{HASH[:20]}.nar.zst", "roots"]
    kit.extract(archive(*map(plain, names)), tmp_path)
    assert all((tmp_path / name).read_bytes() == bytes(3) for name in names)


@pytest.mark.parametrize(
    "member",
    [
        *map(plain, ["../evil", "/evil", "evil", f"nar/../{HASH}.narinfo", "nar/evil"]),
        plain(f"{HASH}.narinfo\n"),
        linked("nix-cache-info", tarfile.SYMTYPE),
        linked("nix-cache-info", tarfile.LNKTYPE),
        linked("nix-cache-info", tarfile.CHRTYPE),
        linked("nix-cache-info", tarfile.FIFOTYPE),
        linked("nar", tarfile.DIRTYPE),
    ],
    ids=lambda one: f"{one.name!r} {one.type!r}",
)
def test_anything_else_is_refused(member: tarfile.TarInfo, tmp_path: pathlib.Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    with pytest.raises(AgentError) as error:
        kit.extract(archive(member), place)
    assert error.value.kind == "verification"
    assert [one.name for one in place.rglob("*")] == ["nar"]
    assert [one.name for one in tmp_path.iterdir()] == ["place"]


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:700], lambda _data: b"no tar" * 200],
    ids=["cut off", "no tar"],
)
def test_a_damaged_store_is_refused(
    damage: Callable[[bytes], bytes], tmp_path: pathlib.Path
) -> None:
    data = archive(plain("nix-cache-info"), plain(f"{HASH}.narinfo")).getvalue()
    with pytest.raises(AgentError, match="damaged"):
        kit.extract(io.BytesIO(damage(data)), tmp_path)


def test_two_members_of_one_name_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(AgentError, match="damaged"):
        kit.extract(archive(plain("roots"), plain("roots")), tmp_path)


@pytest.mark.parametrize("sent", [b"other", b"stor", b""], ids=["changed", "cut off", "nothing"])
def test_a_kit_that_changes_on_its_way_is_refused(
    sent: bytes, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("Images", "open_to_agents"):
        monkeypatch.setattr(f"orchestrator.run.kit.{name}", unittest.mock.MagicMock())
    workspace = types.SimpleNamespace(shared=tmp_path, logs=tmp_path)
    work = unittest.mock.MagicMock(workspace=workspace)
    head = f"{digest(b'store')} 5 nixos-image:AAAA\n".encode()
    with pytest.raises(VerificationError, match="has changed while it was read"):
        restore(work, io.BytesIO(head + sent))
    work.order.assert_not_called()


def test_only_store_paths_are_kept(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = tmp_path / "roots"
    roots.mkdir()
    (roots / "old").symlink_to("/nix/store/old")
    monkeypatch.setattr(collect, "KIT_ROOTS", roots)
    listed = tmp_path / "listed"
    listed.write_bytes(b"/etc/passwd\n/nix/store/../../etc\n/nix/store\n\xff\n")
    kit.keep(listed)
    assert list(roots.iterdir()) == []


def test_a_full_disk_is_no_fault_of_the_kit(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(tmp_path / STORE, "w"):
        pass
    monkeypatch.setattr(collect, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(os, "environ", dict(os.environ))
    said = b"error: writing to file: No space left on device\n"
    monkeypatch.setattr(command, "run", lambda words, **_: command.Done("nix", 1, b"", said, 0))
    with pytest.raises(AgentError) as caught:
        kit.unpack(KitOrder("unpack", key="nixos-image:AAAA"), tmp_path)
    assert (caught.value.kind, caught.value.code) == ("disk", "disk-full")
