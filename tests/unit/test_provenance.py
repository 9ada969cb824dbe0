"""Tests the provenance: required fields of in-toto and SLSA, no secrets."""

import dataclasses
import json
import pathlib
import re
import subprocess

import pytest

from orchestrator.ask.uploads import TREES
from orchestrator.deliver import provenance
from orchestrator.docker.workspace import ROOTS_OWN
from orchestrator.shared.image_options import ImageOptions, Injection
from orchestrator.shared.nix_options import NixOptions
from tests.unit.artifacts import ABOUT, IMAGE
from tests.unit.requests import BUILD, CALLER

ROOT = pathlib.Path(__file__).parents[2]
P = pathlib.PurePosixPath


@pytest.fixture(autouse=True)
def checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "ROOT", ROOT)


def test_the_statement_has_what_in_toto_and_slsa_demand() -> None:
    document = provenance.statement(IMAGE, "d" * 64, ABOUT)
    assert document.keys() == {"_type", "subject", "predicateType", "predicate"}
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["predicateType"] == "https://slsa.dev/provenance/v1"
    assert document["subject"] == [{"name": "demo.img", "digest": {"sha256": IMAGE.sha256}}]
    definition = document["predicate"]["buildDefinition"]
    assert definition.keys() == {
        *("buildType", "externalParameters", "internalParameters", "resolvedDependencies")
    }
    details = document["predicate"]["runDetails"]
    assert details.keys() == {"builder", "metadata", "byproducts"}
    for uri in (definition["buildType"], details["builder"]["id"]):
        assert re.fullmatch(r"[a-z][a-z0-9+.-]*:\S+", uri)
    assert details["metadata"] == {
        "invocationId": "0badcafe",
        "startedOn": "2027-01-15T08:00:00Z",
        "finishedOn": "2027-01-15T08:01:00Z",
    }
    assert details["byproducts"][0]["digest"] == {"sha256": "d" * 64}
    assert json.loads(json.dumps(document)) == document


def test_nix_version_is_told_where_all_is_told_that_nobody_has_asked_for() -> None:
    document = provenance.statement(IMAGE, "d" * 64, ABOUT)
    internal = document["predicate"]["buildDefinition"]["internalParameters"]
    assert internal["nix"] == "2.34.8"


def test_what_it_was_made_of_is_there_with_its_hashes() -> None:
    document = provenance.statement(IMAGE, "d" * 64, ABOUT)
    found = document["predicate"]["buildDefinition"]["resolvedDependencies"]
    for one in found:  # a ResourceDescriptor
        assert one.keys() & {"uri", "digest"}
        assert one.keys() <= {"name", "uri", "digest", "annotations"}
    by_name = {one["name"]: one for one in found}
    assert by_name["jq"]["digest"] == {"sha256": "a" * 64}
    assert "digest" not in by_name["tar"]
    assert by_name["builder's image"]["digest"] == {"sha256": "b" * 64}
    assert by_name["flake"]["digest"] == {"dirHash": "c" * 64}, "as it was when it came"
    assert "flake.lock" not in by_name, "the demo has no nixpkgs"
    for name in (f"locks/{path.name}" for path in (ROOT / "locks").iterdir()):
        command = ["sha256sum", str(ROOT / name)]
        digest = subprocess.run(command, capture_output=True, text=True, check=True).stdout[:64]
        assert by_name[name]["digest"] == {"sha256": digest}


@pytest.mark.parametrize(
    ("changes", "used"),
    [
        ({}, True),
        ({"configuration": None, "flake": "github:me/x", "attribute": "pi"}, False),
        ({"configuration": None, "flake": P("/x"), "attribute": "pi"}, False),
        ({"nixpkgs": "channel:nixos-26.05"}, False),
        ({"nixpkgs": P("/n")}, False),
    ],
)
def test_the_lock_of_the_checkouts_own_flake_is_told_where_it_pins(
    changes: dict[str, object], used: bool
) -> None:
    request = dataclasses.replace(BUILD, **changes)  # type: ignore[arg-type]
    names = [one["name"] for one in provenance.locks(ROOT, request)]
    assert ("flake.lock" in names) == used
    assert "locks/clover.json" in names


def test_what_nix_was_set_to_is_told_as_the_builder_has_said() -> None:
    document = provenance.statement(IMAGE, "d" * 64, ABOUT)
    inside = document["predicate"]["buildDefinition"]["internalParameters"]
    assert inside["nixSettings"] == {"sandbox": "true"}
    assert inside["otherNixSettings"] == ["access-tokens"]


SECRETS = ("hunter2", "/home/me", "mypassword", "MyNetwork", "secret.key")

