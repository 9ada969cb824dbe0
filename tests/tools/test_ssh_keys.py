"""Tests public keys: those that OpenSSH accepts are accepted, others refused with their line."""

import base64
import pathlib
import subprocess

import pytest

from orchestrator.ask import uploads
from orchestrator.ask.request import Caller
from orchestrator.ask.ssh_keys import bare_key, is_public_key, public_keys, ssh_keys
from orchestrator.decide.late_files import read_late
from orchestrator.deliver.signing import signers_of
from orchestrator.shared.errors import UsageError
from orchestrator.shared.image_options import ImageOptions
from tests.unit.asking import demo
from tests.unit.requests import DEMO

pytestmark = pytest.mark.needs("ssh-keygen")

P = pathlib.PurePosixPath


def key(kind: str, *parts: bytes) -> str:
    """Make a public key of strings (RFC 4251, section 5); the first is its type."""
    strings = (kind.encode(), *parts)
    blob = b"".join(len(one).to_bytes(4) + one for one in strings)
    return f"{kind} {base64.b64encode(blob).decode()}"


#: Generator point of P-256 (FIPS 186-4, D.1.2.3).
POINT = bytes.fromhex(
    "04"
    "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)

ED = key("ssh-ed25519", bytes(32))
EC = key("ecdsa-sha2-nistp256", b"nistp256", POINT)
RSA = key("ssh-rsa", b"\x01\x00\x01", b"\x00" + b"\xc5" * 256)
SK = key("sk-ssh-ed25519@openssh.com", bytes(32), b"ssh:")
SK_EC = key("sk-ecdsa-sha2-nistp256@openssh.com", b"nistp256", POINT, b"ssh:")

BARE = (ED, EC, RSA, SK, SK_EC)

OPTIONS = (
    "no-pty",
    "restrict,pty",
    'from="10.*,*.example.org"',
    'command="echo \\"a b\\" # c",no-pty',
    'environment="A=ssh-ed25519 AAAA"',
    "cert-authority,no-touch-required,verify-required,no-user-rc,NO-X11-Forwarding",
    'expiry-time="20991231",permitopen="a:1",permitlisten="1",tunnel="0",principals="me"',
)

#: Invalid options, for which sshd (9.2) ignores the key.
NO_OPTIONS = (
    *(
        "example.org",
        "example.org,10.0.0.1",
        "|1|c2FsdA==|aGFzaA==",
        "@cert-authority *",
        "no-restrict",
    ),
    *(
        "no-no-touch-required",
        "command=true",
        'restrict="x"',
        "xno-pty",
        "no-pty;pty",
        "rno-pty,estrict",
    ),
    *("example.org,no-pty", 'example="no-pty,"', 'command="true"no-pty', "no-pty,é"),
)

COMMENTS = (
    *("", " me@host", " two words", " # a\tb"),
    *(" Jürgen's 鍵 🔑", " \N{NO-BREAK SPACE}\N{LINE SEPARATOR}x"),
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("authority", "mine"):
        command = [
            "ssh-keygen",
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            "me",
            "-f",
            f"{folder}/{name}",
        ]
        subprocess.run(command, check=True)
    sign = ["ssh-keygen", "-q", "-s", f"{folder}/authority", "-I", "me", f"{folder}/mine.pub"]
    subprocess.run(sign, check=True)
    return (folder / "mine-cert.pub").read_text().strip()


@pytest.mark.parametrize("bare", BARE, ids=lambda bare: bare.split()[0])
@pytest.mark.parametrize("comment", COMMENTS)
def test_what_openssh_takes_is_taken(bare: str, comment: str) -> None:
    assert is_public_key(f"{bare}{comment}")
    assert bare_key(f"{bare}{comment}") == bare


@pytest.mark.parametrize("options", OPTIONS)
def test_options_may_come_first(options: str) -> None:
    for text in (f"{options} {ED} me", f"{options}\t {EC}"):
        assert is_public_key(text)
        assert bare_key(text) in BARE


@pytest.mark.parametrize("text", NO_OPTIONS)
def test_what_sshd_takes_for_no_options_is_refused(text: str) -> None:
    assert not is_public_key(f"{text} {ED} me")


def test_so_is_a_certificate(certificate: str) -> None:
    for text in (certificate, f"cert-authority {certificate}"):
        assert is_public_key(text)
        assert bare_key(text) == " ".join(certificate.split()[:2])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no key",
        "ssh-ed25519",
        "ssh-ed25519 AAAAC3",
        f"ssh-rsa {ED.split()[1]}",
        f"ssh-unknown {ED.split()[1]}",
        f"{ED}\n{EC}",
        f"{ED} a\x1b[2Jb",
        f"{ED}\0",
        f"no-pty no-pty {ED}",
        f"{ED.replace(' ', chr(160))}",
        f"ssh-ed25519 {ED.split()[1]}é",
        'command="open ' + ED,
        "-----BEGIN OPENSSH PRIVATE KEY-----",
    ],
)
def test_all_else_is_refused(text: str) -> None:
    assert not is_public_key(text)


