"""EFI programs are signed for Secure Boot, and nothing else on the partition is."""

import pathlib
import struct
import subprocess
import time

import pytest

from orchestrator.image.filesystems.filesystem import FilesystemError
from orchestrator.image.loaders.bootloader import Files
from orchestrator.image.loaders.signing import Signer

pytestmark = pytest.mark.needs("sbsign", "sbverify", "openssl")

#: Offset of the headers of format PE, alignment of sections in the file and in memory.
HEADERS, ALIGNED, PAGE = 64, 512, 4096


def program() -> bytes:
    """Return the smallest EFI program for x86_64: headers, and a section of zeroes."""
    start = b"MZ".ljust(60, b"\0") + struct.pack("<I", HEADERS)
    coff = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, 1, 0, 0, 0, 240, 0x22E)
    optional = struct.pack("<HBBIIIII", 0x20B, 0, 0, ALIGNED, 0, 0, PAGE, PAGE)
    optional += struct.pack("<QII12xIIIIHH", 0, PAGE, ALIGNED, 0, 2 * PAGE, ALIGNED, 0, 10, 0)
    optional += struct.pack("<32xII", 0, 16) + bytes(16 * 8)
    section = struct.pack("<8s4I12xI", b".text", ALIGNED, PAGE, ALIGNED, ALIGNED, 0x60000020)
    return (start + coff + optional + section).ljust(ALIGNED, b"\0") + bytes(ALIGNED)


@pytest.fixture
def signer(tmp_path: pathlib.Path) -> Signer:
    key, certificate = str(tmp_path / "key"), str(tmp_path / "certificate")
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test"]
    request += ["-keyout", key, "-out", certificate]
    subprocess.run(request, check=True, capture_output=True)
    return Signer(key, certificate, tmp_path / "signed")


def is_signed(path: pathlib.Path, signer: Signer) -> bool:
    done = subprocess.run(
        ["sbverify", "--cert", signer.certificate, path], check=False, capture_output=True
    )
    return done.returncode == 0


def test_programs_are_signed_and_other_files_stay(signer: Signer, tmp_path: pathlib.Path) -> None:
    contents = {"program": program(), "initrd": b"070701", "short": b"MZ", "dos": b"MZ" * 100}
    files: Files = {"loader/loader.conf": "MZ"}
    for name, data in contents.items():
        files[name] = tmp_path / name
        (tmp_path / name).write_bytes(data)
    signed = signer.signed(files)
    changed = {name for name in files if files[name] != signed[name]}
    assert changed == {"program"}
    new = signed["program"]
    assert isinstance(new, pathlib.Path)
    assert is_signed(new, signer)
    assert not is_signed(tmp_path / "program", signer)
    assert (tmp_path / "program").read_bytes() == program()


def test_an_image_that_is_made_twice_has_one_signature(
    signer: Signer, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "program").write_bytes(program())
    texts = set()
    for _turn in range(2):
        new = signer.signed({"program": tmp_path / "program"})["program"]
        assert isinstance(new, pathlib.Path)
        texts.add(new.read_bytes())
        time.sleep(1.1)  # a signature has a time, in seconds
    assert len(texts) == 1


def test_a_key_that_is_none_is_told(signer: Signer, tmp_path: pathlib.Path) -> None:
    (tmp_path / "program").write_bytes(program())
    pathlib.Path(signer.key).write_text("no key")
    with pytest.raises(FilesystemError, match="sbsign"):
        signer.signed({"program": tmp_path / "program"})