SECRETIVE = dataclasses.replace(
    BUILD,
    configuration=P("/home/me/pi/configuration.nix"),
    flake="git+https://me:hunter2@example.org/x",
    nixpkgs=P("/home/me/nixpkgs"),
    nix_options=NixOptions(
        substituters=("https://u:hunter2@cache.example.org",),
        options=(("cores", "1"),),
        nix_conf="/home/me/nix.conf",
        arguments=(("who", "world"),),
        cores=3,
    ),
    search_path=(("a", P("/home/me/a")), ("b", "https://me:hunter2@example.org/b")),
    sign=P("/home/me/secret.key"),
    image=ImageOptions(
        compression="zstd",
        wifi_ssid="MyNetwork",
        wifi_password_file="/home/me/mypassword",
        identity_seed="/home/me/mypassword",
        injections=(Injection("/home/me/mypassword", "/etc/x", 0o600),),
        secure_boot_key="/home/me/secret.key",
        secure_boot_cert="/home/me/secret.crt",
    ),
)


def test_parameters_are_what_was_asked_for_without_secrets_and_homes() -> None:
    found = provenance.parameters(SECRETIVE, CALLER)
    text = json.dumps(found)
    for secret in SECRETS:
        assert secret not in text
    assert found["command"] == "build"
    assert found["configuration"] == "configuration.nix"
    assert found["flake"] == "git+https://example.org/x"
    assert found["options"] == {"cores": "1"}
    assert found["nix_conf"] == "nix.conf"
    assert found["image"] == {"compression": "zstd"}
    assert found["late"] == [
        *("wifi_ssid", "wifi_password_file", "injections"),
        *("secure_boot_key", "secure_boot_cert", "identity_seed"),
    ]
    assert found["search_path"] == [["a", "a"], ["b", "https://example.org/b"]]
    assert found["arguments"] == [["who", "world"]]
    assert found["substituters"] == ["https://cache.example.org"]
    assert not {"cores", "nix_options"}.intersection(found), "it changes nothing in an image"
    assert "systems" not in found, "what was not asked for is not there"


def test_every_late_value_is_known_to_be_one() -> None:
    """A new secret image option must not be recorded by accident."""
    known = {
        *("partition_table", "disk_size", "boot_size", "firmware_size", "additional_space"),
        *("disk_format", "compression", "bmap", "check"),
    }
    fields = {field.name for field in dataclasses.fields(ImageOptions)}
    assert fields == known | set(provenance.LATE)


def test_the_hash_of_a_folder_is_what_the_specifications_command_says(
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/x y").write_text("1")
    (tmp_path / "b.nix").write_text("2")
    (tmp_path / "ü").write_bytes(b"\xff")
    (tmp_path / "link").symlink_to("b.nix")
    command = "find . -type f | cut -c3- | LC_ALL=C sort | xargs -r -d '\\n' sha256sum | sha256sum"
    expected = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout[:64]
    assert provenance.directory_hash(tmp_path) == expected
    (tmp_path / "b.nix").write_text("3")
    assert provenance.directory_hash(tmp_path) != expected


@pytest.mark.parametrize("by", ["--nixpkgs", "-I nixpkgs", "NIX_PATH", "--appliance nixpkgs"])
def test_a_configuration_is_there_by_the_hash_of_its_folder(
    by: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.ask.uploads.WORK", tmp_path)
    tree = tmp_path / CALLER.run / "input/home/me/pi"
    (tree / "hosts").mkdir(parents=True)
    (tree / "hosts/configuration.nix").write_text("{ }")
    (tmp_path / CALLER.run / ROOTS_OWN).mkdir()
    (tmp_path / CALLER.run / ROOTS_OWN / TREES).write_text("/home/me/pi\0/home/me/nixpkgs\0")
    request = dataclasses.replace(
        BUILD,
        configuration=P("/home/me/pi/hosts/configuration.nix"),
        nixpkgs=P("/home/me/nixpkgs"),
        nixpkgs_by=by,
    )
    assert provenance.sent(request, CALLER, []) == [
        {
            "name": "configuration",
            "digest": {"dirHash": provenance.directory_hash(tree)},
            "annotations": {"path": "hosts/configuration.nix"},
        }
    ]


def test_the_computer_that_chooses_a_flakes_configuration_is_told() -> None:
    who = dataclasses.replace(CALLER, computer="moon")
    flake = dataclasses.replace(BUILD, configuration=None, flake=P("/x"))
    assert provenance.parameters(flake, who)["computer"] == "moon"
    named = dataclasses.replace(flake, attribute="pi")
    assert "computer" not in provenance.parameters(named, who)
    assert "computer" not in provenance.parameters(BUILD, who)


def test_replaced_inputs_are_told_by_their_last_names() -> None:
    overrides = (("a", P("/home/me/b"), "c"), ("d", "git+https://me:hunter2@example.org/x", ""))
    flake = dataclasses.replace(BUILD, flake=P("/x"), attribute="pi", overrides=overrides)
    assert provenance.parameters(flake, CALLER)["overrides"] == [
        ["a", "b", "c"],
        ["d", "git+https://example.org/x", ""],
    ]
