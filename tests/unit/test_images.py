"""Tests builds of container images: only if needed, and within the run's time limit."""

import functools
import pathlib
import re
import threading
import time
import typing
from collections.abc import Iterator

import pytest
import yaml

from orchestrator.docker.compose import IDS
from orchestrator.docker.engine import Engine
from orchestrator.docker.images import IMAGES, Images, inputs, state
from orchestrator.docker.labels import SOURCE_LABEL
from orchestrator.docker.one_step import OneStep
from orchestrator.shared.errors import DockerError, TimeLimitError
from orchestrator.shared.paths import ROOT
from orchestrator.shared.progress import PlainTeller, Progress


class FakeEngine:
    """Fake engine without images; a build lasts until the test ends it."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.built: list[str] = []
        self.sources: dict[str, str] = {}
        self.variables: dict[str, dict[str, str]] = {}
        self.used: dict[str, str] = {}
        self.end, self.guest = "", "aarch64"
        self.run = "0badcafe"

    def parent(self, own: str) -> str:
        assert own == "sha256:9"
        return "sha256:1"

    def image(self, name: str) -> dict[str, typing.Any] | None:
        found = self.sources.get(name)
        labels = {"Labels": {SOURCE_LABEL: found}}
        return {"Id": f"id of {name}, {found}", "Config": labels} if found else None

    def use(self, service: str, image: str) -> None:
        self.used[service] = image

    def image_source(self, image: str) -> str:
        return self.sources.get(image, "")

    def build(
        self, service: str, log: pathlib.Path, variables: dict[str, str], _one_step: OneStep
    ) -> None:
        log.write_text("")
        self.variables[service] = variables
        assert self.done.wait(20)
        self.built.append(service)
        name = IMAGES[service].name.format(qemu="latest", guest=self.guest)
        self.sources[name] = variables["NIXOS_IMAGE_STATE"] + self.end


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    engine = FakeEngine()
    yield engine
    engine.done.set()


_once = functools.cache(state)


def source_of(dockerfile: str) -> str:
    """Return the state of an image of this checkout, whose files are read once."""
    return _once(dockerfile, "sha256:1")


@pytest.fixture(autouse=True)
def files_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.docker.images.state", _once)


@pytest.fixture
def progress() -> Iterator[Progress]:
    progress = Progress(PlainTeller())
    yield progress
    progress.close()  # an open Progress prints into other tests' output


def test_only_what_is_missing_is_built(
    engine: FakeEngine, progress: Progress, tmp_path: pathlib.Path
) -> None:
    source = source_of("Dockerfile.builder")
    engine.sources["nixos-image-builder"] = source
    images = Images(typing.cast("Engine", engine), "aarch64", tmp_path, own="sha256:9")
    images.want(("cleanup", "builder"))
    engine.done.set()
    images.wait(("cleanup", "builder"), progress)
    assert engine.built == ["cleanup"]
    assert engine.used.keys() == {"cleanup", "builder"}
    assert engine.used["builder"] == f"id of nixos-image-builder, {source}"
    images.close()


@pytest.mark.parametrize("now", ["", "another checkout's"])
def test_an_image_that_was_replaced_meanwhile_is_not_started(
    now: str, engine: FakeEngine, progress: Progress, tmp_path: pathlib.Path
) -> None:
    """An image's name is anybody's: a run of another checkout may give it to its own image."""
    engine.sources["nixos-image-builder"] = source_of("Dockerfile.builder")
    images = Images(typing.cast("Engine", engine), "aarch64", tmp_path, own="sha256:9")
    images.want(("builder",))
    engine.sources["nixos-image-builder"] = now
    with pytest.raises(DockerError, match="nixos-image-builder was replaced or removed meanwhile"):
        images.wait(("builder",), progress)
    assert engine.used == {}
    images.close()


def test_what_takes_files_of_another_image_is_built_after_it(
    engine: FakeEngine, progress: Progress, tmp_path: pathlib.Path
) -> None:
    assert IMAGES["test"].after == "builder"
    engine.guest = "x86_64"
    images = Images(typing.cast("Engine", engine), "x86_64", tmp_path, own="sha256:9")
    images.want(("boot", "test"))
    engine.done.set()
    images.wait(("boot", "test"), progress)
    assert sorted(engine.built) == ["boot", "builder", "test"]
    assert engine.built.index("builder") < engine.built.index("test")
    assert engine.variables["boot"]["NIXOS_IMAGE_PACKAGES"].startswith("qemu-system-x86 ")
    assert engine.variables["test"]["NIXOS_IMAGE_STATE"] == source_of("Dockerfile.test")
    images.close()


def test_an_image_is_made_of_images_that_were_looked_at(
    engine: FakeEngine, progress: Progress, tmp_path: pathlib.Path
) -> None:
    """By their ids: another checkout may give their names to its own images meanwhile."""
    images = Images(typing.cast("Engine", engine), "aarch64", tmp_path, own="sha256:9")
    images.want(("cleanup", "test"))
    engine.done.set()
    images.wait(("cleanup", "test"), progress)
    given = engine.variables
    assert {given[one]["NIXOS_IMAGE_ID_RUNTIME"] for one in given} == {"sha256:1"}
    builder = f"id of nixos-image-builder, {source_of('Dockerfile.builder')}"
    assert given["test"]["NIXOS_IMAGE_ID_BUILDER"] == builder
    assert "NIXOS_IMAGE_ID_BUILDER" not in given["builder"]
    images.close()


def test_a_name_that_was_given_away_before_an_image_is_made_of_it_ends_the_run(
    engine: FakeEngine, progress: Progress, tmp_path: pathlib.Path
) -> None:
    engine.end = "-of-another-checkout"
    images = Images(typing.cast("Engine", engine), "aarch64", tmp_path, own="sha256:9")
    images.want(("test",))
    engine.done.set()
    with pytest.raises(DockerError, match="nixos-image-builder was replaced or removed meanwhile"):
        images.wait(("test",), progress)
    assert engine.built == ["builder"]
    images.close()


@pytest.mark.parametrize("name", sorted(IMAGES))
def test_parents_are_given_by_id(name: str) -> None:
    """Each ARG before a FROM is one of Compose's, whose value is the id that a run knows."""
    text = (ROOT / IMAGES[name].dockerfile).read_text()
    parents = set(re.findall(r"^FROM \$\{(\w+)\}", text, re.MULTILINE))
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    given = services[name]["build"]["args"]
    assert parents
    for parent in parents:
        assert given[parent] == f"${{{IDS[parent.lower()]}:-nixos-image-{parent.lower()}}}"


