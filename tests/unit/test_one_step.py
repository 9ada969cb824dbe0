"""Tests images that are made in one step: which ones, what is asked of the engine, what is left."""

import pathlib
import threading

import pytest

from orchestrator.docker import census
from orchestrator.docker.engine import Engine
from orchestrator.docker.one_step import OneStep, command_of
from orchestrator.docker.stored import BuildError, Recipe
from orchestrator.shared.errors import DockerError
from orchestrator.shared.paths import ROOT
from tests.unit.engine_stub import Handler, Server, stub

__all__ = ["stub"]

TOOLS, PARENT = "nixos-image-make-0badcafe-builder-files", "nixos-image-make-0badcafe-builder"
RECIPE = Recipe(
    "Dockerfile.builder",
    {"ORCHESTRATOR": "sha256:1", "RUNTIME": "sha256:2", "HTTP_PROXY": "http://u:p@x"},
    {"org.nixos-image.source": "0123"},
)


@pytest.fixture
def engine(stub: Server) -> Engine:
    return Engine("0badcafe", pathlib.Path("/nonexistent"))


def answer(
    stub: Server, code: int = 0, said: bytes = b"one\ntwo\n"
) -> dict[str, dict[str, object]]:
    """Make the engine run a container; returns what it was told of each one that was created."""
    created: dict[str, dict[str, object]] = {}

    def create(request: Handler) -> None:
        created[request.path.rpartition("name=")[2]] = request.document
        request.send(201, {"Id": "x"})

    def logs(request: Handler) -> None:
        request.begin_stream()
        request.part(1, said)
        request.end_stream()

    def commit(request: Handler) -> None:
        created[request.path.partition("?")[2]] = {}
        request.send(201, {"Id": "sha256:3"})

    stub.answers |= {
        "POST /containers/create": create,
        f"POST /containers/{TOOLS}/start": (204, b""),
        f"GET /containers/{TOOLS}/logs": logs,
        f"POST /containers/{TOOLS}/wait": (200, {"StatusCode": code}),
        f"GET /containers/{TOOLS}/archive": (200, b"tar"),
        f"PUT /containers/{PARENT}/archive": (200, b""),
        "POST /commit": commit,
        **{f"DELETE /containers/{name}": (204, b"") for name in (TOOLS, PARENT)},
    }
    return created


def test_images_of_most_first_runs_are_made_in_one_step() -> None:
    of = {one.name: command_of(one.read_text()) for one in ROOT.glob("Dockerfile.*")}
    assert {name for name, command in of.items() if command} == {
        "Dockerfile.builder",
        "Dockerfile.qemu-setup",
    }
    assert of["Dockerfile.qemu-setup"].startswith(
        "mkdir -p /files/opt/nixos-image /files/opt/qemu "
    )
    assert "\n" not in of["Dockerfile.builder"]
    assert "\\" not in of["Dockerfile.builder"]


SHORT = """# Comment.
ARG ORCHESTRATOR=a
ARG RUNTIME=b
FROM ${ORCHESTRATOR} AS files
ARG C=
RUN one \\
 && two

FROM ${RUNTIME}
COPY --from=files /files /
"""


@pytest.mark.parametrize(
    ("change", "command"),
    [
        (("", ""), "one  && two"),
        (("ARG C=\n", ""), "one  && two"),
        (("COPY --from", "RUN three\nCOPY --from"), ""),
        (("/files /\n", "/files .\n"), ""),
        (("/files /\n", "/files /\nUSER x\n"), ""),
        (("RUN one", "RUN zero\nRUN one"), ""),
        (("FROM ${RUNTIME}", "FROM ${OTHER}"), ""),
    ],
)
def test_a_dockerfile_that_says_more_is_built(change: tuple[str, str], command: str) -> None:
    text = SHORT.replace(*change) if change[0] else SHORT
    assert command_of(text) == command


