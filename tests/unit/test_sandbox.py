"""What a build says of its surroundings, and what is made of that."""

import pathlib
import subprocess

import pytest

from orchestrator.agents.builder import sandbox
from orchestrator.agents.builder.nix import Settings
from orchestrator.agents.failure import AgentError

ALONE = sandbox.View("1000", ("root", "nixbld", "nobody"), ("lo",))


def test_the_script_tells_what_it_sees() -> None:
    done = subprocess.run(["sh", "-c", sandbox.SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 1  # so that Nix keeps nothing of it
    lines = [f"{sandbox.NAME}> {line}" for line in done.stdout.splitlines()]
    view, cause = sandbox.parse("\n".join(lines))
    assert view
    assert not cause
    status = pathlib.Path("/proc/self/status").read_text()
    assert f"Uid:\t{view.user}\t" in status
    users = pathlib.Path("/etc/passwd").read_text().splitlines()
    assert list(view.names) == [line.partition(":")[0] for line in users]
    assert "lo" in view.interfaces


def test_what_a_sandbox_should_have_kept_away_is_named() -> None:
    assert ALONE.leaks("builder") == []
    assert sandbox.View("0", ALONE.names, ("lo",)).leaks("builder") == ["it runs as root"]
    seen = sandbox.View("1000", ("root", "builder"), ("lo", "eth0")).leaks("builder")
    assert seen == ["it sees the container's users", "it sees a network"]
    assert sandbox.View("1000", ALONE.names, ()).leaks("builder") == ["it sees a network"]


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("error: this system does not support the kernel namespaces", "this system does not"),
        ("building\n       error: cannot pivot old root: Operation not permitted", "cannot pivot"),
        ("", "no cause was told"),
    ],
)
def test_where_there_is_no_sandbox_the_cause_is_nix_last_word(said: str, cause: str) -> None:
    view, found = sandbox.parse(said)
    assert view is None
    assert found.startswith(cause)


@pytest.mark.parametrize(
    ("view", "cause"),
    [
        (None, "it is forbidden"),
        (sandbox.View("1000", ("builder",), ("lo",)), "not alone: it sees the container's users"),
    ],
)
def test_strict_fails_and_otherwise_it_is_told(
    view: sandbox.View | None,
    cause: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sandbox, "look", lambda _: (view, "" if view else cause))
    with pytest.raises(AgentError, match=cause) as caught:
        sandbox.obtain(Settings(), "builder", strict=True)
    assert caught.value.kind == "host"
    found = sandbox.obtain(Settings(), "builder", strict=False)
    assert found.text() == Settings().text()
    assert "sandbox = false\n" in found.text()
    assert cause in capsys.readouterr().out


def test_where_it_works_nix_is_told_to_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "look", lambda _: (ALONE, ""))
    found = sandbox.obtain(Settings(sandbox_paths=("/x",)), "builder", strict=True)
    text = found.text()
    assert "sandbox = true\n" in text
    assert "sandbox-fallback = false\n" in text
    assert "extra-sandbox-paths = /x\n" in text
