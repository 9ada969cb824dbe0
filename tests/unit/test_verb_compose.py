"""Tests `compose` and Compose's verbs: their lookup, and the run that they act on."""

import pytest

from orchestrator.docker import census
from orchestrator.shared.errors import UsageError
from orchestrator.verbs import compose, registry
from orchestrator.verbs.compose import Compose
from tests.unit.asking import ask, orders


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["ps"], Compose(("ps",))),
        (["down", "--rmi", "all", "-v"], Compose(("down", "--rmi", "all", "-v"))),
        (["logs", "--help"], Compose(("logs", "--help"))),
    ],
)
def test_words_become_a_request(argv: list[str], expected: object) -> None:
    assert ask(argv) == expected


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Compose(("ps",)), [["terminal"]]),
    ],
)
def test_orders(request_: object, expected: list[list[str]]) -> None:
    assert orders("compose", request_) == expected


def test_after_its_name_every_verb_is_composes() -> None:
    """Compose's verbs with the name of one of ours are reachable, too."""
    both = compose.VERBS.intersection(registry.names())
    assert both == {"build", "images", "version"} & set(registry.names())
    for verb in compose.VERBS:
        assert ask(["compose", verb, "-q"]) == Compose((verb, "-q"))
    for verb in compose.VERBS - both:
        assert ask([verb, "-q"]) == Compose((verb, "-q"))
    for verb in both:
        assert registry.find([verb]) == (registry.verb(verb), [])


@pytest.mark.parametrize("words", [[], ["--profile", "x", "down"], ["-f", "other.yaml", "ps"]])
def test_its_verb_comes_first(words: list[str]) -> None:
    """Options before `down` are refused: run.sh would not recognize it and would leave volumes."""
    with pytest.raises(UsageError, match="the first argument must be a verb of Docker Compose"):
        ask(["compose", *words])


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
        # Runs with only an orchestrator do not count.
        ({**ONE, "nixos-image-bbbbbbbb": ("bbbbbbbb", True)}, "nixos-image-aaaaaaaa"),
        ({**ONE, "nixos-image-bbbbbbbb-prepare": ("bbbbbbbb", True)}, "nixos-image-aaaaaaaa"),
        ({**ONE, "nixos-image-bbbbbbbb-send": ("bbbbbbbb", True)}, "nixos-image-aaaaaaaa"),
        ({**ONE, "nixos-image-bbbbbbbb-builder-1": ("bbbbbbbb", False)}, "nixos-image-aaaaaaaa"),
        # With two runs, it is not known which one is meant.
        ({**ONE, "nixos-image-bbbbbbbb-boot-1": ("bbbbbbbb", True)}, "nixos-image"),
        ({"nixos-image-builder-1": ("compose", True)}, "nixos-image"),
    ],
)
def test_what_looks_is_shown_the_run_that_lives(
    containers: Containers, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "containers", lambda _: containers)
    command = compose.command(("logs", "-f"))
    assert command[command.index("--project-name") + 1] == project
    assert command[-2:] == ["logs", "-f"]


def test_ps_tells_of_boots_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "containers", lambda _: {})
    assert compose.command(("ps", "-q"))[-3:] == ["ps", "--all", "-q"]


def test_other_verbs_are_those_of_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "containers", lambda _: ONE)
    command = compose.command(("config",))
    assert command[command.index("--project-name") + 1] == "nixos-image"
    assert command[-3:] == ["--profile", "*", "config"]
