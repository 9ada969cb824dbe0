"""The store's collection: never beside a run, and recent results stay."""

import fcntl
import os
import pathlib
import time
import types

import pytest

from orchestrator.agents.builder import collect


@pytest.fixture(autouse=True)
def beside(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(collect, "LOCK", tmp_path / "lock")
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


def test_recent_results_are_kept(beside: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "KEPT", 3)
    for name in "abcad":
        collect.keep([pathlib.Path("/nix/store", name)])
        time.sleep(0.02)  # a file's time is that of the kernel's last tick
    assert {os.fspath(root.readlink()) for root in (beside / "roots").iterdir()} == {
        f"/nix/store/{name}" for name in "cad"
    }
