"""Tests copies of sent folders: only changes are sent, and no run gets what another one has."""

import dataclasses
import fcntl
import hashlib
import os
import pathlib
import subprocess
import time
import typing

import pytest

from orchestrator.ask import uploads
from orchestrator.ask.uploads import MOUNTED, Mounted
from orchestrator.docker.stored import Stored
from orchestrator.run import kept_trees, tree_records
from orchestrator.run.runs import remove_shared
from orchestrator.run.tree_facts import UnkeptError
from orchestrator.shared.errors import DeliveryError, UsageError
from orchestrator.shared.paths import ROOT
from tests.unit.requests import CALLER

KEY, OTHER = "0" * 32, "1" * 32


class Volumes:
    """Stands in for the engine: when each volume was made."""

    def __init__(self) -> None:
        self.made: dict[str, str] = {}

    def volume_made(self, name: str) -> str:
        return self.made.get(name, "")

    def volume_names(self) -> list[str]:
        return [*self.made, "nixos-image-store", "nixos-image-tree-other"]

    def remove_volume(self, name: str) -> None:
        self.made.pop(name, None)


@dataclasses.dataclass
class Host:
    """A caller's folder, run.sh's lists of it, and the engine's copy."""

    tree: pathlib.Path
    copy: pathlib.Path
    records: pathlib.Path
    volumes: Volumes
    mount: str = "one"

    @property
    def engine(self) -> Stored:
        return typing.cast("Stored", self.volumes)

    def facts(self, *, late: float = 60.0) -> str:
        """Return what run.sh finds, `late` seconds after now."""
        names = [self.tree, *sorted(self.tree.rglob("*"))]
        lines = []
        for path in names:
            found = path.lstat()
            lines.append(
                f"{found.st_ino} {found.st_size} {found.st_mtime_ns / 1e9:.9f}"
                f" {found.st_ctime_ns / 1e9:.9f} {found.st_mode:x} .{path}"
            )
        return "\n".join([str(int(time.time() + late)), self.mount, str(self.tree), *lines]) + "\n"

    def compare(self, facts: str = "", key: str = KEY) -> list[str]:
        said = kept_trees.compare(key, facts or self.facts(), self.engine, self.records)
        return said.split("\n")[:-1]

    def update(self, answer: list[str], facts: str = "", key: str = KEY, listed: str = "") -> str:
        """Send the files of `facts` whose numbers `answer` has; `listed` is what was compared."""
        facts = facts or (self.records / f"{key}.new").read_bytes().decode()
        lines = facts.split("\n")[3:-1]
        names = [lines[int(number) - 1].split(" ", 5)[5] for number in answer[1:]]
        self.volumes.made[f"nixos-image-tree-{key}"] = "today"
        with (self.records / "tar").open("wb") as file:
            words = ["tar", "-cf", "-", "-C", "/", *names]
            subprocess.run(words, stdout=file, check=True)
        with (self.records / "tar").open("rb") as file:
            digest = hashlib.sha256((listed or facts).encode()).hexdigest()
            return kept_trees.update(
                key, digest, self.engine, file.fileno(), self.copy, self.records
            )

    def send(self, facts: str = "") -> int:
        """Send what has changed; return the number of files."""
        answer = self.compare(facts)
        if answer[0].startswith("same "):
            return 0
        self.update(answer, facts)
        return len(answer) - 1

    def content(self, top: pathlib.Path) -> dict[str, str]:
        return {
            str(path.relative_to(top)): str(path.readlink())
            if path.is_symlink()
            else path.read_text()
            if path.is_file()
            else "/"
            for path in top.rglob("*")
        }


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(kept_trees, "BUILDER_UID", os.getuid())
    found = Host(tmp_path / "a tree", tmp_path / "copy", tmp_path / "records", Volumes())
    for folder in (found.tree, found.copy, found.records):
        folder.mkdir()
    (found.tree / "empty").mkdir()
    (found.tree / "lib").mkdir()
    for name in ("a", "b", "lib/c"):
        (found.tree / name).write_text(name)
    (found.tree / "lib/link").symlink_to("../a")
    return found