def test_a_file_of_keys_is_told_by_the_line_that_is_none() -> None:
    text = f"# mine\n\n  {ED} me\r\n\t{EC}\n"
    assert public_keys(text, "--key /k") == (f"{ED} me", EC)
    with pytest.raises(UsageError, match=r"^--key /k: line 6 is not a public key$"):
        public_keys(f"{text}\nssh-ed25519 AAAA\n", "--key /k")


# --- of the caller ----------------------------------------------------------------------------


@pytest.fixture
def received(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(uploads, "input_folder", lambda _who: tmp_path)
    (tmp_path / "home/me/.ssh").mkdir(parents=True)
    return tmp_path


def test_all_public_keys_of_the_caller_are_taken_once(received: pathlib.Path, who: Caller) -> None:
    folder = received / "home/me/.ssh"
    (folder / "a.pub").write_text(f"\ufeff# mine\n\n  {ED}\r\n")
    (folder / "d.pub").write_text(f"\ufeff{SK_EC}\r\n")
    (folder / "b.pub").write_text(f"{EC}\n{ED}\n{SK}\n")
    (folder / "c.pub").write_text("no key\n")
    (folder / "id_ed25519").write_text(f"{RSA}\n")
    assert ssh_keys(DEMO, who) == (ED, EC, SK, SK_EC)


def test_no_keys_are_no_error(received: pathlib.Path, who: Caller) -> None:
    assert ssh_keys(DEMO, who) == ()
    (received / "home/me/.ssh").rmdir()
    assert ssh_keys(DEMO, who) == ()


def test_the_file_that_is_named_is_the_only_one(received: pathlib.Path, who: Caller) -> None:
    (received / "home/me/.ssh/a.pub").write_text(f"{EC}\n")
    (received / "keys.pub").write_text(f"{ED}\nno-pty {RSA} me\n{ED}\n")
    assert ssh_keys(demo(ssh_key=P("/keys.pub")), who) == (ED, f"no-pty {RSA} me")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nssh-x\n", "line 1 is not a public key"),
        ("", "the file has no public key"),
        ("# nothing\n", "the file has no public key"),
        (f"{ED}\ngarbage\n", "line 2 is not a public key"),
        ("\x00\xff\n", "line 1 is not a public key"),
    ],
)
def test_a_file_that_is_no_public_key_is_refused(
    text: str, message: str, received: pathlib.Path, who: Caller
) -> None:
    (received / "key").write_text(text)
    with pytest.raises(UsageError, match=rf"^--ssh-key /key: {message}$") as caught:
        ssh_keys(demo(ssh_key=P("/key")), who)
    assert caught.value.hint == "name the .pub file"


# --- elsewhere --------------------------------------------------------------------------------


def test_a_signer_is_known_by_the_key_alone() -> None:
    line = f'nixos-image namespaces="nixos-image" {ED}\n'
    assert signers_of(f"# me\nno-pty {ED} me\n", "/k") == line
    with pytest.raises(UsageError, match=r"^--key /k: line 1 is not a public key$"):
        signers_of("ssh-ed25519 AAAA\n", "/k")


def test_keys_of_devices_are_judged_before_anything_is_built(
    received: pathlib.Path, who: Caller
) -> None:
    file = received / "hosts.csv"
    file.write_text(f'host,ssh_key\na,{SK} Jürgen\nb,"from=""10.*"" {ED}"\nc,\n')
    read_late(ImageOptions(stamp="/hosts.csv"), who)
    file.write_text(f"host,ssh_key\na,{ED}\nb,ssh-ed25519 AAAA\n")
    with pytest.raises(UsageError, match=r"^--stamp: line 3: ssh_key is not a public key$"):
        read_late(ImageOptions(stamp="/hosts.csv"), who)
