"""The builder: what it was asked, what it tells Nix, and what a failure of Nix is called."""

import collections
import dataclasses
import io
import json
import pathlib

import pytest

from orchestrator.agents import builder
from orchestrator.agents import run as run_module
from orchestrator.agents.failure import AgentError
from orchestrator.agents.nixlog import NixLog
from orchestrator.agents.run import Run
from orchestrator.agents.systems import foreign_system, this_system
from orchestrator.image.options import ImageOptions

FOREIGN = foreign_system(this_system())
DRV = "/nix/store/0c7zvwjrlhqirf3z3q1k0l0r8bq9m5yd-linux.drv"


@pytest.fixture
def run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(run_module, "WORK", tmp_path)
    (tmp_path / "0badcafe").mkdir()
    return Run("0badcafe", FOREIGN, start_seconds=0.2, grace_seconds=15, deadline_seconds=60)


def test_the_request_is_read(run: Run) -> None:
    document = {
        "emulated": False,
        "format": "raw-efi",
        "root_fs": "btrfs",
        "authorized_keys": ["ssh-ed25519 A me"],
        "locked": True,
        "wait_seconds": 5,
        "ca_bundle": "/somewhere/x",
        "options": dataclasses.asdict(ImageOptions(disk_size=7)),
    }
    (run.folder / "request.json").write_text(json.dumps(document))
    assert builder.Request.read(run) == builder.Request(
        False,
        "raw-efi",
        "btrfs",
        ("ssh-ed25519 A me",),
        True,
        5,
        "/somewhere/x",
        ImageOptions(disk_size=7),
    )


@pytest.mark.parametrize(("system", "emulated"), [(FOREIGN, True), (this_system(), False)])
def test_without_a_request_the_demo_is_built(run: Run, system: str, emulated: bool) -> None:
    alone = Run(run.id, system, 1, 1, 1)
    assert builder.Request.read(alone) == builder.Request(emulated=emulated)


def test_a_request_of_another_version_is_an_error(run: Run) -> None:
    (run.folder / "request.json").write_text(
        '{"authorized_keys": [], "options": {}, "unheard_of": 1}'
    )
    with pytest.raises(TypeError, match="unheard_of"):
        builder.Request.read(run)


def config(run: Run, request: builder.Request) -> dict[str, str]:
    text = builder.nix_config(run, request)
    assert text.endswith("\n")
    return dict(line.split(" = ", 1) for line in text.splitlines())


def test_nix_is_told_of_foreign_programs_only_where_they_are_needed(run: Run) -> None:
    native = Run(run.id, this_system(), 1, 1, 1)
    assert config(run, builder.Request(emulated=True))["extra-platforms"] == FOREIGN
    assert config(run, builder.Request(emulated=False))["extra-platforms"] == FOREIGN, (
        "the host's own emulation"
    )
    assert "extra-platforms" not in config(native, builder.Request(emulated=False))


def test_nix_asks_no_cache_and_builds_on_the_volume(run: Run) -> None:
    found = config(run, builder.Request())
    assert found["substituters"] == ""
    assert found["build-dir"].startswith("/nix/")
    assert found["build-users-group"] == ""


def failure(*errors: str, code: int = 1, tail: tuple[str, ...] = ()) -> AgentError:
    log = NixLog(io.StringIO(), errors=list(errors), _tails={"linux": collections.deque(tail)})
    return builder._failure(log, code)


def test_a_failed_derivation_is_named_with_the_end_of_its_log() -> None:
    error = failure(
        f"builder for '{DRV}' failed with exit code 2", tail=("make: *** [all] Error 1",)
    )
    assert (str(error), error.kind, error.detail) == (
        "derivation linux failed",
        "build",
        "make: *** [all] Error 1",
    )


@pytest.mark.parametrize(
    "errors",
    [
        ("unable to download 'http://m/pool/x.deb': Couldn't resolve host name (6)",),
        (
            f"builder for '{DRV}' failed with exit code 1",
            "unable to download 'http://m/pool/x.deb': HTTP error 404",
        ),
    ],
)
def test_what_cannot_be_fetched_is_the_networks_fault(errors: tuple[str, ...]) -> None:
    error = failure(*errors)
    assert error.kind == "network"
    assert str(error).startswith("http://m/pool/x.deb cannot be fetched: ")


def test_a_full_disk_is_told() -> None:
    error = failure("error: writing to file: No space left on device")
    assert (str(error), error.kind) == ("the disk of Docker's data is full", "disk")


def test_a_disk_that_fills_up_in_a_derivation_is_told() -> None:
    error = failure(
        f"builder for '{DRV}' failed with exit code 1",
        tail=("cp: error writing 'x': No space left on device",),
    )
    assert error.kind == "disk"


@pytest.mark.parametrize("code", [137, -9])
def test_a_killed_nix_is_told(code: int) -> None:
    assert "killed" in str(failure(code=code))


def test_any_other_failure_has_what_nix_said() -> None:
    error = failure("undefined variable 'x'", "at line 3")
    assert (str(error), error.kind, error.detail) == (
        "Nix failed",
        "build",
        "undefined variable 'x'\nat line 3",
    )


def test_a_token_that_never_comes_is_cleanups_fault(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(builder, "TOKEN_FILE", tmp_path / "token")
    with pytest.raises(AgentError, match="cleanup was not ready") as caught:
        builder.read_token(run.start_seconds)
    assert caught.value.kind == "cleanup"
    (tmp_path / "token").write_text("secret")
    assert builder.read_token(run.start_seconds) == "secret"


def test_waiting_for_foreign_programs_ends_with_the_last_cause(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder.canary, "run", lambda *_: builder.canary.Outcome(False, "no entry"))
    with pytest.raises(AgentError, match="no entry") as caught:
        builder.wait_for_canary(run, builder.Request(wait_seconds=0.2))
    assert caught.value.kind == "emulation"


def test_waiting_for_foreign_programs_ends_when_they_run(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = iter(
        [
            builder.canary.Outcome(False, "x"),
            builder.canary.Outcome(False, "x"),
            builder.canary.Outcome(True),
        ]
    )
    monkeypatch.setattr(builder.canary, "run", lambda *_: next(outcomes))
    builder.wait_for_canary(run, builder.Request(wait_seconds=5))
    assert next(outcomes, None) is None


@pytest.mark.parametrize(
    ("variables", "system", "run_id"),
    [
        ({}, FOREIGN, "compose"),
        ({"NIXOS_IMAGE_SYSTEM": "", "NIXOS_IMAGE_RUN": ""}, FOREIGN, "compose"),
        ({"NIXOS_IMAGE_SYSTEM": "x86_64-linux", "NIXOS_IMAGE_RUN": "ab"}, "x86_64-linux", "ab"),
    ],
)
def test_each_variable_has_a_default(
    variables: dict[str, str], system: str, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SYSTEM", "RUN", "START_SECONDS", "GRACE_SECONDS", "DEADLINE_SECONDS"):
        monkeypatch.delenv(f"NIXOS_IMAGE_{name}", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = run_module.this_run()
    assert (found.system, found.id) == (system, run_id)
    assert min(found.start_seconds, found.grace_seconds, found.deadline_seconds) > 0