def test_folders_have_no_times_of_their_own(host: Host) -> None:
    """Nix tells a flake the newest time: a folder's changes with what is not sent."""
    (host.tree / "a").chmod(0o644)
    os.utime(host.tree / "a", (1e9, 1e9))
    host.send()
    folders = [host.copy, *(path for path in host.copy.rglob("*") if path.is_dir())]
    assert len(folders) > 2
    assert {path.stat().st_mtime for path in folders} == {1}
    assert (host.copy / "a").stat().st_mtime == 1e9


def test_what_has_not_changed_is_not_sent_again(host: Host) -> None:
    assert host.compare()[0] == "new"
    assert host.send() == 4
    assert host.content(host.copy) == host.content(host.tree)
    generation = host.compare()[0]
    assert generation.startswith("same ")
    assert host.send() == 0
    (host.tree / "lib/c").write_text("d")  # of the same size
    assert host.send() == 1
    assert host.content(host.copy) == host.content(host.tree)
    assert host.compare()[0] not in {generation, "changed"}


def test_a_list_that_is_the_last_one_is_not_read_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.send()
    (host.tree / "lib/x").write_text("x")
    (host.tree / "lib/x").unlink()
    assert host.compare()[0].startswith("same ")  # a folder's times alone are new
    with monkeypatch.context() as patch:
        patch.setattr(kept_trees, "read_facts", pytest.fail)
        assert host.compare(host.facts(late=61))[0].startswith("same ")
    # A clock that went back may have given a change the time of an earlier one.
    assert host.compare(host.facts(late=0))[0] == "changed"


