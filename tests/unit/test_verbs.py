"""What verbs decide by themselves: which run Compose's looking verbs are shown."""

import pytest

from orchestrator import verbs
from orchestrator.engine import Engine

Containers = dict[str, tuple[str, bool]]

ONE = {
    "nixos-image-aaaaaaaa": ("aaaaaaaa", True),
    "nixos-image-aaaaaaaa-builder-1": ("aaaaaaaa", True),
}


@pytest.mark.parametrize(
    ("containers", "project"),
    [
        ({}, "nixos-image"),
        (ONE, "nixos-image-aaaaaaaa"),
        # Others that only look, or are about to start.
        ({**ONE, "nixos-image-bbbbbbbb": ("bbbbbbbb", True)}, "nixos-image-aaaaaaaa"),
        ({**ONE, "nixos-image-bbbbbbbb-prepare": ("bbbbbbbb", True)}, "nixos-image-aaaaaaaa"),
        ({**ONE, "nixos-image-bbbbbbbb-send": ("bbbbbbbb", True)}, "nixos-image-aaaaaaaa"),
        ({**ONE, "nixos-image-bbbbbbbb-builder-1": ("bbbbbbbb", False)}, "nixos-image-aaaaaaaa"),
        # Two runs: which one is meant cannot be known.
        ({**ONE, "nixos-image-bbbbbbbb-boot-1": ("bbbbbbbb", True)}, "nixos-image"),
        ({"nixos-image-builder-1": ("compose", True)}, "nixos-image"),
    ],
)
def test_what_looks_is_shown_the_run_that_lives(
    containers: Containers, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "containers", lambda _: containers)
    command = verbs.compose_command(("logs", "-f"))
    assert command[command.index("--project-name") + 1] == project
    assert command[-2:] == ["logs", "-f"]


def test_ps_tells_of_boots_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "containers", lambda _: {})
    assert verbs.compose_command(("ps", "-q"))[-3:] == ["ps", "--all", "-q"]


def test_other_verbs_are_those_of_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "containers", lambda _: ONE)
    command = verbs.compose_command(("config",))
    assert command[command.index("--project-name") + 1] == "nixos-image"
    assert command[-3:] == ["--profile", "*", "config"]
