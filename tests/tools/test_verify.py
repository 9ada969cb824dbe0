"""Tests `verify`: each mismatch of the files beside an image is one clear error."""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
import subprocess
import tarfile
from collections.abc import Callable

import pytest

from orchestrator.agents.builder import sbom
from orchestrator.ask.request import Verify
from orchestrator.deliver import evidence, provenance, signing
from orchestrator.deliver.report_checks import Story
from orchestrator.deliver.verify import NOT_AUTHENTICATED, verify
from orchestrator.shared import command
from orchestrator.shared.artifact import (
    BLOCK_MAP,
    CHECKSUMS,
    DOCUMENTS,
    IMAGE_INFO,
    PROVENANCE,
    SBOM,
    SIGNATURE,
)
from orchestrator.shared.errors import DeliveryError, UsageError, VerificationError
from tests.unit.artifacts import ABOUT, IMAGE
from tests.unit.requests import CALLER, DEMO

pytestmark = pytest.mark.needs("ssh-keygen")


ROOT = pathlib.Path(__file__).parents[2]
P = pathlib.PurePosixPath
REQUEST = Verify(P("/out/demo.img"), None, None)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("keys")
    for name, passphrase in (("mine", ""), ("other", ""), ("locked", "a passphrase")):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "me@host"]
        subprocess.run([*command, "-f", folder / name], check=True)
    return folder


@pytest.fixture(autouse=True)
def places(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "ROOT", ROOT)
    monkeypatch.setattr(signing, "MEMORY", tmp_path)
    monkeypatch.setattr("orchestrator.ask.uploads.WORK", tmp_path)


def send_key(tmp_path: pathlib.Path, key: pathlib.Path) -> pathlib.Path:
    """Put the key where run.sh's stream would."""
    place = tmp_path / CALLER.run / "input/home/me/key"
    place.parent.mkdir(parents=True)
    place.write_bytes(key.read_bytes())
    return place


@pytest.fixture
def made(tmp_path: pathlib.Path, keys: pathlib.Path) -> pathlib.Path:
    """Make a folder with an image and all files beside it, signed."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "demo.img").write_bytes(b"image")
    assert hashlib.sha256(b"image").hexdigest() == IMAGE.sha256
    sbom.write(folder / "demo.img", IMAGE.sha256, sbom.Parts((), (), ()))
    (folder / "demo.img.bmap").write_bytes(b"map")
    send_key(tmp_path, keys / "mine")
    signing.take_key(CALLER, P("/home/me/key"))
    request = dataclasses.replace(DEMO, sign=P("/home/me/key"))
    image = dataclasses.replace(IMAGE, extras=("image/demo.img.bmap",))
    about = dataclasses.replace(ABOUT, request=request)
    warnings: list[str] = []
    names = evidence.write(folder, image, about, Story(), warnings.append)
    assert warnings == []
    # The builder makes the block map and the cloud's description.
    written = [suffix for suffix in DOCUMENTS if suffix not in {BLOCK_MAP, IMAGE_INFO}]
    assert names == [f"demo.img{suffix}" for suffix in written]
    return folder


def sent(folder: pathlib.Path, *others: pathlib.Path) -> io.BytesIO:
    """Return the stream of run.sh: the image, the files beside it, and keys."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, f"out/{path.name}")
        for path in others:
            archive.add(path, f"keys/{path.name}")
    stream.seek(0)
    return stream


def test_what_was_made_is_found_right(made: pathlib.Path) -> None:
    text = verify(REQUEST, sent(made))
    assert f"6 files, SHA-256 of the image {IMAGE.sha256}" in text
    assert "by run 0badcafe" in text


def test_without_a_signer_nothing_is_authenticated(made: pathlib.Path, keys: pathlib.Path) -> None:
    lines = verify(REQUEST, sent(made)).splitlines()
    assert lines[-2:] == ["signature   present, not checked", NOT_AUTHENTICATED]
    (made / "demo.img.bmap").write_bytes(b"somebody else's")
    resum(made)
    assert NOT_AUTHENTICATED in verify(REQUEST, sent(made)), "whoever can change all, can"
    with pytest.raises(VerificationError, match="not by an allowed signer"):
        by_key(made, keys / "mine.pub")


def test_with_its_signer_it_is(made: pathlib.Path, keys: pathlib.Path) -> None:
    assert "not authenticated" not in by_key(made, keys / "mine.pub")


def test_sha256sum_finds_it_right_too(made: pathlib.Path) -> None:
    command = ["sha256sum", "--check", "--strict", "--status", "demo.img.sha256"]
    assert subprocess.run(command, cwd=made, check=False).returncode == 0


