"""Tests what the orchestrator takes over from a hostile builder."""

import dataclasses
import errno
import os
import pathlib
import subprocess
import typing

import hypothesis
import pytest
from hypothesis import strategies as st

from orchestrator.ask.request import Caller
from orchestrator.deliver import stream
from orchestrator.docker import workspace
from orchestrator.docker.engine import Engine
from orchestrator.docker.workspace import (
    ROOTS_OWN,
    TAKEN,
    give,
    give_late,
    make_shared,
    open_to_agents,
    take,
)
from orchestrator.run import runs
from orchestrator.shared.errors import BuildError, UsageError
from orchestrator.shared.run import LATE
from tests.unit.test_spec import JSON

SHA256 = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"  # SHA-256 of `x`

TEXTS = "name system format disk_format compression host toplevel ready_text".split()

ANNOUNCED: dict[str, typing.Any] = {
    **dict.fromkeys(TEXTS, "x"),
    "path": "image/a.img",
    "sbom": "image/a.sbom",
    "sha256": SHA256,
    "unpacked_sha256": SHA256,
    "size": 1,
    "virtual_size": 1,
    "firmware": ["uefi"],
    "extras": ["image/a.img.bmap"],
}

#: Hosts of the run, of which ANNOUNCED has one.
HOSTS = ("w", "x")


