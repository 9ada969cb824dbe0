"""Images of a fleet: a device's image has the same bytes, stamped or assembled by itself."""

import dataclasses
import json
import pathlib
import typing

import pytest

from orchestrator.agents import room
from orchestrator.agents.builder import imaging, sbom
from orchestrator.agents.builder.imaging import Group, Wanted
from orchestrator.agents.failure import AgentError
from orchestrator.image import assemble as assembler
from orchestrator.image import stamping
from orchestrator.image.filesystems.ext4_files import Files
from orchestrator.image.filesystems.filesystem import FilesystemError
from orchestrator.image.late import Device, late_entries
from orchestrator.image.layout import SECTOR, Layout
from orchestrator.image.loaders.signing import Signer
from orchestrator.image.stamping import shape
from orchestrator.image.tree import Entry
from orchestrator.shared.artifact import Artifact
from orchestrator.shared.disk_formats import ASSEMBLED, DiskFormat
from orchestrator.shared.filesystems import FILESYSTEMS
from orchestrator.shared.image_options import ImageOptions, apply
from orchestrator.shared.run import Run
from orchestrator.shared.spec import Compression, ImageSpec
from tests.tools.nix_store import made_up
from tests.tools.nix_store import run as program

pytestmark = pytest.mark.own_store

#: Devices of one shape: values of different lengths, but of as many blocks.
DEVICES = (
    Device("a", "ssh-ed25519 AAAA me", "root", "net", "correct horse"),
    Device("sensor-" + "x" * 50, "ssh-ed25519 " + "B" * 300, "root", "n", "y" * 63),
    Device("b", "ssh-ed25519 CCCC", "root", "a longer name of a network", "12345678"),
)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ImageSpec:
    return made_up(tmp_path_factory.mktemp("system"))


@pytest.fixture
def run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr("orchestrator.shared.run.WORK", tmp_path)
    return Run("run", ("aarch64-linux",), 1, 1, 1)


def wanted(
    spec: ImageSpec, devices: typing.Iterable[Device], options: ImageOptions
) -> list[Wanted]:
    applied = apply(options, spec)
    parts = sbom.parts_of_spec(applied, ())
    return [
        Wanted(
            dataclasses.replace(applied, name=f"made-up-{one.host}"),
            one,
            late_entries(options, one, applied.late),
            parts,
        )
        for one in devices
    ]


def made(run: Run, name: str, group: list[Wanted], options: ImageOptions) -> dict[str, Artifact]:
    """Make a group of images in a folder of its own; returns the images by host."""
    folder = run.folder / name
    folder.mkdir(parents=True)
    return {one.host: one for one in handed(run, folder, options, group)}


def handed(
    run: Run, folder: pathlib.Path, options: ImageOptions, group: list[Wanted]
) -> list[Artifact]:
    """Make a group of images; returns them in the order in which they were handed over."""
    found: list[Artifact] = []
    Group(run, folder, options, group, lambda _wanted, image: found.append(image)).make()
    return found


