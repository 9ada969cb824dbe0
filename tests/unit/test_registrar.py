"""Tests the registrar's last check: if cleanup has ended, it removes its own entries."""

import pathlib

import pytest

from orchestrator.agents.emulation import binfmt, registrar
from orchestrator.agents.failure import AgentError


def test_what_was_registered_after_cleanups_end_is_removed_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.touch()
    removed: list[str] = []

    def register(line: str) -> binfmt.Entry:
        token.unlink(missing_ok=True)  # as if cleanup had ended just now
        return binfmt.Entry(line.split(":")[1], True, "", "PF", "enabled\n")

    monkeypatch.setenv("NIXOS_IMAGE_RUN", "0badcafe")
    monkeypatch.setenv("NIXOS_IMAGE_SYSTEMS", "aarch64-linux riscv64-linux")
    monkeypatch.setattr(registrar, "TOKEN_FILE", token)
    monkeypatch.setattr(binfmt, "mount", lambda: None)
    monkeypatch.setattr(binfmt, "register", register)
    monkeypatch.setattr(binfmt, "remove", removed.append)
    with pytest.raises(AgentError, match="cleanup ended"):
        registrar.register()
    assert removed == ["nixos-image-0badcafe-aarch64", "nixos-image-0badcafe-riscv64"]