@pytest.fixture
def shared(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Make a run's folder, opened to agents, with an image, and a file outside of it."""
    monkeypatch.setattr(workspace, "WORK", tmp_path)
    monkeypatch.setattr(os, "chown", lambda *_args, **_options: None)
    (tmp_path / "secret").write_text("root's")
    folder = make_shared("0badcafe")
    open_to_agents(folder)
    (folder / "image").mkdir()
    (folder / "image/a.img").write_text("x")
    (folder / "image/a.img.bmap").write_text("map")
    (folder / "image/a.sbom").write_text("{}")
    return folder


def test_nobody_else_looks_into_a_run_before_its_agents_start(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[object, ...]] = []
    monkeypatch.setattr(workspace, "WORK", tmp_path)
    monkeypatch.setattr(os, "chown", lambda *arguments: given.append(arguments))
    folder = make_shared("0badcafe")
    assert (tmp_path.stat().st_mode & 0o7777, folder.stat().st_mode & 0o7777) == (0o1777, 0o700)
    assert given == [(tmp_path, 0, 0)]
    assert make_shared("0badcafe") == folder
    open_to_agents(folder)
    assert folder.stat().st_mode & 0o7777 == 0o1777
    # The folder belongs to root from the start, so that no agent can make its own.
    assert (folder / TAKEN).stat().st_mode & 0o7777 == 0o755
    assert (folder / ROOTS_OWN).stat().st_mode & 0o7777 == 0o700


def test_a_file_is_moved_to_where_root_alone_gives_names(shared: pathlib.Path) -> None:
    (shared / "image/a.img").chmod(0o600)
    place = take(shared, "image/a.img", "b.img")
    assert place == shared / TAKEN / "b.img"
    assert (place.read_text(), place.stat().st_mode & 0o777) == ("x", 0o644)
    assert not (shared / "image/a.img").exists()
    (shared / "image/run").touch(0o700)
    assert take(shared, "image/run", "run").stat().st_mode & 0o777 == 0o755


CLIMBS = ["../secret", "image/../../secret", "/etc/hostname", "", ".", "/", "..", "image/.."]


@pytest.mark.parametrize("path", CLIMBS)
def test_no_path_leads_out_of_the_run(path: str, shared: pathlib.Path) -> None:
    with pytest.raises(BuildError, match="is not a path in this run's folder"):
        take(shared, path, "b.img")
    assert (shared.parent / "secret").read_text() == "root's"


def test_no_link_is_followed(shared: pathlib.Path) -> None:
    (shared / "image/b.img").symlink_to(shared.parent / "secret")
    with pytest.raises(BuildError, match="is not a regular file"):
        take(shared, "image/b.img", "b.img")
    (shared / "elsewhere").symlink_to(shared.parent)
    with pytest.raises(BuildError, match="cannot be taken over: Not a directory"):
        take(shared, "elsewhere/secret", "c.img")
    assert (shared.parent / "secret").read_text() == "root's"
    assert (shared.parent / "secret").stat().st_mode & 0o777 == 0o644


def test_what_would_be_waited_for_is_refused(shared: pathlib.Path) -> None:
    os.mkfifo(shared / "image/b.img")
    with pytest.raises(BuildError, match="is not a regular file"):
        take(shared, "image/b.img", "b.img")
    with pytest.raises(BuildError, match="is not a regular file"):
        take(shared, "image", "c.img")
    with pytest.raises(BuildError, match=os.strerror(errno.ENOENT)):
        take(shared, "image/gone", "d.img")


def test_nothing_that_was_taken_is_replaced(shared: pathlib.Path) -> None:
    take(shared, "image/a.img", "b.img")
    with pytest.raises(BuildError, match="two files of this run have that name"):
        take(shared, "image/a.img.bmap", "b.img")
    assert (shared / TAKEN / "b.img").read_text() == "x"


# --- what the builder announces ---------------------------------------------------------------


def test_images_are_taken_over_as_announced(shared: pathlib.Path) -> None:
    image = stream.received_image(ANNOUNCED, shared, hosts=HOSTS)
    assert (image.path, image.extras) == (f"{TAKEN}/a.img", (f"{TAKEN}/a.img.bmap",))
    assert (shared / image.path).read_text() == "x"
    assert image.firmware == ("uefi",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 6}, r"a.img does not have the size that the builder announced"),
        ({"size": -1}, r"image.size: -1 is negative"),
        ({"size": True}, r"image.size: expected int"),
        ({"size": "1"}, r"image.size: expected int"),
        ({"more": 1}, "unknown field more"),
        ({"path": "../secret"}, "is not a path in this run's folder"),
        ({"path": "image/gone.img"}, "cannot be taken over"),
        ({"path": "image/result.json"}, "is not allowed as a delivered file's name"),
        ({"path": "image/.complete"}, "is not allowed as a delivered file's name"),
        ({"path": "image/-rf"}, "is not allowed as a delivered file's name"),
        ({"path": "image/.."}, "is not allowed as a delivered file's name"),
        ({"path": "image/a\u202egmi"}, "is not allowed as a delivered file's name"),
        ({"path": "image/a\nb"}, "has characters that are not allowed in a text"),
        ({"path": "image/\ud800"}, "has characters that are not allowed in a text"),
        ({"path": f"image/{'a' * 300}"}, "is not allowed as a delivered file's name"),
        ({"name": "../a"}, "is not allowed as a delivered file's name"),
        ({"extras": ["image/a.img"]}, "two files of this run"),
        ({"sbom": "../secret"}, "is not a path in this run's folder"),
        ({"sbom": ""}, "is not allowed as a delivered file's name"),
        ({"extras": ["image/ "]}, "is not allowed as a delivered file's name"),
        ({"extras": ["image/a.img.result.json"]}, "is not allowed as a delivered file's name"),
        ({"sbom": "image/a.img.sha256"}, "is not allowed as a delivered file's name"),
        ({"sha256": "end"}, "is not a SHA-256"),
        ({"unpacked_sha256": "end"}, "is not a SHA-256"),
        ({"sha256": SHA256.upper()}, "is not a SHA-256"),
        ({"firmware": "uefi"}, "expected a list"),
        ({"host": "github.com"}, "'github.com' is not a host of this run"),
        ({"host": "@cert-authority *"}, "is not a host of this run"),
        ({"ssh_host_key": "ssh-ed25519 AAAA\tgithub.com"}, "has characters that are not allowed"),
        ({"ssh_host_key": "@cert-authority AAAA x"}, "AAAA x' is not a host key"),
        ({"size": 10**400}, "image.size: .* is too large"),
    ],
)
def test_an_image_that_is_none_is_refused(
    changes: dict[str, object], message: str, shared: pathlib.Path
) -> None:
    with pytest.raises(BuildError, match=message):
        stream.received_image(ANNOUNCED | changes, shared, hosts=HOSTS)


def test_no_image_has_the_name_of_a_file_beside_another(shared: pathlib.Path) -> None:
    """The orchestrator writes these files later, in the place of the image."""
    for suffix in (".sha256", ".provenance.json", ".result.json", ".log", ".report.html"):
        (shared / f"image/a.img{suffix}").write_text("x")
        other = ANNOUNCED | {"path": f"image/a.img{suffix}", "extras": []}
        with pytest.raises(BuildError, match="is not allowed as a delivered file's name"):
            stream.received_image(other, shared, ["a.img"], HOSTS)
        with pytest.raises(BuildError, match="is not allowed as a delivered file's name"):
            stream.received_image(ANNOUNCED, shared, [f"a.img{suffix}"], HOSTS)
    assert list((shared / TAKEN).iterdir()) == []