def test_a_hole_in_an_image_is_read_as_zeros(made: pathlib.Path) -> None:
    with (made / "demo.img").open("wb") as file:
        file.truncate(8 << 20)
        file.seek(4 << 20)
        file.write(b"data")
    data = subprocess.run(
        ["tar", "-cSf", "-", "-C", made.parent, "out"], capture_output=True, check=True
    ).stdout
    assert len(data) < 1 << 20
    digest = hashlib.sha256((made / "demo.img").read_bytes()).hexdigest()
    with pytest.raises(VerificationError, match=f"demo.img has changed: its SHA-256 is {digest}"):
        verify(REQUEST, io.BytesIO(data))


def change(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


def resum(folder: pathlib.Path) -> None:
    """Recompute the checksums, as somebody would who has changed a file."""
    sums = folder / "demo.img.sha256"
    names = [line.split("  ")[1] for line in sums.read_text().splitlines()]
    digests = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]
    lines = [f"{digest}  {name}\n" for digest, name in zip(digests, names, strict=True)]
    sums.write_text("".join(lines))


def another(folder: pathlib.Path) -> None:
    (folder / "demo.img").write_bytes(b"other")
    resum(folder)


def not_about(suffix: str) -> Callable[[pathlib.Path], None]:
    def make(folder: pathlib.Path) -> None:
        path = folder / f"demo.img{suffix}"
        path.write_text(path.read_text().replace(IMAGE.sha256, "0" * 64))
        resum(folder)

    return make


def no_json(folder: pathlib.Path) -> None:
    (folder / "demo.img.cdx.json").write_text("[" * 100_000)
    resum(folder)


def no_object(folder: pathlib.Path) -> None:
    (folder / "demo.img.cdx.json").write_text("[]")
    resum(folder)


def unlisted(suffix: str) -> Callable[[pathlib.Path], None]:
    def make(folder: pathlib.Path) -> None:
        sums = folder / "demo.img.sha256"
        lines = sums.read_text().splitlines(keepends=True)
        sums.write_text("".join(line for line in lines if not line.endswith(f"img{suffix}\n")))

    return make


def listed(text: str) -> Callable[[pathlib.Path], None]:
    def make(folder: pathlib.Path) -> None:
        with (folder / "demo.img.sha256").open("a") as file:
            file.write(text)

    return make


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: change(folder / "demo.img"), "demo.img has changed"),
        (lambda folder: change(folder / "demo.img.cdx.json"), "demo.img.cdx.json has changed"),
        (lambda folder: change(folder / "demo.img.bmap"), "demo.img.bmap has changed"),
        (
            lambda folder: change(folder / "demo.img.provenance.json"),
            "demo.img.provenance.json has changed",
        ),
        (lambda folder: (folder / "demo.img.sha256").unlink(), "demo.img.sha256 is not beside"),
        (
            lambda folder: (folder / "demo.img.cdx.json").unlink(),
            "demo.img.cdx.json has a checksum, but is not beside",
        ),
        (another, "demo.img.cdx.json is not about this image"),
        (not_about(".cdx.json"), "demo.img.cdx.json is not about this image"),
        (not_about(".provenance.json"), "demo.img.provenance.json is not about this image"),
        (no_json, "demo.img.cdx.json is not JSON"),
        (no_object, "demo.img.cdx.json is not about this image"),
        (unlisted(""), "does not list demo.img$"),
        (unlisted(".cdx.json"), "does not list demo.img.cdx.json"),
        (unlisted(".provenance.json"), "does not list demo.img.provenance.json"),
        (listed("nonsense\n"), "is not a list of checksums"),
        (listed(f"{'0' * 64}  ../demo.img\n"), "is not a list of checksums"),
        (listed(f"{'0' * 64}  \033[2Jx\n"), "is not a list of checksums"),
        (listed(f"{'0' * 64}  ..\n"), "is not a list of checksums"),
        (listed(f"{'0' * 64}  demo.img.{' ' * 80}signature   good\n"), "a list of checksums$"),
        (listed(f"{'0' * 64}  demo.img.image-info.json\n"), "json has a checksum, but is not"),
        (unlisted(".bmap"), "does not list demo.img.bmap"),
        (unlisted(".report.html"), "does not list demo.img.report.html"),
    ],
)
def test_what_does_not_hold_is_told(
    spoil: Callable[[pathlib.Path], None], message: str, made: pathlib.Path
) -> None:
    spoil(made)
    with pytest.raises(VerificationError, match=message):
        verify(REQUEST, sent(made))


