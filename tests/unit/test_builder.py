"""Tests the builder: reading its task, waiting for canaries and the token."""

import dataclasses
import errno
import json
import os
import pathlib
import types
import typing
import unittest.mock

import pytest

from orchestrator.agents import failure, room
from orchestrator.agents.builder import __main__ as builder
from orchestrator.agents.builder import alone, collect, crew, fleet, imaging, sandbox, sbom, store
from orchestrator.agents.builder.crew import Crew
from orchestrator.agents.builder.nix import Nix
from orchestrator.agents.builder.nix_settings import Settings
from orchestrator.agents.builder.store import Keeper
from orchestrator.agents.emulation import canary
from orchestrator.agents.failure import AgentError
from orchestrator.image import staging
from orchestrator.image.filesystems.filesystem import FilesystemError
from orchestrator.image.layout import LayoutError
from orchestrator.image.tree import TreeError
from orchestrator.shared import run as run_module
from orchestrator.shared.architectures import foreign_system, this_system
from orchestrator.shared.artifact import Artifact, Built
from orchestrator.shared.builders import Builder
from orchestrator.shared.constants import BUILDER
from orchestrator.shared.image_options import ImageOptions
from orchestrator.shared.paths import ROOT
from orchestrator.shared.run import Run
from orchestrator.shared.spec_reader import read_spec
from orchestrator.shared.task import DemoTask, Task

SPEC = read_spec((ROOT / "tests/nixos/specs/aarch64-linux/amazon.json").read_text())
FOREIGN = foreign_system(this_system())


@pytest.fixture
def run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(run_module, "WORK", tmp_path)
    (tmp_path / "0badcafe").mkdir()
    return Run("0badcafe", (FOREIGN,), start_seconds=0.1, grace_seconds=15, deadline_seconds=60)


@pytest.mark.parametrize(("system", "foreign"), [(FOREIGN, (FOREIGN,)), (this_system(), ())])
def test_without_a_task_the_demo_is_built(run: Run, system: str, foreign: tuple[str, ...]) -> None:
    without = Run(run.id, (system,), 1, 1, 1)
    assert builder.read_task(without) == Task(DemoTask(system), bool(foreign), foreign)


