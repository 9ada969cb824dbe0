"""How Docker is called: what one run's services need, and nothing else."""

import pathlib
from collections.abc import Iterator

import pytest
from python_on_whales.exceptions import DockerException, NoSuchContainer

from orchestrator.docker import census, engine
from orchestrator.docker.engine import INSTEAD_OF_PROFILE, Engine
from orchestrator.shared.errors import DockerError


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

    assert list(engine.still_there(["a", "gone", "b"], known)) == ["A", "B"]
    with pytest.raises(DockerException, match="Cannot connect"):
        list(engine.still_there(["a", "broken"], known))


class Refusing(Engine):
    """Fails as often as there are messages."""

    def __init__(self, env_file: pathlib.Path, *messages: str) -> None:
        super().__init__("0badcafe", env_file)
        self.messages = list(messages)
        self.created: list[tuple[str, ...]] = []

    def _create(self, services: tuple[str, ...]) -> None:
        if self.messages:
            raise DockerError(self.messages.pop(0))
        self.created.append(services)


def test_an_engine_that_takes_no_profile_is_asked_again_without(tmp_path: pathlib.Path) -> None:
    env_file = tmp_path / "compose.env"
    env_file.write_text("A=1\n")
    engine = Refusing(env_file, "container create: opening seccomp profile failed: open {}")
    assert engine.create(("builder",)) == {"builder": "nixos-image-0badcafe-builder-1"}
    assert engine.created == [("builder",)]
    assert env_file.read_text() == f"A=1\n{INSTEAD_OF_PROFILE}"


def test_what_else_an_engine_refuses_is_an_error(tmp_path: pathlib.Path) -> None:
    env_file = tmp_path / "compose.env"
    env_file.touch()
    engine = Refusing(env_file, "no space left on device")
    with pytest.raises(DockerError, match="no space left"):
        engine.create(("builder",))
    assert engine.created == []
    assert env_file.read_text() == ""


def test_runs_volumes_are_known_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Podman makes the work volume without the labels that run.sh asks for."""
    names = ["nixos-image-store", "nixos-image-work", "nixos-image-work-compose"]
    names += [
        "nixos-image-work-0badcafe0001",
        "nixos-image-0badcafe0002_lease",
        "nixos-image_lease",
    ]
    monkeypatch.setattr(Engine, "volumes", lambda _: names)
    monkeypatch.setattr(census, "containers", lambda _: {"a": ("0badcafe0003", True)})
    one = Engine("0badcafe0004", pathlib.Path("/nonexistent"))
    monkeypatch.setattr(type(one.client.network), "list", lambda *_: [])
    assert census.runs(one) == {f"0badcafe000{number}" for number in (1, 2, 3)}


def test_a_run_whose_files_are_on_their_way_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "nixos-image-a1-send": ("a1", True),
        "nixos-image-a2-send": ("a2", False),
        "nixos-image-a3-prepare": ("a3", True),
        "nixos-image-a4": ("a4", True),
        "nixos-image-a5": ("a5", False),
        "nixos-image-a6-builder-1": ("a6", True),
    }
    monkeypatch.setattr(census, "containers", lambda _: found)
    assert census.living_runs(Engine("", pathlib.Path("/nonexistent"))) == {"a1", "a4"}