def test_an_image_is_old_where_something_that_goes_into_it_has_changed(
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / "Dockerfile.x").write_text("# tests\nFROM y\nCOPY shared locks/one /into/out\n")
    for name in ("shared/a.py", "shared/b/c.py", "locks/one", "locks/two", "tests/d.py", "out"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    found = [path.relative_to(tmp_path).as_posix() for path in inputs("Dockerfile.x", tmp_path)]
    assert found == ["Dockerfile.x", "locks/one", "shared/a.py", "shared/b/c.py"]
    seen = {state("Dockerfile.x", "sha256:1", tmp_path), state("Dockerfile.x", "", tmp_path)}
    (tmp_path / "shared/b/__pycache__").mkdir()
    for name in ("locks/two", "tests/d.py", "out", "shared/b/__pycache__/c.pyc"):
        (tmp_path / name).write_text("another")
        assert state("Dockerfile.x", "sha256:1", tmp_path) in seen, name
    for name in ("shared/b/c.py", "locks/one", "Dockerfile.x"):
        (tmp_path / name).write_text("COPY shared locks/one .")
        now = state("Dockerfile.x", "sha256:1", tmp_path)
        assert now not in seen, name
        seen.add(now)
    (tmp_path / "shared/a.py").chmod(0o755)
    assert state("Dockerfile.x", "sha256:1", tmp_path) not in seen
    (tmp_path / "shared/a.py").chmod(0o644)
    assert state("Dockerfile.x", "sha256:1", tmp_path) in seen
    (tmp_path / "shared/a.py").rename(tmp_path / "shared/e.py")
    assert state("Dockerfile.x", "sha256:1", tmp_path) not in seen


@pytest.mark.parametrize(
    ("locked", "end", "built"),
    [
        (False, "", []),
        (False, "-locked", []),
        (True, "", ["builder", "cleanup"]),
        (True, "-locked", []),
    ],
)
def test_images_with_pinned_packages_are_built_anew_where_successors_are_forbidden(
    locked: bool, end: str, built: list[str], engine: FakeEngine, progress: Progress,
    tmp_path: pathlib.Path,
) -> None:  # fmt: skip
    for image in (IMAGES["builder"], IMAGES["cleanup"]):
        source = source_of(image.dockerfile)
        engine.sources[image.name.format(qemu="latest")] = f"{source}{end}"
    engine.end = "-locked" if locked else ""
    images = Images(
        typing.cast("Engine", engine), "aarch64", tmp_path, own="sha256:9", locked=locked
    )
    images.want(("cleanup", "builder"))
    engine.done.set()
    images.wait(("cleanup", "builder"), progress)
    assert sorted(engine.built) == built
    images.close()


def test_a_guest_without_packages_of_its_own_has_the_orchestrators_image(
    engine: FakeEngine, progress: Progress, tmp_path: pathlib.Path
) -> None:
    images = Images(typing.cast("Engine", engine), "aarch64", tmp_path, own="sha256:9")
    images.want(("boot",))
    images.wait(("boot",), progress)
    assert engine.used == {"boot": "sha256:9"}
    images.close()


def test_a_build_that_outlasts_the_run_is_an_error(
    engine: FakeEngine, progress: Progress, tmp_path: pathlib.Path
) -> None:
    images = Images(typing.cast("Engine", engine), "aarch64", tmp_path, own="sha256:9")
    images.want(("builder",))
    with pytest.raises(TimeLimitError, match="images of builder exceeded the time limit") as caught:
        images.wait(("builder",), progress, time.monotonic() + 0.1)
    assert "--timeout" in caught.value.hint
    assert not engine.built
    images.close()
