"""Tests that each Nix option is one field from the command line to the builder."""

import argparse
import contextlib
import dataclasses

import pytest

from orchestrator.shared.nix_options import OPTIONS, NixOptions, cache_url
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


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://me:word@cache.example.org/x?priority=5", True),
        ("s3://bucket?region=x", True),
        ("file:///mnt/cache", True),
        ("ssh-ng://me@builder.example.org:22?remote-program=nix-daemon", True),
        ("ssh://[fe80::1]", True),
        ("ssh-ng://localhost?remote-program=/bin/sh%20-c%20id", False),
        ("ssh://localhost", False),
        ("ssh-ng://localhost/x", False),
        ("ssh-ng://%6cocalhost?remote-program=x", False),
        ("ssh-ng://loc%61lhost", False),
        ("mounted-ssh-ng://localhost?remote-program=x", False),
        ("local-overlay:///x?remount-hook=/bin/sh", False),
        ("local?root=/x", False),
        ("daemon", False),
        ("unix:///x", False),
        ("/x", False),
        ("https://a ssh://localhost", False),
        ("https://a\nssh://localhost", False),
    ],
)
def test_a_cache_runs_no_program_here(url: str, good: bool) -> None:
    with contextlib.nullcontext() if good else pytest.raises(argparse.ArgumentTypeError):
        assert cache_url(url) == url
