"""Tests who can log in to the demo: late files, of which no build knows."""

import dataclasses
import pathlib
import re
import subprocess

import pytest

from orchestrator.agents import debian
from orchestrator.agents.builder import demo
from orchestrator.agents.failure import AgentError
from orchestrator.shared.errors import UsageError
from orchestrator.shared.task import KEYS_FILE, USER_FILE, DemoTask
from tests.unit.asking import ask

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMj1rPZb5MVRbXBWXbT8RrDvXL7XYyzYQ7gkVJm8w9aX me"
TASK = DemoTask("x86_64-linux", authorized_keys=(KEY, f"no-pty {KEY}"), user="anna")

#: The part of nix/demo/init.sh that makes the accounts.
INIT = pathlib.Path(demo.EXPRESSION, "init.sh").read_text()
ACCOUNTS = INIT[INIT.index("# The user's name and keys") : INIT.index("exec @busybox@")]


def test_the_user_and_the_keys_are_files_of_the_image() -> None:
    assert demo.account(TASK) == {USER_FILE: "anna\n", KEYS_FILE: f"{KEY}\nno-pty {KEY}\n"}


def test_what_nix_builds_is_the_same_for_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "urls", lambda pin, _snapshot: [f"http://deb/{pin.path}"])
    other = dataclasses.replace(TASK, authorized_keys=(), user="berta")
    texts = [demo.pinned(task).to_json() for task in (TASK, other)]
    assert texts[0] == texts[1]
    assert "anna" not in texts[0]


@pytest.mark.parametrize(
    "user", ["", "root", "Anna", "a b", "a\nb", "a:x", "../a", "a$(id)", "-a", "a" * 33]
)
def test_no_other_name_gets_into_an_image(user: str) -> None:
    with pytest.raises(AgentError, match=re.escape(f"the demo cannot have a user {user!r}")):
        demo.account(dataclasses.replace(TASK, user=user))


def test_a_key_is_one_line() -> None:
    with pytest.raises(AgentError, match="not one line"):
        demo.account(dataclasses.replace(TASK, authorized_keys=(f"{KEY}\nroot-key",)))


@pytest.mark.parametrize("target", [f"/{USER_FILE}", f"/{KEYS_FILE}", "/etc/demo"])
def test_no_injected_file_takes_their_place(target: str) -> None:
    with pytest.raises(UsageError, match="is the place of the demo's user and keys") as caught:
        ask(["demo", "--inject", f"a:{target}"])
    assert "--ssh-key FILE" in caught.value.hint


def accounts(root: pathlib.Path) -> dict[str, str]:
    """Make the accounts below `root`, as the demo's first boot does; returns files by path."""
    script = ACCOUNTS.replace(" /root", f" {root}/root")
    script = script.replace("/etc/", f"{root}/etc/").replace("/home/", f"{root}/home/")
    script = script.replace("chown", ": chown")
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert not done.stderr
    return {
        file.relative_to(root).as_posix(): file.read_text().replace(f"{root}", "")
        for file in sorted(root.rglob("*"))
        if file.is_file()
    }


def given(root: pathlib.Path, user: str) -> pathlib.Path:
    """Put the late files of `user` below `root`."""
    for folder in ("etc/demo", "etc/ssh/authorized_keys.d", "root"):
        (root / folder).mkdir(parents=True)
    (root / USER_FILE).write_text(user)
    (root / KEYS_FILE).write_text(f"{KEY}\n")
    return root


def test_the_first_boot_makes_the_accounts(tmp_path: pathlib.Path) -> None:
    found = accounts(given(tmp_path, "anna\n"))
    assert found["etc/passwd"] == "root:x:0:0::/root:/bin/sh\nanna:x:1000:100::/home/anna:/bin/sh\n"
    assert found["etc/shadow"] == "root:*:1::::::\nanna:*:1::::::\n"
    assert found["home/anna/.ssh/authorized_keys"] == f"{KEY}\n"
    assert found["root/.ssh/authorized_keys"] == ""
    assert (tmp_path / "etc/shadow").stat().st_mode & 0o777 == 0o600


def test_a_later_boot_keeps_accounts_and_keys(tmp_path: pathlib.Path) -> None:
    accounts(given(tmp_path, "anna\n"))
    (tmp_path / "etc/passwd").write_text("changed\n")
    (tmp_path / "home/anna/.ssh/authorized_keys").write_text("added\n")
    found = accounts(tmp_path)
    assert found["etc/passwd"] == "changed\n"
    assert found["home/anna/.ssh/authorized_keys"] == f"added\n{KEY}\n"


@pytest.mark.parametrize("user", ["", "root\n", "a b\n", "a\nb\n", "a:0:0\n", "../x\n", "$(id)\n"])
def test_init_makes_no_account_of_another_name(user: str, tmp_path: pathlib.Path) -> None:
    found = accounts(given(tmp_path, user))
    assert found["etc/passwd"] == "root:x:0:0::/root:/bin/sh\n"
    assert found["etc/shadow"] == "root:*:1::::::\n"
    assert not (tmp_path / "home").exists()
    assert found["root/.ssh/authorized_keys"] == ""
