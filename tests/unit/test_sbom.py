"""The bill of materials: names, package URLs, the document against CycloneDX' schema."""

import dataclasses
import json
import pathlib
import re
import typing

import pytest

from orchestrator.agents.builder import sbom
from orchestrator.shared.artifact import Material
from orchestrator.shared.spec import ImageSpec
from tests.unit.nix_store import NEEDED, made_up

HASH = "0123456789abcdfghijklmnpqrsvwxyz"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("glibc-2.40-66", ("glibc", "2.40-66", "")),
        ("glibc-2.40-66-bin", ("glibc", "2.40-66", "bin")),
        ("bash-interactive-5.3p3", ("bash-interactive", "5.3p3", "")),
        ("python3.13-foo-1.0", ("python3.13-foo", "1.0", "")),
        ("linux-6.12.3-modules", ("linux", "6.12.3", "modules")),
        ("etc", ("etc", "", "")),
        ("unit-sshd.service", ("unit-sshd.service", "", "")),
        ("x-1-bin", ("x", "1", "bin")),
        ("x-1-unknown", ("x", "1-unknown", "")),
        ("-1", ("-1", "", "")),
    ],
)
def test_names_are_told_from_versions_as_nix_does(
    name: str, expected: tuple[str, str, str]
) -> None:
    assert sbom.parse_name(f"/nix/store/{HASH}-{name}") == expected


def test_package_urls_are_quoted_as_their_specification_says() -> None:
    assert (
        sbom.debian_purl("libstdc++6", "1:14.2~rc1+b2-1", "arm64", "trixie")
        == "pkg:deb/debian/libstdc%2B%2B6@1:14.2~rc1%2Bb2-1?arch=arm64&distro=trixie"
    )
    assert sbom.nix_purl("glibc", "2.40-66", "bin") == "pkg:nix/glibc@2.40-66?output=bin"
    assert sbom.nix_purl("a b", "1", "") == "pkg:nix/a%20b@1"


def path(name: str, *references: str) -> sbom.StorePath:
    return sbom.StorePath(f"/nix/store/{HASH}-{name}", "sha256-x", references)


SYSTEM = path("nixos-system-pi-26.05", f"/nix/store/{HASH}-glibc-2.40-66", f"/nix/store/{HASH}-etc")
NIXOS = sbom.Parts(
    (SYSTEM.path,),
    (path("etc"), path("glibc-2.40-66", f"/nix/store/{HASH}-glibc-2.40-66"), SYSTEM),
    (),
)
PACKAGE = Material("jq", "1.7-1", "pkg:deb/debian/jq@1.7-1?arch=all&distro=x", {"sha256": "a" * 64})
DEMO = dataclasses.replace(NIXOS, packages=(PACKAGE,))

#: Of `bom-1.6.schema.json`: required fields, and those that there may be, with what they hold.
COMPONENT = {
    "type": r"application|library|operating-system|file",
    "bom-ref": r".+",
    "name": r".+",
    "version": r".+",
    "purl": r"pkg:[a-z]+/.+",
}
ALGORITHMS = {"SHA-256": r"[0-9a-f]{64}"}


def check_component(component: dict[str, typing.Any]) -> None:
    assert {"type", "name"} <= component.keys() <= {*COMPONENT, "hashes", "properties"}
    for field, pattern in COMPONENT.items():
        if field in component:
            assert re.fullmatch(pattern, component[field]), (field, component)
    for one in component.get("hashes", []):
        assert one.keys() == {"alg", "content"}
        assert re.fullmatch(ALGORITHMS[one["alg"]], one["content"])
    for one in component.get("properties", []):
        assert one.keys() == {"name", "value"}
        assert all(isinstance(value, str) for value in one.values())


def check_document(document: dict[str, typing.Any]) -> None:
    """What the schema of CycloneDX 1.6 demands of the parts that are used here."""
    assert document.keys() == {
        *("bomFormat", "specVersion", "serialNumber", "version", "metadata", "components"),
        "dependencies",
    }
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert re.fullmatch(
        r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        document["serialNumber"],
    )
    assert document["version"] == 1
    metadata = document["metadata"]
    assert metadata.keys() == {"lifecycles", "tools", "component"}
    assert metadata["lifecycles"] == [{"phase": "build"}]
    for component in (metadata["component"], *metadata["tools"]["components"]):
        check_component(component)
    references = [metadata["component"]["bom-ref"]]
    for component in document["components"]:
        check_component(component)
        references.append(component["bom-ref"])
    assert len(set(references)) == len(references)
    assert sorted(one["ref"] for one in document["dependencies"]) == sorted(references)
    for one in document["dependencies"]:
        assert one.keys() == {"ref", "dependsOn"}
        assert one["ref"] in references
        assert set(one["dependsOn"]) <= set(references) - {one["ref"]}
        assert len(set(one["dependsOn"])) == len(one["dependsOn"])


