"""Tests both streams: files to the caller, and files from the caller."""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import select
import tarfile
import threading
import time
from unittest import mock

import pytest

from orchestrator.deliver import stream
from orchestrator.run.handover import Handover, table
from orchestrator.shared.artifact import RESULT_TYPE, Artifact
from orchestrator.shared.errors import BuildError, DeliveryError
from tests.unit.artifacts import IMAGE
from tests.unit.asking import ask


def send(
    folder: pathlib.Path,
    names: list[str],
    images: dict[str, str],
    writer: int,
    *,
    sparse: bool = False,
) -> None:
    outgoing = stream.Delivery(folder, writer, sparse=sparse)
    for name in names:
        outgoing.send(name, images.get(name, ""))
    outgoing.finish()


def stream_of(
    folder: pathlib.Path, names: list[str], images: dict[str, str], *, sparse: bool = False
) -> bytes:
    """Read a pipe in a thread, as run.sh does; yield the received bytes."""
    reader, writer = os.pipe()
    chunks: list[bytes] = []

    def read() -> None:
        with os.fdopen(reader, "rb") as file:
            chunks.append(file.read())

    thread = threading.Thread(target=read)
    thread.start()
    try:
        send(folder, names, images, writer, sparse=sparse)
    finally:
        thread.join(10)
    return chunks[0]


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "demo.img").write_bytes(b"image")
    (tmp_path / "result.json").write_bytes(b"{}")
    return tmp_path


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_the_manifest_comes_last_and_its_sums_are_right(folder: pathlib.Path) -> None:
    data = stream_of(folder, ["demo.img", "result.json"], {"demo.img": digest(b"image")})
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = tar.getmembers()
        assert [member.name for member in members] == ["demo.img", "result.json", stream.MANIFEST]
        assert {(member.uid, member.gid, member.mode & 0o777) for member in members} == {
            (0, 0, 0o644)
        }
        contents = {
            member.name: file.read() for member in members if (file := tar.extractfile(member))
        }
    assert contents["demo.img"] == b"image"
    manifest = contents[stream.MANIFEST].decode()
    assert manifest == f"{digest(b'image')} image demo.img\n{digest(b'{}')} file result.json\nend\n"


def test_the_sum_is_the_builders_not_one_taken_here(folder: pathlib.Path) -> None:
    """The manifest has the builder's checksum, so run.sh notices a file that changed later."""
    data = stream_of(folder, ["demo.img"], {"demo.img": "f" * 64})
    assert f"{'f' * 64} image demo.img\n".encode() in data


def test_a_name_with_a_dash_is_no_option(folder: pathlib.Path) -> None:
    (folder / "--checkpoint").write_bytes(b"x")
    with tarfile.open(fileobj=io.BytesIO(stream_of(folder, ["--checkpoint"], {}))) as tar:
        assert tar.getnames() == ["--checkpoint", stream.MANIFEST]


def test_holes_are_kept_only_where_the_other_end_knows_them(folder: pathlib.Path) -> None:
    size = 32 << 20
    with (folder / "demo.img").open("r+b") as file:
        file.truncate(size)
        file.seek(size - 4)
        file.write(b"tail")
    content = (folder / "demo.img").read_bytes()
    images = {"demo.img": digest(content)}
    copy = folder / "copy"  # what is sent is removed
    copy.mkdir()
    (copy / "demo.img").write_bytes(content)
    full = stream_of(copy, ["demo.img"], images)
    sparse = stream_of(folder, ["demo.img"], images, sparse=True)
    assert len(sparse) < 1 << 20 < size < len(full)
    for data in (sparse, full):
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            member = tar.extractfile("demo.img")
            assert member is not None
            assert member.read() == content


def test_a_missing_file_gives_no_manifest_that_could_be_believed(folder: pathlib.Path) -> None:
    with pytest.raises((DeliveryError, FileNotFoundError)):
        stream_of(folder, ["gone.img"], {"gone.img": "0" * 64})


def test_an_image_is_on_its_way_before_the_rest_is_known(folder: pathlib.Path) -> None:
    content = os.urandom(4 << 20)
    (folder / "demo.img").write_bytes(content)
    reader, writer = os.pipe()
    outgoing = stream.Delivery(folder, writer, sparse=False)
    outgoing.send("demo.img", digest(content))
    with os.fdopen(reader, "rb") as file:
        # This read blocks for ever if nothing is sent before the end. tar writes whole records
        # only.
        head = file.read(len(content) - (1 << 20))
        assert content[:1024] in head
        (folder / "result.json").write_bytes(b"late")
        outgoing.send("result.json")
        rest: list[bytes] = []
        thread = threading.Thread(target=lambda: rest.append(file.read()))
        thread.start()
        outgoing.finish()
        thread.join(10)
    with tarfile.open(fileobj=io.BytesIO(head + rest[0])) as tar:
        assert tar.getnames() == ["demo.img", "result.json", stream.MANIFEST]


