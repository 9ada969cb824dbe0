"""Tests `command.run`: time limits, signals, secrets, error messages."""

import errno
import os
import pathlib
import signal
import sys
import threading
import time

import pytest

from orchestrator.shared import command, retry
from orchestrator.shared.command import CommandError, SlowCommandError
from orchestrator.shared.errors import BuildError, TerminatedRunError

SH = "/bin/sh"


def sh(script: str) -> list[str]:
    return [SH, "-c", script]


def gone(pid: int) -> bool:
    """Whether a process has ended, possibly as a zombie."""
    stat = pathlib.Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_what_a_program_says_is_kept_apart() -> None:
    done = command.run(sh("cat; echo words >&2"), stdin=b"text\xff")
    assert (done.code, done.stdout, done.stderr) == (0, b"text\xff", b"words\n")
    assert done.text == "text�"
    assert done.seconds > 0


def test_by_itself_a_program_reads_nothing() -> None:
    assert command.run(["cat"]).stdout == b""


def test_variables_are_added() -> None:
    done = command.run(sh("echo $HOME $MORE"), variables={"MORE": "more"})
    assert done.text.split() == [os.environ["HOME"], "more"]


def test_a_failure_is_told_with_the_last_words() -> None:
    with pytest.raises(BuildError, match=r"^sh: last$"):
        command.run(sh("echo first >&2; echo last >&2; echo >&2; exit 3"), fails=BuildError)
    with pytest.raises(BuildError, match=r"^sh: 1: no-such: not found$"):
        command.run(["sh", "-c", "no-such"], fails=BuildError)
    with pytest.raises(BuildError, match=r"^sh: exit code 3$"):
        command.run(sh("exit 3"), fails=BuildError)
    with pytest.raises(BuildError, match=r"^sh: killed by signal 9$"):
        command.run(sh("kill -9 $$"), fails=BuildError)


def test_a_failure_that_nobody_words_is_told_with_the_command_line() -> None:
    with pytest.raises(CommandError, match=r"^/bin/sh -c 'exit 3': exit code 3 \(.*[0-9] s\)$"):
        command.run(sh("exit 3"))


def test_what_is_not_checked_is_returned() -> None:
    done = command.run(sh("echo no >&2; exit 3"), check=False)
    assert (done.code, done.last) == (3, "no")


def test_the_reason_is_the_first_line_that_is_no_warning() -> None:
    done = command.run(
        sh("printf 'Warning: x\\nno space\\ncannot go on\\n' >&2; exit 1"), check=False
    )
    assert (done.reason, done.last) == ("no space", "cannot go on")
    only = command.run(sh("echo warning: x >&2; exit 1"), check=False)
    assert only.reason == "warning: x"


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(BuildError, match=r"^no-such-program is not installed here$"):
        command.run(["no-such-program", "x"], check=False, fails=BuildError)


def test_what_cannot_be_executed_has_the_kernels_number(tmp_path: pathlib.Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    program.chmod(0o755)
    with pytest.raises(CommandError, match="program cannot be started: Exec format") as caught:
        command.run([program])
    assert caught.value.errno == errno.ENOEXEC


def test_no_secret_is_in_an_error_or_in_what_is_shown() -> None:
    done = command.run(
        sh("echo key is hunter2 >&2; exit 1 # hunter2"), check=False, secrets=["hunter2", ""]
    )
    assert (done.last, done.shown) == (
        "key is ***",
        "/bin/sh -c 'echo key is *** >&2; exit 1 # ***'",
    )
    with pytest.raises(CommandError) as caught:
        command.run(sh("echo key is hunter2 >&2; exit 1 # hunter2"), secrets=["hunter2"])
    assert "hunter2" not in str(caught.value)


def test_a_limit_ends_the_whole_group(tmp_path: pathlib.Path) -> None:
    began = time.monotonic()
    with pytest.raises(SlowCommandError, match="did not end within"):
        command.run(sh(f"sleep 60 & echo $! > {tmp_path}/pid; wait"), timeout=0.4)
    assert time.monotonic() - began < 10
    assert retry.until(lambda: gone(int((tmp_path / "pid").read_text())), 5)
    with pytest.raises(BuildError, match="did not end within"):
        command.run(["sleep", "60"], timeout=0.1, fails=BuildError)


def test_a_signal_ends_the_whole_group(tmp_path: pathlib.Path) -> None:
    def terminate(*_: object) -> None:
        raise TerminatedRunError("terminated")

    before = signal.signal(signal.SIGTERM, terminate)
    threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGTERM)).start()
    try:
        with pytest.raises(TerminatedRunError):
            command.run(sh(f"sleep 60 & echo $! > {tmp_path}/pid; wait"))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert retry.until(lambda: gone(int((tmp_path / "pid").read_text())), 5)


