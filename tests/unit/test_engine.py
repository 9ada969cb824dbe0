"""How Docker is called: what one run's services need, and nothing else."""

import pathlib
from collections.abc import Iterator

import pytest

from orchestrator.engine import Engine


def test_services_that_will_not_run_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder by itself: on a fresh host the images of the others are not there."""
    called: list[list[str]] = []

    def stream(_: Engine, arguments: list[str]) -> Iterator[bytes]:
        called.append(arguments)
        yield b""

    monkeypatch.setattr(Engine, "_stream", stream)
    names = Engine("0badcafe", pathlib.Path("/nonexistent")).create(("builder",))
    assert names == {"builder": "nixos-image-0badcafe-builder-1"}
    (command,) = called
    assert command[-1] == "builder"
    assert {"--no-start", "--no-deps", "--no-build"} <= set(command)
