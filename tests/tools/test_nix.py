"""The real Nix: what it reads, and what it leaves to others."""

import os
import pathlib

import pytest

from orchestrator.agents.builder.nix import DESCRIPTOR, Nix, Settings

pytestmark = pytest.mark.own_store


def test_nix_alone_reads_the_callers_own_configuration(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nix has it; its environment and what it starts have not, nor has a second reader."""
    monkeypatch.setattr("orchestrator.agents.builder.nix.STORE", tmp_path)
    spy = tmp_path / "nix"
    spy.write_text(
        "#!/bin/sh\ncat /proc/self/environ > $0.environ\nPATH=${PATH#*:}\n"
        'for i in 1 2; do nix config show access-tokens >> "$0.said"; done\n'
        f"cat /proc/self/fd/{DESCRIPTOR} >> $0.left\n"
    )
    spy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    nix = Nix(Settings(), tmp_path / "log", secret="access-tokens = example.org=secret\n")
    nix.run(["build"])
    assert (tmp_path / "nix.said").read_text().split("\n") == [" example.org=secret", "", ""]
    assert "secret" not in (tmp_path / "nix.environ").read_text()
    assert (tmp_path / "nix.left").read_text() == ""
    assert "secret" not in repr(nix)
