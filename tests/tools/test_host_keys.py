"""OpenSSH takes derived host keys, and the commands of docs/identity.md derive the same."""

import pathlib
import subprocess

import pytest

from orchestrator.decide import identities

pytestmark = [pytest.mark.needs("openssl"), pytest.mark.needs("ssh-keygen")]

SEED = b"0123456789abcdef" * 2


def said(*command: str, given: bytes = b"") -> bytes:
    return subprocess.run(command, input=given, capture_output=True, check=True).stdout


@pytest.mark.parametrize("host", ["a", "sensor-1", "x" * 63, "pi.example.org"])
def test_openssh_reads_the_key_and_finds_its_public_one(host: str, tmp_path: pathlib.Path) -> None:
    """The comment's length decides the padding of the file."""
    found = identities.identity(SEED, host)
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text(found.host_key)
    assert said("ssh-keygen", "-y", "-f", str(key)).decode().strip() == found.public_key
    signed = said("ssh-keygen", "-Y", "sign", "-n", "x", "-f", str(key), given=b"text")
    assert b"BEGIN SSH SIGNATURE" in signed


def test_openssl_derives_the_same(tmp_path: pathlib.Path) -> None:
    """These are the commands of the page."""
    page = pathlib.Path(__file__).parents[2] / "docs/identity.md"
    script = page.read_text().split("```sh\n")[2].split("```")[0]
    (tmp_path / "seed").write_bytes(SEED + b"\n")
    (tmp_path / "script").write_text(f"set -eu\nhost=sensor-1\n{script}")
    done = subprocess.run(
        ["sh", str(tmp_path / "script")], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    found = identities.identity(SEED, "sensor-1")
    lines = done.stdout.splitlines()
    assert lines[0] == f"serial {found.serial}"
    assert lines[1] == f"machine-id {found.machine_id}"
    assert lines[2] == f"host key {found.public_key.split()[1]}"