def test_a_folder_that_lies_about_its_times_is_seen(host: Host) -> None:
    host.send()
    before = (host.tree / "a").stat()
    with (host.tree / "a").open("r+") as file:  # the same inode and size
        file.write("x")
    os.utime(host.tree / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert host.send() == 1
    assert (host.copy / "a").read_text() == "x"


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85", "\r", "\x0b", "\x0c", "\x1c"])
def test_a_name_makes_no_line_of_its_own(host: Host, end: str) -> None:
    """A folder's name that has another file's facts does not vouch for that file."""
    later = host.tree.parent / "later"
    later.mkdir()
    (later / "b").write_text("harmless")
    found = (later / "b").lstat()
    (host.tree / "d").mkdir()
    (host.tree / "d" / "b").write_text("evil")
    forged = (
        f"{found.st_ino} {found.st_size} {found.st_mtime_ns / 1e9:.9f}"
        f" {found.st_ctime_ns / 1e9:.9f} {found.st_mode:x} ."
    )
    place = host.tree / f"x{end}{forged}" / str(host.tree / "d").lstrip("/")
    place.mkdir(parents=True)
    (place / "b").write_text("any")
    host.send()
    (host.tree / "d").rename(host.tree.parent / "old")
    later.rename(host.tree / "d")  # changes no time of the file in it
    assert host.send() == 1
    assert (host.copy / "d" / "b").read_text() == "harmless"
    assert host.compare()[0].startswith("same ")


def test_a_disk_that_was_away_is_compared_anew(host: Host) -> None:
    """Another computer may have written to it, and set all times."""
    sent = host.send()
    host.mount = "two"
    assert host.send() == sent
    assert host.compare()[0].startswith("same ")


def test_what_was_not_listed_does_not_stay(host: Host) -> None:
    """A list that was cut on its way may name a folder that nobody wanted to send."""
    answer = host.compare()
    (host.tree / "other").write_text("private")
    facts = (host.records / f"{KEY}.new").read_bytes().decode()
    number = len(facts.split("\n")) - 3
    more = f"{facts}1 7 1.0 1.0 81a4 .{host.tree}/other\n"
    host.update([*answer, str(number)], more, listed=facts)
    assert not (host.copy / "other").exists()


def test_a_file_that_has_just_changed_is_sent_again(host: Host) -> None:
    """Its times may be those of another content a moment later."""
    facts = host.facts(late=0)
    host.update(host.compare(facts), facts)
    assert host.compare(facts)[0] == "changed"
    assert len(host.compare()) == 5


def test_one_that_has_just_changed_cannot_say_that_it_is_old(host: Host) -> None:
    """Its content's time is set back: what counts is the kernel's time of change."""
    for path in host.tree.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    facts = host.facts(late=0)
    host.update(host.compare(facts), facts)
    assert host.compare(facts)[0] == "changed"


def test_another_callers_folder_is_another_copy(host: Host) -> None:
    """The same times, sizes and inodes of another computer, user or path find nothing."""
    host.send()
    assert host.compare(key=OTHER)[0] == "new"


def test_what_is_gone_goes_and_a_kind_may_change(host: Host) -> None:
    host.send()
    (host.tree / "lib/c").unlink()
    (host.tree / "lib/link").unlink()
    (host.tree / "lib").rmdir()
    (host.tree / "lib").write_text("now a file")
    (host.tree / "b").unlink()
    (host.tree / "b").mkdir()
    (host.tree / "b/new").write_text("new")
    host.send()
    assert host.content(host.copy) == host.content(host.tree)


def test_a_volume_that_was_made_anew_is_filled_anew(host: Host) -> None:
    host.send()
    host.volumes.made[f"nixos-image-tree-{KEY}"] = "tomorrow"
    assert host.compare()[0] == "new"
    assert len(host.compare()) == 5


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside"])
def test_a_link_that_leads_out_is_not_kept(host: Host, target: str) -> None:
    (host.tree / "lib/out").symlink_to(target)
    with pytest.raises(UnkeptError, match="leads out"):
        host.send()
    assert tree_records.read_record(KEY, host.engine, host.records) is None


def test_a_link_that_leads_out_since_another_has_changed_is_not_kept(host: Host) -> None:
    (host.tree / "deep/in/it").mkdir(parents=True)
    (host.tree / "lib/short").symlink_to("../deep/in/it")
    (host.tree / "lib/far").symlink_to("short/../../../lib")
    host.send()
    (host.tree / "lib/short").unlink()
    (host.tree / "lib/short").mkdir()
    (host.tree / "b").write_text("new")
    with pytest.raises(UnkeptError, match="lib/far leads out"):
        host.send()
    assert tree_records.read_record(KEY, host.engine, host.records) is None


def test_what_another_run_has_had_compared_meanwhile_is_not_recorded(host: Host) -> None:
    """Its list has the times of a content that this run has not sent."""
    facts = host.facts()
    answer = host.compare(facts)
    (host.tree / "a").write_text("x")
    host.compare()
    with pytest.raises(UnkeptError, match="another run"):
        host.update(answer, facts)
    assert host.compare()[0] == "new"


def test_a_pipe_and_a_name_that_climbs_are_not_kept(host: Host) -> None:
    facts = host.facts()
    with pytest.raises(UnkeptError):
        host.compare(f"{facts}1 1 1 1 81a4 .{host.tree}/../../etc/shadow\n")
    with pytest.raises(UnkeptError):
        host.compare(f"{facts}1 1 1 1 81a4 ./etc/shadow\n")
    os.mkfifo(host.tree / "pipe")
    with pytest.raises(UnkeptError):
        host.compare()


def test_what_changes_on_the_way_is_sent_again(host: Host) -> None:
    facts = host.facts()
    answer = host.compare(facts)
    (host.tree / "a").write_text("longer than it was")
    host.update(answer, facts)
    assert host.compare(facts)[0] == "changed"


def test_an_update_that_fails_leaves_no_copy_that_counts(host: Host) -> None:
    host.send()
    (host.tree / "a").write_text("new")
    facts = host.facts()
    host.compare(facts)
    digest = hashlib.sha256(facts.encode()).hexdigest()
    with (host.records / "tar").open("wb") as file:
        file.write(b"no archive" * 200)
    with (host.records / "tar").open("rb") as file, pytest.raises(UnkeptError):
        kept_trees.update(KEY, digest, host.engine, file.fileno(), host.copy, host.records)
    assert host.compare()[0] == "new"
    assert host.send() == 4


def test_a_copy_that_a_run_uses_does_not_change(
    host: Host, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.send()
    generation = host.compare()[0].partition(" ")[2]
    sent = tmp_path / "input"
    sent.mkdir()
    monkeypatch.setattr(uploads, "input_folder", lambda _who: sent)
    monkeypatch.setattr(uploads, "list_folder", lambda _who: sent)
    monkeypatch.setattr(kept_trees, "mount_points", lambda: {sent / str(host.tree)[1:]})
    (sent / MOUNTED).write_bytes(f"{host.tree}\0{KEY}\0{generation}\0".encode())
    assert uploads.mounted(CALLER) == (Mounted(pathlib.PurePosixPath(host.tree), KEY, generation),)
    kept_trees.hold(CALLER, host.engine, host.records)
    assert host.send() == 0  # as it is, another run may use it, too
    (host.tree / "a").write_text("new")
    with pytest.raises(UnkeptError, match="another run"):
        host.compare()
    facts = host.facts()
    (host.records / f"{KEY}.new").write_text(facts)  # a run may have begun since the comparison
    with pytest.raises(UnkeptError, match="another run"):
        host.update(["changed", "2"], facts)
    assert tree_records.forget(host.engine, -1, host.records) == []


def test_a_copy_that_has_changed_since_it_was_compared_ends_the_run(
    host: Host, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.send()
    monkeypatch.setattr(uploads, "list_folder", lambda _who: tmp_path)
    (tmp_path / MOUNTED).write_bytes(f"{host.tree}\0{KEY}\0{'f' * 32}\0".encode())
    with pytest.raises(DeliveryError, match="another run has changed the copy"):
        kept_trees.hold(CALLER, host.engine, host.records)


def test_copies_that_nobody_uses_go(host: Host) -> None:
    host.send()
    assert tree_records.forget(host.engine, 60, host.records) == []
    (gone,) = tree_records.forget(host.engine, -1, host.records)
    assert (gone.path, gone.files) == (str(host.tree), 3)
    assert host.volumes.made == {}
    assert not list(host.records.glob(f"{KEY}.json"))


def test_what_a_folder_leaves_that_is_kept_no_more_goes(host: Host) -> None:
    """An update that fails leaves a volume without a record."""
    host.send()
    (host.tree / "lib/out").symlink_to("/etc/passwd")
    with pytest.raises(UnkeptError, match="leads out"):
        host.send()
    assert host.volumes.made
    assert tree_records.forget(host.engine, 60, host.records) == []
    assert host.volumes.made == {}
    assert [one.name for one in host.records.glob(f"{KEY}.*")] == [f"{KEY}.lock"]


def test_the_builder_gets_copies_read_only_where_the_files_would_be() -> None:
    path = pathlib.PurePosixPath("/home/me/$nix, pkgs")
    found = kept_trees.volumes((Mounted(path, KEY, "f"),), CALLER)
    services = typing.cast("dict[str, typing.Any]", found["services"])
    (mount,) = services["builder"]["volumes"]
    assert mount["read_only"] is True
    assert mount["target"].endswith("/input/home/me/$$nix, pkgs")
    assert services.keys() == {"builder"}


def test_a_key_is_no_path() -> None:
    with pytest.raises(UsageError):
        kept_trees.answer(["compare", "../../etc"], typing.cast("Stored", Volumes()), 1)


def test_the_end_of_a_run_does_not_remove_what_is_mounted(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("input/home/tree", "image"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "input/home/tree/file").touch()
    monkeypatch.setattr(
        "orchestrator.run.runs.mount_points", lambda: [tmp_path / "input/home/tree"]
    )
    remove_shared(tmp_path)
    assert sorted(one.name for one in tmp_path.rglob("*")) == ["file", "home", "input", "tree"]
    monkeypatch.setattr("orchestrator.run.runs.mount_points", list)
    remove_shared(tmp_path)
    assert not tmp_path.exists()


def test_run_sh_calls_volumes_by_the_same_name() -> None:
    assert "nixos-image-tree-%s" in (ROOT / "caller/trees.sh").read_text()


def test_a_copy_is_locked_where_there_is_no_history_yet(tmp_path: pathlib.Path) -> None:
    os.close(tree_records.lock(KEY, fcntl.LOCK_EX, tmp_path / "nixos-image/trees"))
