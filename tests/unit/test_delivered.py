"""Tests which of the caller's images count as made from the same, and stay."""

import contextlib
import dataclasses
import json
import pathlib
import threading
import time
import typing
from unittest import mock

import hypothesis
import pytest
from hypothesis import strategies as st

from orchestrator.agents import events
from orchestrator.agents.builder.imaging import Wanted
from orchestrator.agents.builder.post import Post
from orchestrator.ask import delivered as module
from orchestrator.ask.delivered import delivered, described
from orchestrator.ask.request import Build
from orchestrator.image.late import Device
from orchestrator.image.tree import Entry
from orchestrator.shared.image_options import ImageOptions
from orchestrator.shared.json_reader import JsonError
from orchestrator.shared.run import SENT, Run
from orchestrator.shared.spec_reader import read_spec
from orchestrator.shared.task import Delivered, DemoTask, Task
from tests.unit.artifacts import IMAGE
from tests.unit.asking import ask
from tests.unit.requests import CALLER

OUT = pathlib.PurePosixPath("/home/me/out")
SPEC = read_spec(next(pathlib.Path("tests/nixos/specs").rglob("*.json")).read_text())
LATE = (Entry("etc/hostname", "file", 0o644, data=b"a"), Entry("k", "file", 0o600, data=b"pass"))
DEMO = DemoTask("x86_64-linux")
SYSTEMS = ("--system", "x86_64-linux", "--system", "aarch64-linux")


@pytest.fixture
def run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr("orchestrator.shared.run.WORK", tmp_path)
    found = Run("run", ("aarch64-linux",), 1, 1, 5)
    (found.folder / SENT).mkdir(parents=True)
    return found


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    emit = mock.Mock()
    monkeypatch.setattr(events, "emit", emit)
    return emit


def wanted(**changes: typing.Any) -> Wanted:  # noqa: ANN401 - fields of both
    spec = dataclasses.replace(SPEC, **changes.pop("spec", {}))
    return Wanted(spec, Device("a"), changes.pop("late", LATE), mock.Mock())


def made(run: Run, told: mock.Mock, task: Task, one: Wanted) -> Delivered:
    """Have an image of `one` made, and return what the caller knows of it then."""
    image = dataclasses.replace(IMAGE, path=f"image/{one.spec.file_name}")
    Post(run, task).hand(image, 0, one)
    mark = told.call_args.kwargs["image"]["made"]
    (run.folder / SENT / image.file_name).touch()
    return Delivered(one.spec.file_name, IMAGE.sha256, mark)


def test_what_is_made_from_the_same_stays(run: Run, told: mock.Mock) -> None:
    task = Task(DEMO, False, (), tools="tools")
    again = dataclasses.replace(task, delivered=(made(run, told, task, wanted()),))
    assert Post(run, again).has(wanted(), 0)
    assert told.call_args.args == ("kept",)


@pytest.mark.parametrize(
    ("changes", "options", "tools"),
    [
        ({"late": (LATE[0], dataclasses.replace(LATE[1], data=b"word"))}, {}, "tools"),
        ({"late": (LATE[0], dataclasses.replace(LATE[1], mode=0o644))}, {}, "tools"),
        ({"spec": {"toplevel": "/nix/store/other"}}, {}, "tools"),
        ({"spec": {"diskSizeMiB": 4096}}, {}, "tools"),
        ({}, {"bmap": True}, "tools"),
        ({}, {"secure_boot_key": __file__}, "tools"),
        ({}, {}, "newer tools"),
    ],
)
def test_what_is_made_from_something_else_is_made_again(
    changes: dict[str, typing.Any],
    options: dict[str, typing.Any],
    tools: str,
    run: Run,
    told: mock.Mock,
) -> None:
    before = Task(DEMO, False, (), tools="tools")
    there = made(run, told, before, wanted())
    now = dataclasses.replace(
        before, tools=tools, delivered=(there,), options=ImageOptions(**options)
    )
    assert not Post(run, now).has(wanted(**changes), 0)
    assert told.call_args.args == ("image",)


def test_the_first_one_is_made_again_for_a_boot_check(run: Run, told: mock.Mock) -> None:
    task = Task(DEMO, False, (), tools="tools")
    there = (made(run, told, task, wanted()),)
    again = dataclasses.replace(task, delivered=there, first_anew=True)
    assert not Post(run, again).has(wanted(), 0)
    assert Post(run, again).has(wanted(), 1)


