"""Images are built when they must be, and waited for no longer than a run may take."""

import pathlib
import threading
import time
import typing
from collections.abc import Iterator

import pytest

from orchestrator.docker.engine import Engine
from orchestrator.docker.images import Images
from orchestrator.shared.errors import TimeLimitError
from orchestrator.shared.progress import PlainTeller, Progress


class FakeEngine:
    """Nothing is there; a build lasts until it is told to end."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.built: list[str] = []

    def image_source(self, image: str) -> str:
        return "1-2" if image == "nixos-image-builder" else ""

    def build(self, service: str, log: pathlib.Path) -> None:
        log.write_text("")
        assert self.done.wait(20)
        self.built.append(service)


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    engine = FakeEngine()
    yield engine
    engine.done.set()


@pytest.fixture
def progress() -> Iterator[Progress]:
    progress = Progress(PlainTeller())
    yield progress
    progress.close()  # its signs of life would be in other tests' output


def test_only_what_is_missing_is_built(
    engine: FakeEngine, progress: Progress, tmp_path: pathlib.Path
) -> None:
    images = Images(typing.cast("Engine", engine), "1-2", "aarch64", tmp_path)
    images.want(("cleanup", "builder"))
    engine.done.set()
    images.wait(("cleanup", "builder"), progress)
    assert engine.built == ["cleanup"]
    images.close()


def test_a_build_that_outlasts_the_run_is_an_error(
    engine: FakeEngine, progress: Progress, tmp_path: pathlib.Path
) -> None:
    images = Images(typing.cast("Engine", engine), "1-2", "aarch64", tmp_path)
    images.want(("boot",))
    with pytest.raises(TimeLimitError, match="the images of boot took longer") as caught:
        images.wait(("boot",), progress, time.monotonic() + 0.3)
    assert "--timeout" in caught.value.hint
    assert not engine.built
    images.close()