@pytest.mark.parametrize("parts", [NIXOS, DEMO])
def test_the_document_is_cyclonedx(parts: sbom.Parts) -> None:
    check_document(sbom.document("demo.img", "c" * 64, parts))


def test_a_nixos_has_packages_of_nixpkgs_and_files() -> None:
    document = sbom.document("demo.img", "c" * 64, NIXOS)
    found = {one["name"]: one for one in document["components"]}
    assert found["glibc"]["purl"] == "pkg:nix/glibc@2.40-66"
    assert (found["glibc"]["type"], found["etc"]["type"]) == ("library", "file")
    assert "purl" not in found["etc"]
    assert {"name": "nix:nar_hash", "value": "sha256-x"} in found["etc"]["properties"]
    needs = {one["ref"]: one["dependsOn"] for one in document["dependencies"]}
    assert needs["image"] == [SYSTEM.path]
    assert needs[SYSTEM.path] == list(SYSTEM.references)
    assert document["metadata"]["component"]["hashes"][0]["content"] == "c" * 64


def test_the_demo_has_debians_packages_and_none_of_nixpkgs() -> None:
    document = sbom.document("demo.img", "c" * 64, DEMO)
    purls = [one["purl"] for one in document["components"] if "purl" in one]
    assert purls == [PACKAGE.uri]
    assert document["components"][0]["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert PACKAGE.uri in document["dependencies"][0]["dependsOn"]


def test_the_same_image_has_the_same_document_and_another_another(tmp_path: pathlib.Path) -> None:
    image = tmp_path / "demo.img"
    texts = [sbom.write(image, digest * 64, DEMO).read_text() for digest in ("c", "c", "d")]
    assert texts[0] == texts[1] != texts[2]
    assert sbom.write(image, "c" * 64, DEMO).name == "demo.img.cdx.json"
    numbers = {json.loads(text)["serialNumber"] for text in texts}
    assert len(numbers) == 2


# --- a real store ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ImageSpec:
    return made_up(tmp_path_factory.mktemp("sbom"))


LOADERS = tuple(
    Material(name, "1", f"pkg:deb/debian/{name}@1", {"sha256": "a" * 64})
    for name in ("systemd-boot-efi", "grub-pc-bin", "busybox-static")
)


@NEEDED
def test_what_an_image_is_made_of_is_what_its_spec_names(spec: ImageSpec) -> None:
    nixpkgs = Material("nixpkgs", "1", "git+https://example.org/x@1", {})
    parts = sbom.parts_of_spec(spec, (*LOADERS, nixpkgs))
    assert {one.path for one in parts.paths} == {spec.toplevel, *spec.additionalPaths}
    assert all(re.fullmatch(r"sha256-[A-Za-z0-9+/]{43}=", one.nar_hash) for one in parts.paths)
    assert [one.name for one in parts.packages] == ["systemd-boot-efi", "busybox-static"]
    check_document(sbom.document("x.img", "c" * 64, parts))


@NEEDED
def test_a_loader_beside_the_closure_is_part_of_the_image(spec: ImageSpec) -> None:
    lean = dataclasses.replace(spec, additionalPaths=())
    loader = spec.bootLoader.systemdBoot
    assert loader in {one.path for one in sbom.parts_of_spec(lean, ()).paths}
    without = dataclasses.replace(lean, partitionTable="none")
    assert loader not in {one.path for one in sbom.parts_of_spec(without, ()).paths}


@NEEDED
def test_an_output_that_was_not_built_here_is_described_by_itself(spec: ImageSpec) -> None:
    parts = sbom.parts_of_output(pathlib.Path(spec.toplevel))
    assert parts.roots == (spec.toplevel,)


@NEEDED
def test_the_tools_are_this_containers_packages() -> None:
    found = {one.name: one for one in sbom.installed()}
    assert "arch=" in found["nix-bin"].uri
    assert found["nix-bin"].version
