"""Tests `--inject`: where a file goes, its mode and owner, and what no file can be."""

import pytest

from orchestrator.ask.injections import destination
from orchestrator.ask.request import Demo
from orchestrator.shared.errors import UsageError
from orchestrator.shared.image_options import Injection
from tests.unit.asking import ask


def injected(*texts: str) -> tuple[Injection, ...]:
    request = ask(["demo", *(word for text in texts for word in ("--inject", text))])
    assert isinstance(request, Demo)
    return request.image.injections


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/etc/key", "/etc/key"),
        ("/root/.ssh/", "/root/.ssh/id.pub"),
        ("/new/folder/", "/new/folder/id.pub"),
        ("/new/folder/.", "/new/folder/id.pub"),
        ("/", "/id.pub"),
        ("/etc", "/etc/id.pub"),
        ("/root", "/root/id.pub"),
        ("/root/.ssh", "/root/.ssh/id.pub"),
        ("/home/me", "/home/me/id.pub"),
        ("/home/me/.ssh", "/home/me/.ssh/id.pub"),
        ("//etc/./a//b", "/etc/a/b"),
        ("/boot", "/boot/id.pub"),
    ],
)
def test_a_file_goes_where_cp_would_put_it(target: str, path: str) -> None:
    assert destination(target, "/home/x/id.pub") == path


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("etc/key", "must be an absolute path"),
        ("/etc/../key", "must not contain .."),
        ("/..", "must not contain .."),
        ("/a\nb", "has control characters"),
        ("/a\0", "has control characters"),
        ("/proc/x", "/proc: the kernel's processes are mounted there at boot"),
        ("/run/secrets/x", "/run: memory is mounted there"),
        ("/var/run/", "/var/run: it is a link to /run"),
        ("/dev", "/dev: the kernel's devices"),
        ("/nix/store/x", "only Nix may add files to the store"),
        ("/nix/store", "only Nix may add files to the store"),
        ("/nix-path-registration", "first boot reads and deletes it"),
        (f"/{'ä' * 128}", "longer than 255 bytes"),
    ],
)
def test_where_no_file_can_be_is_told(target: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        destination(target, "/id.pub")


def test_mode_and_owner_are_taken() -> None:
    assert injected("/a:/b", "/a:/c:640", "/a:/d:0400:1000", "/a:/e:600:1000:100", "/x::y:/f/") == (
        Injection("/a", "/b", 0o600),
        Injection("/a", "/c", 0o640),
        Injection("/a", "/d", 0o400, 1000),
        Injection("/a", "/e", 0o600, 1000, 100),
        Injection("/x:y", "/f/x:y", 0o600),
    )


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["/a:/b:600:me"], "me is not the number of a user or group"),
        (["/a:/b:600:4294967295"], "4294967295 is not the number of a user"),
        (["/a:/b:600:1:2:3"], r"expected SRC:DEST\[:MODE\[:UID\[:GID\]\]\]"),
        (["/a:/b:9"], "9 is not an octal mode"),
        (["/a:/b", "/c:/b"], "another file is put at /b"),
        (["/a:/b", "/c:/b/d"], "another file is put at /b: one of them is no folder"),
        (["/a:/b/d", "/c:/b"], "another file is put at /b/d: one of them is no folder"),
        (["/a:/etc/", "/c/a:/etc"], "another file is put at /etc/a"),
    ],
)
def test_what_is_wrong_is_told_before_anything_starts(texts: list[str], why: str) -> None:
    with pytest.raises(UsageError, match=f"^--inject {texts[-1]}: {why}"):
        injected(*texts)


@pytest.mark.parametrize("option", ["--host-name", "--stamp"])
def test_a_host_name_has_one_source(option: str) -> None:
    with pytest.raises(UsageError, match=r"^--inject: /etc/hostname is the place"):
        ask(["demo", option, "a", "--inject", "/a:/etc/hostname"])
    assert injected("/a:/etc/hostname")