@pytest.fixture
def assemblies(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that are assembled."""
    names: list[str] = []
    real = assembler.assemble

    def counted(
        spec: ImageSpec,
        target: pathlib.Path,
        scratch: pathlib.Path,
        late: tuple[Entry, ...],
        *,
        mapped: bool,
        signer: Signer | None,
    ) -> Layout:
        names.append(spec.name)
        return real(spec, target, scratch, late, mapped=mapped, signer=signer)

    monkeypatch.setattr(imaging, "assemble", counted)
    return names


@pytest.mark.parametrize(
    ("kind", "compression"),
    [*((kind, "none") for kind in ASSEMBLED), ("raw", "zstd"), ("qcow2", "gz")],
)
def test_a_stamped_image_has_the_bytes_of_an_assembled_one(
    kind: DiskFormat,
    compression: Compression,
    run: Run,
    spec: ImageSpec,
    assemblies: list[str],
) -> None:
    mapped = kind == "raw"
    options = ImageOptions(disk_format=kind, compression=compression, bmap=mapped)
    group = wanted(spec, DEVICES, options)
    assert len({shape(one.spec, one.late) for one in group}) == 1
    together = made(run, "together", group, options)
    assert len(assemblies) == 1
    for one in group:
        alone = made(run, f"alone-{one.device.host}", [one], options)[one.device.host]
        stamped = together[one.device.host]
        assert stamped.sha256 == alone.sha256, one.device.host
        assert stamped.unpacked_sha256 == alone.unpacked_sha256
        pairs = zip(stamped.extras, alone.extras, strict=True)
        for ours, theirs in pairs:
            assert (run.folder / ours).read_text() == (run.folder / theirs).read_text()
    assert len({one.sha256 for one in together.values()}) == len(DEVICES)


@pytest.mark.parametrize("fs", [name for name, row in FILESYSTEMS.items() if row.root])
def test_each_root_file_system_makes_the_same_fleet(
    fs: str, run: Run, spec: ImageSpec, assemblies: list[str]
) -> None:
    if FILESYSTEMS[fs].refused:
        return
    root = dataclasses.replace(spec, root=dataclasses.replace(spec.root, fsType=fs))
    options = ImageOptions()
    group = wanted(root, DEVICES, options)
    shapes = {shape(one.spec, one.late) for one in group}
    assert len(shapes) == (1 if FILESYSTEMS[fs].replaces else len(DEVICES))
    if len(shapes) == 1:
        together = made(run, "together", group, options)
        alone = made(run, "alone", [group[2]], options)["b"]
        assert together["b"].sha256 == alone.sha256
        start = stamping_start(run, together["b"])
        file = f"{run.folder / together['b'].path}?offset={start}"
        assert program("debugfs", "-R", "cat /etc/hostname", file).strip() == "b"
        program("e2fsck", "-fn", file)


def stamping_start(run: Run, image: Artifact) -> int:
    """Return the offset of the root file system, the last partition."""
    said = program("sfdisk", "--json", str(run.folder / image.path))
    parts = json.loads(said)["partitiontable"]["partitions"]
    return max(int(one["start"]) for one in parts) * SECTOR


def test_formats_of_one_disk_share_its_raw_image(
    run: Run, spec: ImageSpec, assemblies: list[str]
) -> None:
    options = ImageOptions()
    formats: list[tuple[str, DiskFormat, Compression]] = [
        ("raw-efi", "raw", "none"),
        ("qcow-efi", "qcow2", "none"),
        ("packed", "raw", "zstd"),
    ]
    group = [
        dataclasses.replace(
            one,
            spec=dataclasses.replace(
                one.spec,
                name=f"{name}-{one.device.host}",
                format=name,
                diskFormat=kind,
                compression=how,
            ),
        )
        for name, kind, how in formats
        for one in wanted(spec, DEVICES, options)
    ]
    folder = run.folder / "together"
    folder.mkdir(parents=True)
    found = handed(run, folder, options, group)
    assert len(assemblies) == 1
    assert len(found) == 9
    raw = {one.host: one.sha256 for one in found if one.format == "raw-efi"}
    for one in found:
        if one.format == "packed":
            assert one.unpacked_sha256 == raw[one.host]
        if one.format == "qcow-efi":
            back = run.folder / "back"
            program("qemu-img", "convert", "-O", "raw", str(run.folder / one.path), str(back))
            file = next(run.folder / a.path for a in found if a.sha256 == raw[one.host])
            program("cmp", str(back), str(file))
    left = {path.name for path in folder.iterdir()}
    images = {one.file_name for one in found}
    assert left == images | {f"{name}.cdx.json" for name in images}


def test_check_assembles_each_device_again(
    run: Run, spec: ImageSpec, assemblies: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ImageOptions(check=True)
    made(run, "together", wanted(spec, DEVICES, options), options)
    assert len(assemblies) == 1 + len(DEVICES)
    assert capsys.readouterr().out.count("two builds are identical") == len(DEVICES)


def test_other_files_or_other_sizes_are_another_shape(spec: ImageSpec) -> None:
    def of(*entries: Entry) -> typing.Hashable:
        return shape(spec, entries)

    one = Entry("etc/a", "file", 0o600, data=b"x")
    assert of(one) == of(dataclasses.replace(one, data=b"y" * 4096))
    for other in (
        dataclasses.replace(one, data=b"y" * 4097),
        dataclasses.replace(one, data=b""),
        dataclasses.replace(one, data=bytes(5)),
        dataclasses.replace(one, mode=0o644),
        dataclasses.replace(one, user=1),
        dataclasses.replace(one, path="etc/b"),
    ):
        assert of(one) != of(other)
    assert of(one) != of(one, dataclasses.replace(one, path="etc/b"))


def test_a_secret_of_a_later_device_that_the_image_has_already_is_told(
    run: Run, spec: ImageSpec
) -> None:
    options = ImageOptions()
    group = wanted(spec, DEVICES[:2], options)
    name = "etc/key"
    first, second = (
        dataclasses.replace(one, late=(*one.late, Entry(name, "file", 0o600, data=data)))
        for one, data in zip(group, (b"a harmless secret", b"kernel" * 100), strict=True)
    )
    with pytest.raises(FilesystemError, match="/etc/key: the image also has the first bytes"):
        made(run, "together", [first, second], options)


def test_a_file_that_is_not_as_expected_is_not_changed(
    run: Run, spec: ImageSpec, tmp_path: pathlib.Path
) -> None:
    image = tmp_path / "raw"
    late = late_entries(ImageOptions(), DEVICES[0], spec.late)
    layout = assembler.assemble(spec, image, tmp_path, late)
    for path, data in (
        ("etc/hostname", b"other\n" * 5),
        ("etc/hostname", b"x" * 4097),
        ("etc/nothing", b"x"),
        ('etc/"', b"x"),
    ):
        with pytest.raises(FilesystemError):
            Files(image, layout.root, {path: data})
    files = Files(image, layout.root, {"etc/hostname": b"a\n"})
    with pytest.raises(FilesystemError, match="has 1 blocks, not 2"):
        files.changes({"etc/hostname": b"x" * 4097})


def test_too_little_room_for_a_fleet_is_told_before_it_is_made(
    run: Run, spec: ImageSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SCARCE", 1 << 62)
    options = ImageOptions()
    with pytest.raises(
        AgentError, match=r"2 more images of .* need .* MiB, and the disk"
    ) as caught:
        made(run, "together", wanted(spec, DEVICES, options), options)
    assert caught.value.kind == "disk"
    assert list((run.folder / "together").iterdir()) == []


def test_each_file_system_that_replaces_has_a_class() -> None:
    assert stamping.REPLACERS.keys() == {name for name, row in FILESYSTEMS.items() if row.replaces}
