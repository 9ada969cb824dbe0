"""Tests the builder's isolation before late values arrive: processes and files are removed."""

import os
import pathlib
import subprocess
import sys

import pytest

from orchestrator.agents.builder import alone
from orchestrator.agents.failure import AgentError
from orchestrator.image import staging
from orchestrator.shared import run as run_module
from orchestrator.shared.run import LATE, NIX_CONF, Run


@pytest.fixture
def run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(run_module, "WORK", tmp_path)
    (tmp_path / "0badcafe").mkdir()
    return Run("0badcafe", (), start_seconds=1, grace_seconds=1, deadline_seconds=0.1)


def test_the_callers_configuration_is_gone_when_it_is_read(run: Run) -> None:
    (run.folder / NIX_CONF).write_text("access-tokens = a=b\n")
    assert alone.take_nix_conf(run) == "access-tokens = a=b\n"
    assert not (run.folder / NIX_CONF).exists()
    assert alone.take_nix_conf(run) == ""


def test_only_process_1_can_be_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("it must not kill anybody"))
    monkeypatch.setattr(os, "getpid", lambda: 7)
    with pytest.raises(AgentError, match="not process 1"):
        alone.end_others()


def test_late_values_are_waited_for_when_all_else_is_gone(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[object] = []
    monkeypatch.setattr(alone, "end_others", lambda: done.append("alone"))
    monkeypatch.setattr(staging, "empty", done.append)
    (run.folder / LATE).mkdir()
    alone.receive_late(run)
    assert done == ["alone", *alone.TEMPORARY]
    assert "built" in capsys.readouterr().out
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(AgentError, match="has sent no late values"):
        alone.receive_late(run)


def test_a_folder_that_cannot_be_emptied_ends_the_run_with_a_message(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alone, "end_others", lambda: None)
    monkeypatch.setattr(alone, "TEMPORARY", (run.folder / "missing",))
    with pytest.raises(AgentError, match="missing cannot be emptied: No such file or directory"):
        alone.receive_late(run)


def test_folders_are_emptied_whatever_is_in_them(tmp_path: pathlib.Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").touch()
    folder = tmp_path / "tmp"
    (folder / "home/a").mkdir(parents=True)
    (folder / "home/a/file").touch()
    (folder / "home/link").symlink_to(other)
    (folder / "link").symlink_to(other)
    (folder / "file").touch()
    (folder / "home/a").chmod(0)
    staging.empty(folder)
    assert list(folder.iterdir()) == []
    assert (other / "file").exists()


@pytest.mark.test_image("it becomes another user")
def test_nobody_looks_into_a_hidden_process() -> None:
    script = (
        "import time; from orchestrator.agents.builder import alone;"
        "{}; print('ready', flush=True); time.sleep(60)"
    )
    for act, seen in (("pass", 0), ("alone.hide()", 1)):
        command = [sys.executable, "-c", script.format(act)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, user=1000) as process:
            assert process.stdout is not None
            process.stdout.readline()
            place = f"/proc/{process.pid}"
            look = f"import os; os.listdir('{place}/fd'); open('{place}/mem')"
            other = [sys.executable, "-c", look]
            found = subprocess.run(other, capture_output=True, check=False, user=1000)
            process.kill()
        assert found.returncode == seen, (act, found.stderr)
