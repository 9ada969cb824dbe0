"""Tests the way from a spec to delivered files, and that `--check` can fail."""

import dataclasses
import pathlib

import pytest

from orchestrator.agents.builder import fleet, imaging, sbom
from orchestrator.agents.builder.imaging import Wanted
from orchestrator.agents.builder.nix import Nix
from orchestrator.agents.builder.nix_settings import Settings
from orchestrator.agents.builder.post import Post
from orchestrator.agents.builder.store import Keeper
from orchestrator.image import assemble, convert
from orchestrator.image.filesystems.filesystem import FilesystemError
from orchestrator.image.late import Device, late_entries
from orchestrator.image.layout import Layout
from orchestrator.image.loaders.signing import Signer
from orchestrator.image.tree import Entry, TreeError
from orchestrator.shared.artifact import Built
from orchestrator.shared.disk_formats import DiskFormat
from orchestrator.shared.image_options import ImageOptions, Injection, apply
from orchestrator.shared.run import Run
from orchestrator.shared.spec import Compression, ImageSpec
from orchestrator.shared.task import DemoTask, Task
from tests.tools.nix_store import add, made_up

pytestmark = pytest.mark.own_store


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ImageSpec:
    return made_up(tmp_path_factory.mktemp("system"))


@pytest.fixture
def run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr("orchestrator.shared.run.WORK", tmp_path)
    (tmp_path / "run/image").mkdir(parents=True)
    return Run("run", ("aarch64-linux",), 1, 1, 1)


def make(run: Run, spec: ImageSpec, options: ImageOptions) -> list[str]:
    """Make an image; return the names of the files in the run's image folder afterwards."""
    folder = run.folder / "image"
    try:
        wanted = apply(options, spec)
        parts = sbom.parts_of_spec(wanted, ())
        late = late_entries(options, Device(), wanted.late)
        one = Wanted(wanted, Device(), late, parts)
        imaging.Group(run, folder, options, [one], lambda *_: None).make()
    finally:
        found = sorted(path.name for path in folder.iterdir())
    return found


@pytest.mark.parametrize(
    ("kind", "packed", "name"),
    [
        ("raw", "none", "made-up.img"),
        ("vhdx", "none", "made-up.vhdx"),
        ("qcow2", "zstd", "made-up.qcow2.zst"),
    ],
)
def test_what_is_delivered_is_checked_as_it_is_delivered(
    kind: DiskFormat,
    packed: Compression,
    name: str,
    run: Run,
    spec: ImageSpec,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ImageOptions(check=True, disk_format=kind, compression=packed)
    assert make(run, spec, options) == [name, f"{name}.cdx.json"]
    assert "two builds are identical" in capsys.readouterr().out


def test_an_image_for_amazon_is_described(
    run: Run, spec: ImageSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imaging, "image_info", lambda spec, size: f"{spec.file_name} {size}")
    for_amazon = dataclasses.replace(spec, format="amazon")
    name = "made-up.img"
    found = make(run, for_amazon, ImageOptions())
    assert found == [name, f"{name}.cdx.json", f"{name}.image-info.json"]
    size = (run.folder / "image" / name).stat().st_size
    assert (run.folder / f"image/{found[-1]}").read_text() == f"{name} {size}"


def test_an_assembly_that_differs_is_told_with_its_place(
    run: Run, spec: ImageSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsteady(
        spec: ImageSpec,
        target: pathlib.Path,
        scratch: pathlib.Path,
        late: tuple[Entry, ...],
        *,
        mapped: bool,
        signer: Signer | None,
    ) -> Layout:
        layout = assemble.assemble(spec, target, scratch, late, mapped=mapped, signer=signer)
        if target.parent.name == "second":
            with target.open("r+b") as image:
                image.seek(layout.root.start + 1024 + 0x78)  # offset of the label in an ext4
                image.write(b"other")
        return layout

    monkeypatch.setattr(imaging, "assemble", unsteady)
    with pytest.raises(FilesystemError, match=r"two raw images differ at byte \d+: .*nixos"):
        make(run, spec, ImageOptions(check=True))
    assert list((run.folder / "image").iterdir()) == []


def test_a_conversion_that_differs_is_told(
    run: Run, spec: ImageSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(convert.FIXES, "vhdx")
    with pytest.raises(FilesystemError, match=r"two builds of made-up.vhdx differ at byte"):
        make(run, spec, ImageOptions(check=True, disk_format="vhdx"))
    assert list((run.folder / "image").iterdir()) == []


def test_a_secret_that_is_elsewhere_too_is_told_with_a_way_out(
    run: Run, spec: ImageSpec, tmp_path: pathlib.Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("kernel" * 1000)  # start of the made-up system's kernel
    with pytest.raises(FilesystemError, match=r"this secret elsewhere .with mode 644 "):
        make(run, spec, ImageOptions(injections=(Injection(str(secret), "/etc/key", 0o600),)))
    assert list((run.folder / "image").iterdir()) == []


def test_a_file_of_zeros_is_no_secret(run: Run, spec: ImageSpec, tmp_path: pathlib.Path) -> None:
    blank = tmp_path / "blank"
    blank.write_bytes(bytes(1 << 20))
    options = ImageOptions(injections=(Injection(str(blank), "/swap", 0o600),))
    assert "made-up.img" in make(run, spec, options)


@pytest.mark.parametrize("itself", [False, True])
def test_what_a_recipe_has_made_is_delivered_and_nothing_that_it_links_to(
    run: Run, tmp_path: pathlib.Path, *, itself: bool
) -> None:
    """By then, the builder may read late values."""
    secrets, output = tmp_path / "late", tmp_path / "output"
    secrets.mkdir()
    (secrets / "of-a-device").write_text("made-up secret")
    if itself:
        output.symlink_to(secrets)
    else:
        output.mkdir()
        (output / "disk.img").symlink_to(secrets / "of-a-device")
    built = Built(pathlib.Path(add(output)), "x86_64-linux", "netboot")
    keeper = Keeper(Nix(Settings(), tmp_path / "log"))
    post = Post(run, Task(DemoTask("x86_64-linux"), False, ()))
    with pytest.raises(TreeError, match="the image's spec does not name"):
        fleet.make(run, run.folder / "image", [built], ImageOptions(), keeper, post)
    assert list((run.folder / "image").iterdir()) == []