def test_a_file_of_ones_own_beside_an_image_is_to_be_removed(made: pathlib.Path) -> None:
    """Its name is one of those that runs give; what a run always makes is not to be removed."""
    (made / "demo.img.image-info.json").write_text("{}")
    with pytest.raises(VerificationError, match=r"demo\.img\.image-info\.json$") as error:
        verify(REQUEST, sent(made))
    assert error.value.hint == "the image's run has not made this file: remove it"
    unlisted(".cdx.json")(made)
    with pytest.raises(VerificationError, match=r"demo\.img\.cdx\.json$") as error:
        verify(REQUEST, sent(made))
    assert error.value.hint == ""


def test_what_others_have_written_steers_no_terminal(made: pathlib.Path) -> None:
    path = made / "demo.img.provenance.json"
    document = json.loads(path.read_text())
    document["predicate"]["runDetails"]["metadata"]["invocationId"] = "\033]0;x\a"
    path.write_text(json.dumps(document))
    resum(made)
    assert "by run ?]0;x?\n" in verify(REQUEST, sent(made))


def test_what_others_have_written_fills_no_lines(made: pathlib.Path) -> None:
    place = made / "demo.img.provenance.json"
    document = json.loads(place.read_text())
    metadata = document["predicate"]["runDetails"]["metadata"]
    metadata["invocationId"] = metadata["finishedOn"] = f"x{' ' * 200}signature   good"
    place.write_text(json.dumps(document))
    resum(made)
    (line,) = (one for one in verify(REQUEST, sent(made)).splitlines() if "provenance" in one)
    assert len(line) < 160
    assert "good" not in line


