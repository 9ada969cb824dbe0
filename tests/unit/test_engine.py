"""How Docker is called: what one run's services need, and nothing else."""

import pathlib
from collections.abc import Iterator

import pytest
from python_on_whales.exceptions import DockerException, NoSuchContainer

from orchestrator import engine
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


def test_what_another_run_has_removed_meanwhile_is_no_error() -> None:
    """Between Docker's list and its word on each."""

    def known(name: str) -> str:
        if name == "gone":
            raise NoSuchContainer(["docker"], 1, stderr=b"Error: No such container: gone")
        if name == "broken":
            raise DockerException(["docker"], 1, stderr=b"Cannot connect to the Docker daemon")
        return name.upper()

    assert list(engine._still_there(["a", "gone", "b"], known)) == ["A", "B"]
    with pytest.raises(DockerException, match="Cannot connect"):
        list(engine._still_there(["a", "broken"], known))
