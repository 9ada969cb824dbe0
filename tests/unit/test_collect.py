"""The store's collection: never beside a run, and recent results stay."""

import errno
import fcntl
import os
import pathlib
import time
import types

import pytest

from orchestrator.agents.builder import collect, holdings
from orchestrator.agents.failure import AgentError
from orchestrator.agents.room import SCARCE
from orchestrator.image import staging

REAL_LOCK, REAL_ROOTS = collect.LOCK, collect.ROOTS


@pytest.fixture(autouse=True)
def beside(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(collect, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(collect, "GATE", tmp_path / "gate")
    monkeypatch.setattr(collect, "ROOTS", tmp_path / "roots")
    return tmp_path


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Records the commands that are run; each time no other process may hold the lock."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> object:
        other = os.open(collect.LOCK, os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.close(other)
        commands.append(command)
        return types.SimpleNamespace(
            text="3 store paths deleted, 1.0 MiB freed\n", last="note: something"
        )

    monkeypatch.setattr("orchestrator.shared.command.run", run)
    return commands


def test_nothing_is_collected_while_a_run_is_at_work(
    collected: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    released: list[int] = []
    with collect.in_use(), collect.in_use():  # runs do not wait for each other
        collect.collect(lambda: released.append(1))
    assert (collected, released) == ([], [])
    assert "a run is at work" in capsys.readouterr().out
    collect.collect(lambda: released.append(1))
    assert (collected, released) == ([["nix-store", "--gc"]], [1])
    assert "3 store paths deleted" in capsys.readouterr().out


def test_a_nearly_full_disk_is_collected_before_a_run_begins(
    collected: list[list[str]],
    capsys: pytest.CaptureFixture[str],
    beside: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = os.statvfs(beside)
    free = disk.f_bavail * disk.f_frsize
    monkeypatch.setattr(collect, "LEAST", free // 2)
    collect.make_room()
    assert collected == []
    monkeypatch.setattr(collect, "LEAST", free * 2)
    with collect.in_use():  # another run
        collect.make_room()
    assert collected == []
    collect.make_room()
    assert collected == [["nix-store", "--gc"]]
    assert "MiB left: making room" in capsys.readouterr().out


DRV = "/nix/store/0c7zvwjrlhqirf3z3q1k0l0r8bq9m5yd-a.drv"


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Free bytes of the disk, for one look after the other."""
    free = [0, SCARCE]
    monkeypatch.setattr(collect, "_free", lambda: free.pop(0))
    return free


def test_a_run_makes_room_for_what_it_builds(
    collected: list[list[str]], room: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    with collect.in_use():
        assert collect.make_room_for([DRV])
        # The lock is a shared one again: other runs may begin, and none may collect.
        with collect.in_use():
            collect.collect(lambda: None)
    assert collected == [["nix-store", "--gc", "--option", "keep-outputs", "true"]]
    assert "the disk was full; the store's garbage is collected: 3 store" in capsys.readouterr().out


def test_a_run_makes_no_room_beside_another(collected: list[list[str]], room: list[int]) -> None:
    other = os.open(collect.LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, fcntl.LOCK_SH)
    with collect.in_use():
        assert not collect.make_room_for([DRV])
        os.close(other)
        collector = os.open(collect.LOCK, os.O_RDWR)
        with pytest.raises(BlockingIOError):  # its own lock is held as before
            fcntl.flock(collector, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(collector)
    assert collected == []


def test_no_run_collects_while_another_one_gives_its_lock_up(
    collected: list[list[str]], room: list[int]
) -> None:
    gate = os.open(collect.GATE, os.O_RDWR | os.O_CREAT)
    fcntl.flock(gate, fcntl.LOCK_EX)
    collect.collect(lambda: None)
    with collect.in_use():
        assert not collect.make_room_for([DRV])
    os.close(gate)
    assert collected == []


def test_little_room_is_none(collected: list[list[str]], room: list[int]) -> None:
    room[1] -= 1
    with collect.in_use():
        assert not collect.make_room_for([DRV])
    assert len(collected) == 1


def test_recent_results_are_kept(beside: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "KEPT", 3)
    for name in "abcad":
        collect.keep([pathlib.Path("/nix/store", name)])
        time.sleep(0.02)  # a file's time is that of the kernel's last tick
    assert {os.fspath(root.readlink()) for root in (beside / "roots").iterdir()} == {
        f"/nix/store/{name}" for name in "cad"
    }


def test_what_another_run_keeps_or_removes_at_the_same_time_is_no_error(
    beside: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect.keep([pathlib.Path("/nix/store/a")])
    unlink = pathlib.Path.unlink

    def unlinked(path: pathlib.Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        path.symlink_to("/nix/store/a")

    with monkeypatch.context() as patched:
        patched.setattr(pathlib.Path, "unlink", unlinked)
        collect.keep([pathlib.Path("/nix/store/a")])
    (root,) = collect.roots()
    gone = root.with_name("gone")
    assert collect.by_age([gone, root]) == [root]
    assert [one.root for one in holdings.stock([gone, root], {}).holdings] == ["a"]


def test_a_volume_that_came_empty_gets_its_folders(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker fills only volumes that it has made itself."""
    monkeypatch.setattr(collect, "LOCK", tmp_path / REAL_LOCK.relative_to("/nix"))
    monkeypatch.setattr(collect, "LEAST", 0)
    collect.make_room()
    with collect.in_use():
        assert collect.LOCK.exists()
    for folder in (staging.FOLDER, REAL_ROOTS.parent):
        assert (tmp_path / folder.relative_to("/nix")).is_dir()


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EACCES, r"volume of the Nix store cannot be used: Permission denied \(/nix"),
        (errno.EROFS, r"volume of the Nix store cannot be used: Read-only"),
    ],
)
def test_a_volume_that_cannot_be_used_is_told(
    number: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "/nix/var")

    monkeypatch.setattr(pathlib.Path, "mkdir", fails)
    with pytest.raises(AgentError, match=message):
        collect.make_room()