def test_what_watches_may_end_it_and_takes_nothing_of_its_words() -> None:
    asked: list[int] = []
    done = command.run(
        sh("sleep 0.3; echo text"), watch=lambda: asked.append(1), watch_seconds=0.02
    )
    assert done.text == "text\n"
    assert len(asked) > 1

    def refuse() -> None:
        raise BuildError("no more")

    with pytest.raises(BuildError, match="no more"):
        command.run(["sleep", "60"], watch=refuse, watch_seconds=0.02)


def test_a_started_program_ends_with_its_block(tmp_path: pathlib.Path) -> None:
    process = command.start(["sleep", "60"])
    with pytest.raises(BuildError), command.ending(process):
        raise BuildError("something else")
    assert process.returncode == -signal.SIGKILL
    with command.ending(command.start(["cat"], stdin=command.PIPE, stdout=command.PIPE)) as cat:
        assert cat.stdin
        assert cat.stdout
        cat.stdin.write(b"text")
        cat.stdin.close()
        assert cat.stdout.read() == b"text"
    assert cat.returncode == 0


def test_a_started_program_that_nobody_reads_ends_all_the_same() -> None:
    with command.ending(
        command.start(sh("while :; do echo y; done"), stdout=command.PIPE)
    ) as process:
        assert process.stdout
        process.stdout.read(10)
    assert process.returncode == -signal.SIGPIPE


def test_the_rest_of_a_program_that_goes_on_is_not_known_yet() -> None:
    process = command.start(sh("cat; sleep 0.4; echo end >&2"), stdin=command.PIPE)
    assert command.rest(process, 0.1) is None
    assert command.rest(process, 5) == b"end\n"


def test_an_attached_program_has_this_ones_streams(capfd: pytest.CaptureFixture[str]) -> None:
    assert command.run_attached(sh("echo text; exit 4")) == 4
    assert capfd.readouterr().out == "text\n"


def test_asking_again_ends_with_a_true_answer_or_in_time() -> None:
    answers = [0, 0, 7, 8]
    assert retry.until(lambda: answers.pop(0), 5, pause=0.01) == 7
    began = time.monotonic()
    assert retry.until(lambda: "", 0.1, pause=0.01) == ""
    assert 0.08 < time.monotonic() - began < 5

    def refuse() -> bool:
        raise BuildError("no")

    with pytest.raises(BuildError):
        retry.until(refuse, 60)


def test_trying_again_ends_without_an_error_or_with_the_last_one() -> None:
    tries: list[int] = []

    def act() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise FileNotFoundError(len(tries))
        return 7

    assert retry.without(OSError, act, 5, pause=0.01) == 7

    def refuse() -> None:
        tries.append(1)
        raise FileNotFoundError(len(tries))

    with pytest.raises(FileNotFoundError) as caught:
        retry.without(OSError, refuse, 0.1, pause=0.01)
    assert caught.value.args == (len(tries),)
    with pytest.raises(FileNotFoundError):
        retry.without(ValueError, refuse, 60)


def test_linters_let_nobody_else_start_programs(tmp_path: pathlib.Path) -> None:
    """Ruff's rule in pyproject.toml reports a module that imports subprocess."""
    pytest.importorskip("ruff")
    root = pathlib.Path(__file__).parents[2]
    bad = "import subprocess\nfrom os import system\nimport docker\nimport tenacity\n"
    done = command.run(
        [
            *(sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "TID251"),
            *("--config", root / "pyproject.toml", "--output-format", "concise"),
            *("--stdin-filename", root / "orchestrator/run/runs.py", "-"),
        ],
        stdin=bad.encode(),
        check=False,
    )
    assert [line.split()[1] for line in done.text.splitlines()[:4]] == ["TID251"] * 4