def test_an_image_with_secrets_is_its_owners_alone(folder: pathlib.Path) -> None:
    reader, writer = os.pipe()
    outgoing = stream.Delivery(folder, writer, sparse=False, private=True)
    outgoing.send("demo.img", digest(b"image"))
    outgoing.finish()
    with os.fdopen(reader, "rb") as file, tarfile.open(fileobj=io.BytesIO(file.read())) as tar:
        assert {member.mode & 0o777 for member in tar.getmembers()} == {0o600}


@pytest.mark.parametrize(
    ("options", "private"),
    [
        ([], False),
        (["--wifi-ssid", "x", "--host-name", "x"], False),
        (["--wifi-ssid", "x", "--wifi-password-file", "pw"], True),
        (["--inject", "key:/etc/key"], True),
        (["--stamp", "devices.csv"], True),
        (["--host-name", "x", "--identity-seed", "seed"], True),
    ],
)
def test_each_secret_makes_an_image_its_owners_alone(
    options: list[str], private: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = mock.Mock()
    monkeypatch.setattr("orchestrator.run.handover.Delivery", made)
    monkeypatch.setattr("orchestrator.run.handover.received_image", lambda *_: IMAGE)
    workspace = mock.Mock(shared=pathlib.Path("/run"))
    run = mock.Mock(request=ask(["demo", *options]), workspace=workspace)
    run.plan.boot = False
    handover = Handover(run, mock.Mock(), 1, list)
    monkeypatch.setattr(handover, "_complete", mock.Mock())
    handover.send({"event": "image", "position": 0})
    assert made.call_args.kwargs["private"] is private


@pytest.mark.parametrize("positions", [(), (1,), (0, 2), (1 << 62,)])
def test_an_image_that_is_missing_ends_the_run(
    positions: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The boot check, for example, takes the first one."""
    run = mock.Mock(workspace=mock.Mock(shared=pathlib.Path("/run")))
    handover = Handover(run, mock.Mock(), 1, list)
    for position in positions:
        handover._place(IMAGE, {"event": "image", "position": position})
    with pytest.raises(BuildError, match="has not announced all images"):
        handover.check_whole()


@pytest.mark.parametrize(
    ("name", "boot", "before", "refusal"),
    [
        (IMAGE.file_name, False, [], None),
        (IMAGE.file_name, True, [], "must be made anew"),
        (IMAGE.file_name, False, [IMAGE], "has announced this image already"),
        ("another.img", False, [], "the caller has no such image"),
        ([IMAGE.file_name], False, [], "name"),
        (None, False, [], "name"),
    ],
)
def test_an_image_that_is_said_to_stay_is_one_that_may(
    name: object, boot: bool, before: list[Artifact], refusal: str | None
) -> None:
    """The builder may be a build's by then."""
    run = mock.Mock(workspace=mock.Mock(shared=pathlib.Path("/run")), delivered=(IMAGE,))
    run.plan.boot = boot
    run.request.out = pathlib.Path("/out")
    handover = Handover(run, mock.Mock(), 1, list)
    for position, image in enumerate(before, start=1):
        handover._images[position] = image
    with contextlib.nullcontext() if not refusal else pytest.raises(BuildError, match=refusal):
        handover.keep({"event": "kept", "name": name, "position": 0})
        assert handover.images == [IMAGE]


def test_several_images_are_told_in_a_table() -> None:
    other = dataclasses.replace(
        IMAGE, path="image/web.qcow2", format="qcow-efi", system="x86_64-linux", size=(3 << 20) + 1
    )
    assert table([IMAGE, other]).splitlines() == [
        "image      format    system         MiB",
        "demo.img   raw-efi   aarch64-linux  1",
        "web.qcow2  qcow-efi  x86_64-linux   4",
    ]


def test_what_is_complete_arrives_before_the_rest_is_known(folder: pathlib.Path) -> None:
    """All of an image and its manifest leaves tar, and frees the disk, before the next one."""
    content = os.urandom(1 << 20)
    (folder / "demo.img").write_bytes(content)
    reader, writer = os.pipe()
    outgoing = stream.Delivery(folder, writer, sparse=False)
    outgoing.send("demo.img", digest(content))
    outgoing.complete(["demo.img"])
    with os.fdopen(reader, "rb") as file, concurrent.futures.ThreadPoolExecutor(1) as pool:
        come = b""
        while b"image demo.img\nend\n" not in come:
            assert select.select([file], [], [], 20)[0], "the manifest stays in tar's buffer"
            come += os.read(file.fileno(), 1 << 20)
        until = time.monotonic() + 20
        while not outgoing.has_left("demo.img"):
            assert time.monotonic() < until
            time.sleep(0.01)
        # The filler is larger than a pipe: tar does not end while nobody reads.
        rest = pool.submit(file.read)
        outgoing.there("other.img", "0" * 64)
        outgoing.finish()
        come += rest.result()
    with tarfile.open(fileobj=io.BytesIO(come)) as tar:
        names = tar.getnames()
        last = tar.extractfile(stream.MANIFEST)
        assert last
        assert last.read().decode() == f"{'0' * 64} there other.img\nend\n"
    assert names == ["demo.img", ".complete-1", ".filler-1", ".complete"]


def test_an_image_comes_with_the_files_beside_it(folder: pathlib.Path) -> None:
    """run.sh refuses a provenance file alone: a user's image would pass for ours."""
    for name in ("first.img", "first.img.log", "second.img", "second.img.log"):
        (folder / name).write_bytes(b"x")
    reader, writer = os.pipe()
    outgoing = stream.Delivery(folder, writer, sparse=False)
    with os.fdopen(reader, "rb") as file, concurrent.futures.ThreadPoolExecutor(1) as pool:
        all_of_it = pool.submit(file.read)
        # The first image waits for the end of the run.
        outgoing.send("first.img", digest(b"x"))
        for image in ("second.img", "first.img"):
            if image != "first.img":
                outgoing.send(image, digest(b"x"))
            outgoing.send(f"{image}.log")
            outgoing.complete([image, f"{image}.log"])
        outgoing.finish()
        data = all_of_it.result()
    listed = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for number, of in (("-1", "second.img"), ("-2", "first.img"), ("", "")):
            manifest = tar.extractfile(f"{stream.MANIFEST}{number}")
            assert manifest
            lines = manifest.read().decode().splitlines()
            listed[of] = [line.split(" ", 2)[2] for line in lines[:-1]]
    assert listed == {
        "first.img": ["first.img", "first.img.log"],
        "second.img": ["second.img", "second.img.log"],
        "": [],
    }


def test_a_file_with_the_inode_of_one_that_was_sent_is_no_link_to_it(folder: pathlib.Path) -> None:
    reader, writer = os.pipe()
    outgoing = stream.Delivery(folder, writer, sparse=False)
    with os.fdopen(reader, "rb") as file, concurrent.futures.ThreadPoolExecutor(1) as pool:
        all_of_it = pool.submit(file.read)
        for number in range(20):
            (folder / f"{number}.img").write_bytes(b"x")
            outgoing.send(f"{number}.img", digest(b"x"))
            outgoing.complete([f"{number}.img"])
            until = time.monotonic() + 20
            while not outgoing.has_left(f"{number}.img"):
                if time.monotonic() > until:
                    outgoing.abandon()
                    pytest.fail(f"{number}.img does not leave")
                time.sleep(0.01)
        outgoing.finish()
        data = all_of_it.result()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert all(member.isreg() for member in tar.getmembers())


def test_a_reader_that_is_gone_is_noticed_between_two_images(folder: pathlib.Path) -> None:
    (folder / "demo.img").write_bytes(os.urandom(1 << 20))
    reader, writer = os.pipe()
    os.close(reader)
    outgoing = stream.Delivery(folder, writer, sparse=False)
    outgoing.send("demo.img", "0" * 64)

    def wait() -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            outgoing.has_left("demo.img")
            time.sleep(0.01)

    with pytest.raises(DeliveryError, match="cannot be delivered"):
        wait()


def test_what_is_abandoned_has_no_manifest(folder: pathlib.Path) -> None:
    reader, writer = os.pipe()
    outgoing = stream.Delivery(folder, writer, sparse=False)
    outgoing.send("demo.img", digest(b"image"))
    outgoing.abandon()
    with os.fdopen(reader, "rb") as file:
        assert stream.MANIFEST.encode() not in file.read()


def test_a_reader_that_goes_away_is_told(folder: pathlib.Path) -> None:
    (folder / "demo.img").write_bytes(os.urandom(4 << 20))
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(DeliveryError, match="cannot be delivered"):
        send(folder, ["demo.img"], {"demo.img": "0" * 64}, writer)


def test_the_stream_is_closed_in_any_case(folder: pathlib.Path) -> None:
    """run.sh waits for the end of the stream."""
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(DeliveryError):
        send(folder, ["demo.img"], {"demo.img": "0" * 64}, writer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(writer)


def test_the_result_is_json_with_every_field(tmp_path: pathlib.Path) -> None:
    result = stream.Result(
        type=RESULT_TYPE,
        schema=1,
        name="demo",
        system="aarch64-linux",
        format="raw-efi",
        path="/out/demo.img",
        size=5,
        sha256="0" * 64,
        store_path="/nix/store/x",
        emulation="native",
        emulators=[],
        privileges=[],
        nix="2.34.8",
        nix_settings={"sandbox": "true"},
        other_nix_settings=[],
        sandbox={"sandbox": True},
        builders=[],
        boot=None,
        images=[{"name": "demo"}],
        seconds={"total": 1.5},
    )
    assert result.write(tmp_path / "result.json") == "result.json"
    document = json.loads((tmp_path / "result.json").read_text())
    assert document["path"] == "/out/demo.img"
    assert document["boot"] is None
    assert document["seconds"] == {"total": 1.5}
    assert len(document) == 20
    with pytest.raises(FileExistsError):  # the builder may have put a link there
        result.write(tmp_path / "result.json")


# --- the caller's files -----------------------------------------------------------------------


def receive(folder: pathlib.Path, data: bytes) -> None:
    """Call `receive` with `data` on descriptor 0, which its tar reads."""
    reader, writer = os.pipe()
    kept = os.dup(0)
    feeder = threading.Thread(target=_feed, args=(writer, data))
    feeder.start()
    try:
        os.dup2(reader, 0)
        os.close(reader)
        stream.receive(folder)
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        feeder.join(10)


def _feed(writer: int, data: bytes) -> None:
    try:
        with os.fdopen(writer, "wb") as file:
            file.write(data)
    except BrokenPipeError:
        pass


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_files_arrive_under_their_paths(tmp_path: pathlib.Path) -> None:
    receive(tmp_path / "in", tar_of((tarfile.TarInfo("home/me/.ssh/a b.pub"), b"key")))
    assert (tmp_path / "in/home/me/.ssh/a b.pub").read_bytes() == b"key"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x"])
def test_no_name_climbs_out(name: str, tmp_path: pathlib.Path) -> None:
    before = sorted(pathlib.Path("/").iterdir())
    with contextlib.suppress(
        DeliveryError
    ):  # tar may refuse the name or remove the slash at its start
        receive(tmp_path / "in", tar_of((tarfile.TarInfo(name), b"evil")))
    assert not (tmp_path / "x").exists()
    assert sorted(pathlib.Path("/").iterdir()) == before


def test_no_link_leads_out(tmp_path: pathlib.Path) -> None:
    link = tarfile.TarInfo("link")
    link.type = tarfile.SYMTYPE
    link.linkname = str(tmp_path)
    with pytest.raises(DeliveryError):
        receive(tmp_path / "in", tar_of((link, b""), (tarfile.TarInfo("link/evil"), b"evil")))
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("cut", [0, 700, 10_000])
def test_a_stream_that_is_cut_off_is_told(cut: int, tmp_path: pathlib.Path) -> None:
    data = tar_of((tarfile.TarInfo("a"), b"x" * 20_000))
    with pytest.raises(DeliveryError, match="not all files that"):
        receive(tmp_path / "in", data[:cut])


def test_known_hosts_has_each_device_once_under_its_names() -> None:
    keys = {"pi": "ssh-ed25519 AAAA pi", "gate.example.org": "ssh-ed25519 BBBB= gate", "x": ""}
    images = [
        dataclasses.replace(IMAGE, path=f"image/{name}", host=host, ssh_host_key=key)
        for name in ("a.img", "b.qcow2")
        for host, key in keys.items()
    ]
    assert stream.known_hosts(images) == (
        "# urn:nixos-image:known-hosts:v1\n"
        "pi,pi.local ssh-ed25519 AAAA\n"
        "gate.example.org ssh-ed25519 BBBB=\n"
    )
    assert stream.known_hosts(images[2:3]) == ""


@pytest.mark.parametrize(
    "key", ["ssh-ed25519 AAAA\nevil ssh-rsa BBBB a", "ssh-rsa AAAA a", "* ssh-ed25519 AAAA", "a"]
)
def test_a_host_key_that_is_none_is_refused(key: str) -> None:
    assert not stream.HOST_KEY.fullmatch(key)