def test_a_short_secret_is_not_found_by_a_quick_hash(run: Run, told: mock.Mock) -> None:
    """The mark is slow to guess, and another one for each image."""
    task = Task(DEMO, False, (), tools="tools")
    began = time.thread_time()
    first = made(run, told, task, wanted())
    assert time.thread_time() - began > 0.005
    other = dataclasses.replace(IMAGE, sha256="0" * 64)
    Post(run, task).hand(other, 0, wanted())
    assert told.call_args.kwargs["image"]["made"] != first.made


def test_the_builder_waits_until_images_have_left(run: Run, told: mock.Mock) -> None:
    post = Post(run, Task(DEMO, False, ()))
    post.hand(IMAGE, 0)  # one may wait for the caller
    thread = threading.Thread(target=post.hand, args=(IMAGE, 1))
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    (run.folder / SENT / "demo.img").touch()
    thread.join(10)
    assert not thread.is_alive()
    assert told.call_count == 2


def test_without_an_orchestrator_nothing_waits(run: Run, told: mock.Mock) -> None:
    (run.folder / SENT).rmdir()
    post = Post(run, Task(DEMO, False, ()))
    for position in range(3):
        post.hand(IMAGE, position)
    assert told.call_count == 3


# --- what run.sh sends --------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(module, "list_folder", lambda _who: tmp_path)
    place = tmp_path / ".delivered"
    place.mkdir()
    document = {
        "images": [dataclasses.replace(IMAGE, made="m", extras=("demo.img.bmap",)).describe(OUT)]
    }
    (place / "demo.img.result.json").write_text(json.dumps(document))
    (place / "demo.img.sha256").write_text("sums")
    (place / "demo.img.sha256.sig").write_text("signed sums")
    return place


def test_a_result_is_read_as_it_was_written(folder: pathlib.Path) -> None:
    (image,) = delivered(CALLER, None)
    assert (
        image.describe(OUT)
        == json.loads((folder / "demo.img.result.json").read_text())["images"][0]
    )


def test_what_another_key_has_signed_is_made_again(folder: pathlib.Path) -> None:
    assert delivered(CALLER, lambda sums: b"signed " + sums)
    assert not delivered(CALLER, lambda sums: b"otherwise " + sums)
    (folder / "demo.img.sha256.sig").unlink()
    assert not delivered(CALLER, lambda sums: b"signed " + sums)


@pytest.mark.parametrize(
    ("changes"),
    [{"path": "/out/other.img"}, {"sha256": "0"}, {"sbom": "../a"}, {"bmap": "/a"}, {"made": None}],
)
def test_a_result_that_is_none_counts_for_nothing(
    changes: dict[str, object], folder: pathlib.Path
) -> None:
    place = folder / "demo.img.result.json"
    document = json.loads(place.read_text())
    document["images"][0] |= changes
    place.write_text(json.dumps(document))
    assert not delivered(CALLER, None)


def test_no_link_is_read(folder: pathlib.Path) -> None:
    place = folder / "demo.img.result.json"
    place.rename(folder / "elsewhere")
    place.symlink_to(folder / "elsewhere")
    assert not delivered(CALLER, None)


@hypothesis.given(
    st.dictionaries(
        st.sampled_from(sorted(IMAGE.describe(OUT))),
        st.none() | st.text() | st.integers() | st.lists(st.integers()),
    )
)
def test_whatever_an_entry_says_it_is_read_or_refused(changes: dict[str, typing.Any]) -> None:
    with contextlib.suppress(JsonError, LookupError, TypeError):
        described(IMAGE.describe(OUT) | changes)


@pytest.mark.parametrize(
    ("words", "several"),
    [
        (["-c", "a.nix", "-f", "raw"], False),
        (["-c", "a.nix", "-f", "raw", "-f", "qcow"], True),
        (["-c", "a.nix", "-f", "qcow-efi", *SYSTEMS], True),
        (["-c", "a.nix", "--stamp", "devices.csv"], True),
        (["-c", "a.nix", "--stamp", "devices.csv", "--check"], False),
        (["-c", "a.nix", "--stamp", "devices.csv", "--dry-run"], False),
    ],
)
def test_only_of_several_images_some_may_stay(words: list[str], several: bool) -> None:
    request = ask(["build", *words])
    assert isinstance(request, Build)
    assert request.keeps is several
