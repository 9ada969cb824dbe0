"""Tests names of image files: what they are made of, and which existing files end a run."""

import dataclasses
import pathlib
import re

import pytest

from orchestrator.ask.request import ImageRequest
from orchestrator.decide.make_task import configuration_name
from orchestrator.deliver.names import Announced, check_free, file_names
from orchestrator.shared.artifact import BESIDE
from orchestrator.shared.errors import BuildError, DeliveryError, UsageError
from orchestrator.shared.image_options import ImageOptions
from tests.unit.requests import BUILD

ROOT = pathlib.Path(__file__).parents[2]
P = pathlib.PurePosixPath
CARD = {"name": "pi-sd", "diskFormat": "raw", "compression": "zstd"}


def asked(**options: object) -> ImageRequest:
    return dataclasses.replace(BUILD, image=ImageOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("file", "options", "hosts", "names"),
    [
        (Announced("pi-sd", "raw", "zstd"), {}, ("",), ("pi-sd.img.zst",)),
        (Announced("a", "qcow2"), {"disk_format": "vdi"}, ("",), ("a.vdi",)),
        (Announced("a", "raw", "zstd"), {"compression": "none"}, ("",), ("a.img",)),
        (Announced("a", "raw"), {}, ("x", "y"), ("a-x.img", "a-y.img")),
        (Announced("nixos.iso"), {"compression": "xz"}, ("",), ("nixos.iso",)),
    ],
)
def test_a_name_is_that_of_the_file_that_will_be_made(
    file: Announced, options: dict[str, object], hosts: tuple[str, ...], names: tuple[str, ...]
) -> None:
    assert file_names(file, asked(**options), hosts) == names


@pytest.mark.parametrize("beside", ["", *BESIDE])
def test_somebodys_file_in_an_images_place_ends_the_run_before_it_builds(beside: str) -> None:
    with pytest.raises(DeliveryError, match=re.escape(f"out/pi-sd.img.zst{beside} exists")):
        check_free(CARD, BUILD, ("",), frozenset({f"pi-sd.img.zst{beside}"}))


@pytest.mark.parametrize("name", ["", "-a", ".a", "a/b", "a" * 245])
def test_a_name_that_no_file_can_have_ends_the_run_before_it_builds(name: str) -> None:
    with pytest.raises(UsageError, match="is not allowed as a file name"):
        check_free({**CARD, "name": name}, BUILD, ("alpha",), frozenset())


def test_files_of_other_names_stay_and_do_not_matter() -> None:
    others = {"pi-sd.img", "pi-sd.img.zst.txt", "pi-sd.img.zst~", "result.json", "build.log", ""}
    check_free(CARD, BUILD, ("",), frozenset(others))


@pytest.mark.parametrize(
    "told", [None, [], {"name": 1}, {"name": "a", "diskFormat": "floppy"}, {"name": "a", "x": 1}]
)
def test_what_a_builder_may_not_say_is_its_own_fault(told: object) -> None:
    with pytest.raises(BuildError, match="announcement is invalid"):
        check_free(told, BUILD, ("",), frozenset())


@pytest.mark.parametrize(
    ("configuration", "name"),
    [
        (P("/home/me/pi.nix"), "pi"),
        (P("/home/me/configuration.nix"), "configuration"),
        (P("/home/me/server/default.nix"), "server"),
        (P("/default.nix"), ""),
        (None, ""),
    ],
)
def test_a_configuration_is_called_after_its_file(
    configuration: pathlib.PurePosixPath | None, name: str
) -> None:
    assert configuration_name(configuration) == name


def test_run_sh_knows_the_same_files_beside_an_image() -> None:
    (said,) = re.findall(r"^beside='(.*)'$", (ROOT / "caller/named.sh").read_text(), re.MULTILINE)
    assert sorted(said.split()) == sorted(BESIDE)
    assert said.split()[:2] == [".sha256.sig", ".sha256"], "what vouches for an image goes first"
