"""Tests bills of materials of a real Nix store, and of this container's packages."""

import dataclasses
import pathlib
import re

import pytest

from orchestrator.agents.builder import sbom
from orchestrator.shared.artifact import Material
from orchestrator.shared.spec import ImageSpec, Limine
from tests.tools.nix_store import made_up
from tests.unit.test_sbom import check_document


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ImageSpec:
    return made_up(tmp_path_factory.mktemp("sbom"))


LOADERS = tuple(
    Material(name, "1", f"pkg:deb/debian/{name}@1", {"sha256": "a" * 64})
    for name in ("systemd-boot-efi", "grub-pc-bin", "busybox-static")
)


@pytest.mark.own_store
def test_what_an_image_is_made_of_is_what_its_spec_names(spec: ImageSpec) -> None:
    nixpkgs = Material("nixpkgs", "1", "git+https://example.org/x@1", {})
    parts = sbom.parts_of_spec(spec, (*LOADERS, nixpkgs))
    assert {one.path for one in parts.paths} == {spec.toplevel, *spec.additionalPaths}
    assert all(re.fullmatch(r"sha256-[A-Za-z0-9+/]{43}=", one.nar_hash) for one in parts.paths)
    assert [one.name for one in parts.packages] == ["systemd-boot-efi", "busybox-static"]
    check_document(sbom.document("x.img", "c" * 64, parts))


@pytest.mark.own_store
def test_a_loader_beside_the_closure_is_part_of_the_image(spec: ImageSpec) -> None:
    lean = dataclasses.replace(spec, additionalPaths=())
    loader = spec.bootLoader.systemdBoot
    assert loader in {one.path for one in sbom.parts_of_spec(lean, ()).paths}
    as_limine = dataclasses.replace(lean.bootLoader, systemdBoot="", limine=Limine(program=loader))
    limine = dataclasses.replace(lean, bootLoader=as_limine)
    assert loader in {one.path for one in sbom.parts_of_spec(limine, ()).paths}
    without = dataclasses.replace(lean, partitionTable="none")
    assert loader not in {one.path for one in sbom.parts_of_spec(without, ()).paths}


@pytest.mark.own_store
def test_an_output_that_was_not_built_here_is_described_by_itself(spec: ImageSpec) -> None:
    parts = sbom.parts_of_output(pathlib.Path(spec.toplevel))
    assert parts.roots == (spec.toplevel,)


@pytest.mark.own_store
def test_the_tools_are_this_containers_packages() -> None:
    found = {one.name: one for one in sbom.installed()}
    assert "arch=" in found["python3"].uri
    assert found["python3"].version


def test_nix_packages_are_among_the_tools_with_their_hashes() -> None:
    (nix,) = [one for one in sbom.installed() if one.name == "nix-bin"]
    assert nix.uri.endswith("&distro=forky")
    assert re.fullmatch(r"[0-9a-f]{64}", nix.digest["sha256"])
    # Nix' libraries come from another suite; the base suite's are listed, too.
    versions = [one.version for one in sbom.installed() if one.name == "libc6"]
    assert len(set(versions)) == 2