@pytest.mark.parametrize("announced", [None, [], {}, [ANNOUNCED], "image", 1])
def test_what_is_no_image_is_refused(announced: object, shared: pathlib.Path) -> None:
    with pytest.raises(BuildError, match="the builder"):
        stream.received_image(announced, shared)


@hypothesis.given(changes=st.dictionaries(st.sampled_from(sorted(ANNOUNCED)), JSON, min_size=1))
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_whatever_is_announced_is_taken_or_refused(
    changes: dict[str, object], shared: pathlib.Path
) -> None:
    try:
        image = stream.received_image(ANNOUNCED | changes, shared, hosts=HOSTS)
    except BuildError:
        return
    assert image.path.startswith(f"{TAKEN}/")
    (shared / image.path).rename(shared / "image/a.img")
    (shared / image.sbom).rename(shared / "image/a.sbom")
    for extra in image.extras:
        (shared / extra).rename(shared / "image/a.img.bmap")


# --- late values ------------------------------------------------------------------------------


def test_late_values_are_the_builders_alone_and_all_there_when_it_sees_them(
    shared: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = shared / LATE
    assert (late.stat().st_mode & 0o777, list(late.iterdir())) == (0o700, [])
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "a").write_text("secret")
    (kept / "b").write_text("other")
    given: list[tuple[pathlib.Path, int, int]] = []
    there: list[set[str]] = []

    def chown(path: pathlib.Path, user: int, group: int) -> None:
        given.append((path, user, group))
        there.append({one.name for one in late.iterdir()})

    monkeypatch.setattr(os, "chown", chown)
    monkeypatch.setattr(os, "fchown", lambda *_: None)
    give_late(kept, shared)
    assert given == [(late, workspace.BUILDER_UID, workspace.BUILDER_UID)]
    assert there == [{"a", "b"}]
    assert (late / "a").read_text() == "secret"
    assert (late / "a").stat().st_mode & 0o777 == 0o600


def test_what_is_in_the_way_of_a_secret_is_not_written_to(
    shared: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """A build of a previous attempt may have left a link."""
    (tmp_path / "mine").write_text("secret")
    (shared / "nix.conf").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError):
        give(tmp_path / "mine", shared / "nix.conf")
    assert not (tmp_path / "victim").exists()


# --- Compose's variables ----------------------------------------------------------------------


def test_variables_are_what_they_are(tmp_path: pathlib.Path, who: Caller) -> None:
    who = dataclasses.replace(who, image="sha256:1")
    runs.write_variables(tmp_path / "env", who, {"NIXOS_IMAGE_SOCKET": '/a b/#$HOME"/docker.sock'})
    Engine("0badcafe", tmp_path / "env").use("builder", "sha256:2")
    assert (tmp_path / "env").read_text().splitlines() == [
        "NIXOS_IMAGE_RUN='0badcafe'",
        "NIXOS_IMAGE_LOG='json'",
        "NIXOS_IMAGE_ID_ORCHESTRATOR='sha256:1'",
        "NIXOS_IMAGE_SOCKET='/a b/#$HOME\"/docker.sock'",
        "NIXOS_IMAGE_ID_BUILDER='sha256:2'",
    ]


@hypothesis.given(value=st.text())
@hypothesis.example(value="a\nNIXOS_IMAGE_GUEST=evil")
@hypothesis.example(value="'; evil")
@hypothesis.example(value="\\")
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_no_value_becomes_another_variable(value: str, tmp_path: pathlib.Path, who: Caller) -> None:
    try:
        runs.write_variables(tmp_path / "env", who, {"NIXOS_IMAGE_SOCKET": value})
    except UsageError:
        return
    *_, last = (tmp_path / "env").read_text().splitlines()
    assert last == f"NIXOS_IMAGE_SOCKET='{value}'"
    assert not {"'", "\\", "\n"}.intersection(value)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_a_task_is_not_for_agents_to_change(shared: pathlib.Path) -> None:
    """The folder is sticky: only root can move what root has made in it."""
    (shared / "task.json").write_text("{}")

    def agent(*command: str) -> bool:
        done = subprocess.run(command, cwd=shared, user=1000, group=1000, check=False)
        return done.returncode == 0

    assert agent("mkdir", "own")
    assert not agent("mv", "task.json", "own/task.json")
    assert not agent("mv", TAKEN, "own/taken")
    assert not agent("ln", "-s", "/etc/hostname", f"{TAKEN}/result.json")