def test_a_token_that_never_comes_is_cleanups_fault(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(builder, "TOKEN_FILE", tmp_path / "token")
    with pytest.raises(AgentError, match="cleanup was not ready") as caught:
        builder.read_token(run.start_seconds)
    assert caught.value.kind == "cleanup"
    (tmp_path / "token").write_text("secret")
    assert builder.read_token(run.start_seconds) == "secret"


def waiting(seconds: float) -> Task:
    return Task(DemoTask(FOREIGN), leased=True, foreign=(FOREIGN,), wait_seconds=seconds)


def test_waiting_for_foreign_programs_ends_with_the_last_cause(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary, "run", lambda *_: canary.Outcome(False, "no entry"))
    with pytest.raises(AgentError, match="no entry") as caught:
        builder.wait_for_canaries(run, waiting(0.1))
    assert caught.value.kind == "emulation"


def test_waiting_for_foreign_programs_ends_when_they_run(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = iter(
        [
            canary.Outcome(False, "x"),
            canary.Outcome(False, "x"),
            canary.Outcome(True),
        ]
    )
    monkeypatch.setattr(canary, "run", lambda *_: next(outcomes))
    builder.wait_for_canaries(run, waiting(5))
    assert next(outcomes, None) is None


@pytest.mark.parametrize(
    ("variables", "systems", "run_id"),
    [
        ({}, (FOREIGN,), "compose"),
        ({"NIXOS_IMAGE_SYSTEMS": "", "NIXOS_IMAGE_RUN": ""}, (FOREIGN,), "compose"),
        (
            {"NIXOS_IMAGE_SYSTEMS": "x86_64-linux riscv64-linux", "NIXOS_IMAGE_RUN": "ab"},
            ("x86_64-linux", "riscv64-linux"),
            "ab",
        ),
    ],
)
def test_each_variable_has_a_default(
    variables: dict[str, str],
    systems: tuple[str, ...],
    run_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SYSTEMS", "RUN", "START_SECONDS", "GRACE_SECONDS", "DEADLINE_SECONDS"):
        monkeypatch.delenv(f"NIXOS_IMAGE_{name}", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = run_module.this_run()
    assert (found.systems, found.id) == (systems, run_id)
    assert min(found.start_seconds, found.grace_seconds, found.deadline_seconds) > 0


# --- a tool says that a disk is full ------------------------------------------------------------


@pytest.mark.parametrize(("scarce", "kind"), [(True, "disk"), (False, "assembly")])
def test_a_disk_is_full_only_if_it_was_measured(
    scarce: bool, kind: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> list[Artifact]:
        raise FilesystemError("sfdisk: No space left on device")

    monkeypatch.setattr(fleet, "make", full)
    monkeypatch.setattr(room, "SCARCE", (1 << 62) if scarce else 0)
    result = Built(run.folder / "spec.json", "x86_64-linux", "raw")
    keeper = Keeper(Nix(Settings(), run.folder / "log"))
    with pytest.raises(AgentError) as caught:
        builder.assemble_images(run, [result], Task(DemoTask("x86_64-linux"), False, ()), keeper)
    assert caught.value.kind == kind
    assert "down -v" not in caught.value.hint


@pytest.mark.parametrize(("error", "hint"), [(TreeError, "contents"), (LayoutError, "")])
def test_a_file_that_is_refused_is_not_a_matter_of_sizes(
    error: type[Exception], hint: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "make", unittest.mock.Mock(side_effect=error("/etc/x: odd")))
    keeper = Keeper(Nix(Settings(), run.folder / "log"))
    with pytest.raises(AgentError, match=r"^/etc/x: odd$") as caught:
        builder.assemble_images(run, [], Task(DemoTask("x86_64-linux"), False, ()), keeper)
    assert bool(hint) == bool(caught.value.hint)
    assert hint in caught.value.hint


def test_one_image_alone_needs_no_further_room(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image is there already: a nearly full disk must not cost it."""
    monkeypatch.setattr(room, "SCARCE", 1 << 62)
    image = tmp_path / "a.img"
    image.write_bytes(b"x" * 5000)
    wanted = typing.cast("imaging.Wanted", types.SimpleNamespace(spec=SPEC))
    group = imaging.Group(
        typing.cast("Run", None), tmp_path, ImageOptions(), [wanted], lambda *_: None
    )
    group._check_room(image, 0)
    with pytest.raises(AgentError, match="1 more images") as caught:
        group._check_room(image, 1)
    assert caught.value.kind == "disk"


def test_a_full_disk_is_told_whichever_file_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    for number, full in ((errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, False)):

        def body(number: int = number) -> None:
            raise OSError(number, os.strerror(number), "/var/nixos-image/x")

        with pytest.raises(SystemExit):
            failure.run_agent("builder", body)
        said = capsys.readouterr().out
        assert ("the disk of Docker's data is full" in said) is full


def test_a_file_that_an_agent_cannot_use_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A build may have given it a name of any length, with any letters."""
    monkeypatch.setenv("NIXOS_IMAGE_LOG", "json")

    def body() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "/nix/var/\x1b[31mx\n" + "y" * 5000)

    with pytest.raises(SystemExit):
        failure.run_agent("cleanup", body, owns_store=False)
    told = json.loads(capsys.readouterr().out)
    assert told["message"].endswith("yyy: Input/output error")
    assert len(told["message"]) < 250
    assert not {"\x1b", "\n"} & set(told["message"])
    assert told["kind"] == "cleanup"
    assert "test_builder.py" in told["detail"]


def test_a_store_of_an_earlier_builder_is_told(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure.check_owner(tmp_path)  # another user than the builder, such as boot's with KVM
    monkeypatch.setattr("os.geteuid", lambda: BUILDER)
    failure.check_owner(tmp_path / "none")
    with pytest.raises(AgentError, match="the store's volume belongs to another user") as caught:
        failure.check_owner(tmp_path)
    assert "down -v" in caught.value.hint


@pytest.mark.parametrize("closure", [False, True])
def test_of_a_closure_nothing_is_assembled(
    closure: bool, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    assembled: list[object] = []
    result = Built(tmp_path / "result", "x86_64-linux", "raw-efi")
    for place, name, value in (
        (builder, "this_run", lambda: run),
        (builder, "nix_version", lambda: "2"),
        (builder, "_built", lambda *_words: [result]),
        (builder, "Keeper", unittest.mock.Mock()),
        (builder, "assemble_images", lambda *words: assembled.append(words)),
        (alone, "hide", lambda: None),
        (alone, "end_others", lambda: None),
        (staging, "sweep", staging.Swept),
        (sandbox, "obtain", lambda nix, *_words, **_more: nix),
        (collect, "keep", list),
        (sbom, "installed", lambda: ()),
    ):
        monkeypatch.setattr(place, name, value)
    Task(DemoTask("x86_64-linux"), leased=False, foreign=(), closure=closure).write(run.folder)
    builder.build()
    assert len(assembled) == (0 if closure else 1)


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("remote", [True, False])
@pytest.mark.parametrize("isolated", [True, False])
def test_what_is_built_again_is_built_before_other_processes_are_ended(
    isolated: bool,
    remote: bool,
    late: bool,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
) -> None:
    """The build could change images, and the agent with the keys of builders is ended, too."""
    did: list[str] = []
    wrong = [str(tmp_path / "result")]
    result = Built(pathlib.Path(wrong[0]), "x86_64-linux", "raw-efi")
    hired = Crew((Builder("ssh-ng://h", (FOREIGN,), "/k"),) if remote else (), tmp_path)

    def repair(nix: Nix, _arguments: list[str]) -> str:
        wrong.clear()
        did.append("build" if nix.settings.builds or nix.crew.alive else "fetch")
        return ""

    def assemble(*words: object) -> None:
        wrong.append(str(result.path))
        did.append("assemble")
        typing.cast("Keeper", words[-1]).hold(wrong)

    for place, name, value in (
        (builder, "this_run", lambda: run),
        (builder, "nix_version", lambda: "2"),
        (builder, "_built", lambda *_words: [result]),
        (builder, "assemble_images", assemble),
        (store, "closure_of", list),
        (store, "changed", lambda _paths: list(wrong)),
        (Nix, "run", repair),
        (Keeper, "_unsigned", lambda _keeper, paths: paths),
        (alone, "hide", lambda: None),
        (alone, "end_others", lambda: did.append("end")),
        (alone, "receive_late", lambda _run: did.append("end")),
        (staging, "sweep", staging.Swept),
        (crew, "hire", lambda _run: hired),
        (
            *(sandbox, "obtain"),
            lambda nix, *_words, **_more: dataclasses.replace(nix, isolated=isolated),
        ),
        (collect, "keep", list),
        (sbom, "installed", lambda: ()),
    ):
        monkeypatch.setattr(place, name, value)
    Task(DemoTask("x86_64-linux"), leased=False, foreign=(), late=late).write(run.folder)
    builder.build()
    if not isolated or (late and remote):
        assert did == ["build", "end", "assemble", "fetch"]
    else:
        assert did == [*(["end"] if late else []), "assemble", "build"]