def test_an_image_has_its_parents_settings_and_its_labels_alone(
    engine: Engine, stub: Server, tmp_path: pathlib.Path
) -> None:
    """A proxy's password is in a variable of the container that fetches, and nowhere else."""
    created = answer(stub)
    OneStep(engine, engine.run).make("builder", "i:t", "made", RECIPE, tmp_path / "log")
    assert (tmp_path / "log").read_text() == "one\ntwo\n"
    assert created[TOOLS]["Image"] == "sha256:1"
    assert created[TOOLS]["Entrypoint"] == ["/bin/sh", "-c"]
    assert created[TOOLS]["Cmd"] == ["made"]
    assert created[TOOLS]["Env"] == ["HTTP_PROXY=http://u:p@x"]
    assert created[PARENT]["Image"] == "sha256:2"
    assert not {created[PARENT].get(one) for one in ("Cmd", "Env", "Entrypoint")} - {None}
    assert not created[PARENT].get("Labels")
    (commit,) = (one for one in created if "changes=" in one)
    assert f"container={PARENT}&repo=i&tag=t" in commit
    assert "changes=LABEL+%22org.nixos-image.source%22%3D%220123%22" in commit
    assert {f"DELETE /containers/{one}" for one in (TOOLS, PARENT)} < {*stub.asked}


def test_a_command_that_fails_is_told_with_its_last_lines(
    engine: Engine, stub: Server, tmp_path: pathlib.Path
) -> None:
    created = answer(stub, 1, b"".join(b"line %d\n" % number for number in range(100)))
    with pytest.raises(BuildError, match=r"^line 75\n(.*\n)*line 99$"):
        OneStep(engine, engine.run).make("builder", "i:t", "made", RECIPE, tmp_path / "log")
    assert [*created] == [TOOLS]
    assert stub.asked[-1] == f"DELETE /containers/{TOOLS}"


def test_nothing_is_left_of_an_attempt_that_ends_meanwhile(
    engine: Engine, stub: Server, tmp_path: pathlib.Path
) -> None:
    created = answer(stub)
    running, ended = threading.Event(), threading.Event()

    def logs(request: Handler) -> None:
        running.set()
        ended.wait(20)
        request.begin_stream()
        request.end_stream()

    stub.answers[f"GET /containers/{TOOLS}/logs"] = logs
    refused: list[DockerError] = []

    def make(one_step: OneStep) -> None:
        try:
            one_step.make("builder", "i:t", "made", RECIPE, tmp_path / "log")
        except DockerError as error:
            refused.append(error)

    one_step = OneStep(engine, engine.run)
    thread = threading.Thread(target=make, args=(one_step,))
    thread.start()
    assert running.wait(20)
    stub.asked.clear()
    one_step.end()
    assert stub.asked == [f"DELETE /containers/{TOOLS}"]
    ended.set()
    thread.join(20)
    assert [str(one) for one in refused] == ["the attempt has ended"]
    assert [*created] == [TOOLS]


def test_containers_of_dead_runs_are_found_by_their_names(engine: Engine, stub: Server) -> None:
    """They have no label of their run: the image would have it, too."""
    listed = [{"Names": [f"/{name}"], "State": "created"} for name in (TOOLS, PARENT, "another")]
    stub.answers["GET /containers/json"] = (200, listed)
    assert census.makers(engine, {"0badcafe"}) == [TOOLS, PARENT]
    assert census.makers(engine, {"0badcaf", "other"}) == []
    assert census.makers(engine, set()) == []


def test_a_container_whose_creation_is_not_confirmed_is_removed(
    engine: Engine, stub: Server, tmp_path: pathlib.Path
) -> None:
    """An engine that answers too late may have created it."""
    stub.answers["POST /containers/create"] = (500, {"message": "too late"})
    one_step = OneStep(engine, engine.run)
    with pytest.raises(DockerError, match=r"too late$"):
        one_step.make("builder", "i:t", "made", RECIPE, tmp_path / "log")
    stub.asked.clear()
    one_step.end()
    assert stub.asked == [f"DELETE /containers/{TOOLS}"]
