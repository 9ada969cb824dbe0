"""Which public keys are let in."""

import pathlib

import pytest

from orchestrator.ask import uploads
from orchestrator.ask.request import Caller
from orchestrator.ask.ssh_keys import ssh_keys
from orchestrator.shared.errors import UsageError
from tests.unit.asking import demo
from tests.unit.requests import DEMO

P = pathlib.PurePosixPath

ED = "ssh-ed25519 AAAAC3 me@host"
EC = "ecdsa-sha2-nistp256 AAAAE2 me"
SK = "sk-ssh-ed25519@openssh.com AAAAG me"


@pytest.fixture
def received(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(uploads, "input_folder", lambda _who: tmp_path)
    (tmp_path / "home/me/.ssh").mkdir(parents=True)
    return tmp_path


def test_all_public_keys_of_the_caller_are_taken_once(received: pathlib.Path, who: Caller) -> None:
    folder = received / "home/me/.ssh"
    (folder / "a.pub").write_text(f"# mine\n\n  {ED}\r\n")
    (folder / "b.pub").write_text(f"{EC}\n{ED}\n{SK}\n")
    (folder / "c.pub").write_text("no key\n")
    (folder / "id_ed25519").write_text("ssh-private\n")
    assert ssh_keys(DEMO, who) == (ED, EC, SK)


def test_no_keys_are_no_error(received: pathlib.Path, who: Caller) -> None:
    assert ssh_keys(DEMO, who) == ()
    (received / "home/me/.ssh").rmdir()
    assert ssh_keys(DEMO, who) == ()


def test_the_key_that_is_named_is_the_only_one(received: pathlib.Path, who: Caller) -> None:
    (received / "home/me/.ssh/a.pub").write_text(f"{EC}\n")
    (received / "keys.pub").write_text(f"{ED}\n")
    assert ssh_keys(demo(ssh_key=P("/keys.pub")), who) == (ED,)


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN OPENSSH PRIVATE KEY-----\nssh-x\n",
        "",
        "# nothing\n",
        f"{ED}\ngarbage\n",
        "\x00\xff\n",
    ],
)
def test_a_file_that_is_no_public_key_is_refused(
    text: str, received: pathlib.Path, who: Caller
) -> None:
    (received / "key").write_text(text)
    with pytest.raises(UsageError, match="/key: not a public key file"):
        ssh_keys(demo(ssh_key=P("/key")), who)
