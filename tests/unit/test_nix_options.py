"""Tests that each Nix option is one field from the command line to the builder."""

import dataclasses

from orchestrator.shared.nix_options import OPTIONS, NixOptions
from orchestrator.verbs import registry


def test_each_field_is_an_option_of_the_build() -> None:
    fields = dataclasses.fields(NixOptions)
    words = registry.verb("build").parser().format_help().split()
    assert [OPTIONS[field.name].flag for field in fields] == [one.flag for one in OPTIONS.values()]
    assert {option.flag for option in OPTIONS.values()} <= set(words)


def test_only_files_are_sent() -> None:
    asked = NixOptions(nix_conf="/home/me/nix.conf", substituters=("/x",))
    assert asked.files == {"--nix-conf": "/home/me/nix.conf"}
    assert NixOptions().files == {}