@pytest.mark.parametrize("suffix", [CHECKSUMS, SIGNATURE, PROVENANCE, SBOM])
def test_a_document_of_any_size_is_not_read(
    suffix: str, made: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = max((made / f"demo.img{one}").stat().st_size for one in (PROVENANCE, SBOM))
    monkeypatch.setattr("orchestrator.deliver.verify.DOCUMENT_BYTES", size)
    os.truncate(made / f"demo.img{suffix}", size + 1)
    with pytest.raises(VerificationError, match=rf"demo.img{suffix}: too large"):
        verify(REQUEST, sent(made))


def test_what_is_only_compared_may_have_any_size(
    made: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = max((made / f"demo.img{one}").stat().st_size for one in (PROVENANCE, SBOM))
    monkeypatch.setattr("orchestrator.deliver.verify.DOCUMENT_BYTES", size)
    (made / "demo.img.bmap").write_bytes(bytes(size + 1))
    resum(made)
    assert verify(REQUEST, sent(made)).startswith("checksums ")


def test_a_stream_that_is_cut_off_is_told(made: pathlib.Path) -> None:
    data = sent(made).getvalue()
    for cut in (0, 700):
        with pytest.raises(DeliveryError, match="not all files that"):
            verify(REQUEST, io.BytesIO(data[:cut]))


# --- signatures -----------------------------------------------------------------------------------


def by_key(made: pathlib.Path, key: pathlib.Path) -> str:
    request = dataclasses.replace(REQUEST, key=P("/keys", key.name))
    return verify(request, sent(made, key))


def by_signers(made: pathlib.Path, text: str) -> str:
    signers = made.parent / "signers"
    signers.write_text(text)
    request = dataclasses.replace(REQUEST, allowed_signers=P("/keys/signers"))
    return verify(request, sent(made, signers))


def test_a_signature_is_its_keys(made: pathlib.Path, keys: pathlib.Path) -> None:
    assert "signature   nixos-image with ED25519 key SHA256:" in by_key(made, keys / "mine.pub")
    with pytest.raises(VerificationError, match="not by an allowed signer"):
        by_key(made, keys / "other.pub")


def test_allowed_signers_are_ssh_keygens(made: pathlib.Path, keys: pathlib.Path) -> None:
    mine, other = ((keys / f"{name}.pub").read_text().strip() for name in ("mine", "other"))
    assert "signature   me@example.org with" in by_signers(
        made, f"you@example.org {other}\nme@example.org {mine}\n"
    )
    for text in (
        "",
        f"me@example.org {other}\n",
        f'me@example.org namespaces="git" {mine}\n',
        f'me@example.org valid-before="20200101" {mine}\n',
    ):
        with pytest.raises(VerificationError, match="not by an allowed signer"):
            by_signers(made, text)


def test_checksums_that_were_changed_have_no_signature(
    made: pathlib.Path, keys: pathlib.Path
) -> None:
    (made / "demo.img.bmap").write_bytes(b"another map")
    resum(made)
    with pytest.raises(VerificationError, match="not by an allowed signer"):
        by_key(made, keys / "mine.pub")


def test_a_signature_for_something_else_is_none(made: pathlib.Path, keys: pathlib.Path) -> None:
    signature = made / "demo.img.sha256.sig"
    signature.unlink()
    sums = made / "demo.img.sha256"
    subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-q", "-n", "git", "-f", keys / "mine", sums], check=True
    )
    assert signature.exists()
    with pytest.raises(VerificationError, match="not by an allowed signer"):
        by_key(made, keys / "mine.pub")


def test_what_ssh_keygen_signs_by_hand_is_as_good(made: pathlib.Path, keys: pathlib.Path) -> None:
    """A signature by ssh-keygen itself is valid: the hint for a key with a passphrase."""
    (made / "demo.img.sha256.sig").unlink()
    command = ["ssh-keygen", "-Y", "sign", "-q", "-n", signing.NAMESPACE]
    subprocess.run([*command, "-f", keys / "other", made / "demo.img.sha256"], check=True)
    assert "with ED25519 key" in by_key(made, keys / "other.pub")


def test_a_missing_signature_is_told_where_one_is_wanted(
    made: pathlib.Path, keys: pathlib.Path
) -> None:
    (made / "demo.img.sha256.sig").unlink()
    assert "signature   none" in verify(REQUEST, sent(made))
    with pytest.raises(VerificationError, match="the image is not signed"):
        by_key(made, keys / "mine.pub")


def test_nonsense_is_no_signature(made: pathlib.Path, keys: pathlib.Path) -> None:
    (made / "demo.img.sha256.sig").write_bytes(b"nonsense")
    with pytest.raises(VerificationError, match="not by an allowed signer"):
        by_key(made, keys / "mine.pub")


@pytest.mark.parametrize("name", ["mine", "nothing"])
def test_what_is_no_public_key_is_refused(
    name: str, made: pathlib.Path, keys: pathlib.Path
) -> None:
    (keys / "nothing").write_text("nonsense\n")
    with pytest.raises(UsageError, match="not a public key"):
        by_key(made, keys / name)


# --- the private key ------------------------------------------------------------------------------


def test_the_key_is_taken_out_of_the_volume_and_is_its_owners_alone(
    tmp_path: pathlib.Path, keys: pathlib.Path
) -> None:
    place = send_key(tmp_path, keys / "mine")
    signing.take_key(CALLER, P("/home/me/key"))
    assert not place.exists()
    (copy,) = tmp_path.glob("*.key")
    assert copy.stat().st_mode & 0o777 == 0o600


def test_a_key_behind_a_link_is_taken_itself(tmp_path: pathlib.Path, keys: pathlib.Path) -> None:
    """The key may be in a sent folder, which Nix would copy into its store."""
    place = send_key(tmp_path, keys / "mine")
    place.replace(place.with_name("real"))
    place.symlink_to("real")
    signing.take_key(CALLER, P("/home/me/key"))
    assert not place.with_name("real").exists()


def test_a_key_that_is_elsewhere_is_not_read(tmp_path: pathlib.Path, keys: pathlib.Path) -> None:
    place = send_key(tmp_path, keys / "mine")
    place.unlink()
    place.symlink_to(keys / "mine")
    with pytest.raises(UsageError, match="was not sent"):
        signing.take_key(CALLER, P("/home/me/key"))
    assert (keys / "mine").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [("locked", "has a passphrase"), ("mine.pub", "not a private SSH key")],
)
def test_a_key_that_cannot_sign_is_refused_before_the_build(
    name: str, message: str, tmp_path: pathlib.Path, keys: pathlib.Path
) -> None:
    place = send_key(tmp_path, keys / name)
    with pytest.raises(UsageError, match=message) as caught:
        signing.take_key(CALLER, P("/home/me/key"))
    assert caught.value.hint
    assert not place.exists()


def test_a_broken_key_is_refused_without_its_words(
    tmp_path: pathlib.Path, keys: pathlib.Path
) -> None:
    broken = tmp_path / "broken"
    lines = (keys / "mine").read_text().splitlines()
    broken.write_text("\n".join([lines[0], lines[1][:40], lines[-1], ""]))
    send_key(tmp_path, broken)
    with pytest.raises(UsageError, match="cannot sign: ") as caught:
        signing.take_key(CALLER, P("/home/me/key"))
    assert lines[1][:40] not in str(caught.value)


def test_no_command_line_has_the_key(
    tmp_path: pathlib.Path, keys: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = command.run

    def run(words: list[str], **options: object) -> object:
        asked.append(" ".join(words))
        return real(words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(command, "run", run)
    send_key(tmp_path, keys / "mine")
    signing.take_key(CALLER, P("/home/me/key"))
    signing.sign(CALLER, b"data")
    assert len(asked) == 2
    secret = "".join((keys / "mine").read_text().splitlines()[1:-1])
    assert not any(secret[:20] in line for line in asked)
