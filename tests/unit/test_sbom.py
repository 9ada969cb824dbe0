"""Tests bills of materials: names, package URLs, CycloneDX' schema."""

import dataclasses
import importlib.resources
import json
import pathlib
import typing

import jsonschema
import pytest
import referencing

from orchestrator.agents.builder import sbom
from orchestrator.shared.artifact import Material

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
    return sbom.StorePath(f"/nix/store/{HASH}-{name}", "sha256-x", 128, references)


SYSTEM = path("nixos-system-pi-26.05", f"/nix/store/{HASH}-glibc-2.40-66", f"/nix/store/{HASH}-etc")
NIXOS = sbom.Parts(
    (SYSTEM.path,),
    (path("etc"), path("glibc-2.40-66", f"/nix/store/{HASH}-glibc-2.40-66"), SYSTEM),
    (),
)
PACKAGE = Material("jq", "1.7-1", "pkg:deb/debian/jq@1.7-1?arch=all&distro=x", {"sha256": "a" * 64})
DEMO = dataclasses.replace(NIXOS, packages=(PACKAGE,))


def validator() -> jsonschema.protocols.Validator:
    """Validator of the official schema of CycloneDX 1.6, with the schemas that it refers to."""
    names = ("bom-1.6.SNAPSHOT", "spdx.SNAPSHOT", "jsf-0.82.SNAPSHOT")
    folder = importlib.resources.files("cyclonedx.schema") / "_res"
    schemas = [json.loads((folder / f"{name}.schema.json").read_text()) for name in names]
    registry = referencing.Registry().with_resources(
        (schema["$id"], referencing.Resource.from_contents(schema)) for schema in schemas
    )
    kind = jsonschema.validators.validator_for(schemas[0])
    return kind(schemas[0], registry=registry, format_checker=kind.FORMAT_CHECKER)


CYCLONEDX = validator()


def check_document(document: dict[str, typing.Any]) -> None:
    """Check the schema, and that each reference exists exactly once."""
    assert document["specVersion"] == "1.6"
    CYCLONEDX.validate(document)
    references = [one["bom-ref"] for one in document["components"]]
    references.append(document["metadata"]["component"]["bom-ref"])
    assert len(set(references)) == len(references)
    assert sorted(one["ref"] for one in document["dependencies"]) == sorted(references)
    for one in document["dependencies"]:
        assert set(one["dependsOn"]) <= set(references) - {one["ref"]}


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("version", "one"),
        ("serialNumber", "1"),
        ("components", [{"type": "library"}]),
        ("components", [{"type": "program", "name": "a"}]),
        ("metadata", {"lifecycles": [{"phase": "now"}]}),
        ("unknown", 1),
    ],
)
def test_the_schema_refuses_what_is_none(part: str, value: object) -> None:
    document = sbom.document("demo.img", "c" * 64, DEMO) | {part: value}
    with pytest.raises(jsonschema.ValidationError):
        CYCLONEDX.validate(document)


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
