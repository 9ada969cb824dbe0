"""Tests the real Nix: secret settings, output, failed builds."""

import dataclasses
import json
import os
import pathlib
import re
import time
import typing
from collections.abc import Callable

import pytest

from orchestrator.agents import events
from orchestrator.agents.builder import forecast
from orchestrator.agents.builder.forecast import Forecast, Missing, read_missing
from orchestrator.agents.builder.nix import DESCRIPTOR, Nix
from orchestrator.agents.builder.nix_settings import Settings
from orchestrator.agents.failure import AgentError
from orchestrator.shared.architectures import this_system
from tests.tools.nix_store import run

pytestmark = pytest.mark.own_store


def test_nix_alone_reads_the_callers_own_configuration(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nix gets the secret; its environment, its child processes and a second reader do not."""
    monkeypatch.setattr("orchestrator.agents.builder.nix.STORE", tmp_path)
    spy = tmp_path / "nix"
    spy.write_text(
        "#!/bin/sh\ncat /proc/self/environ > $0.environ\nPATH=${PATH#*:}\n"
        'for i in 1 2; do nix config show access-tokens >> "$0.said"; done\n'
        f"cat /proc/self/fd/{DESCRIPTOR} >> $0.left\n"
    )
    spy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    nix = Nix(Settings(), tmp_path / "log", secret="access-tokens = example.org=secret\n")
    nix.run(["build"])
    assert (tmp_path / "nix.said").read_text().split("\n") == [" example.org=secret", "", ""]
    assert "secret" not in (tmp_path / "nix.environ").read_text()
    assert (tmp_path / "nix.left").read_text() == ""
    assert "secret" not in repr(nix)


#: A derivation whose builder prints a line and fails.
FAILING = """derivation {{
  name = "failing"; system = "{system}"; builder = "/bin/sh";
  args = [ "-c" "echo so; {exit}" ];
}}"""


@pytest.fixture
def failure(tmp_path: pathlib.Path) -> Callable[..., AgentError]:
    """Return the error of an expression that cannot be built."""

    def fail(expression: str, *options: str) -> AgentError:
        nix = Nix(Settings(platforms=("riscv64-linux",)), tmp_path / "log")
        with pytest.raises(AgentError) as caught:
            nix.build(["--impure", *options, "--expr", expression])
        return caught.value

    return fail


def test_a_builder_that_fails_is_told_by_its_derivations_name(
    failure: Callable[..., AgentError],
) -> None:
    error = failure(FAILING.format(system=this_system(), exit="exit 3"))
    assert (str(error), error.detail, error.kind) == ("derivation failing failed", "so", "build")


def test_a_failed_derivation_is_the_one_that_others_need(
    failure: Callable[..., AgentError],
) -> None:
    needed = FAILING.format(system=this_system(), exit="exit 3")
    other = f'''derivation {{
      name = "other"; system = "{this_system()}"; builder = "/bin/sh"; needs = {needed};
    }}'''
    assert str(failure(other)) == "derivation failing failed"


def test_a_foreign_builder_that_crashes_is_told_with_its_signal(
    failure: Callable[..., AgentError],
) -> None:
    error = failure(FAILING.format(system="riscv64-linux", exit="kill -11 $$"))
    assert error.kind == "emulator"
    assert "due to signal 11" in str(error)


def test_what_no_machine_can_build_is_told_with_the_reason(
    failure: Callable[..., AgentError],
) -> None:
    error = failure(FAILING.format(system="vax-linux", exit=""))
    assert re.fullmatch(r"Cannot build '.*-failing\.drv'\. Reason: platform mismatch", str(error))
    assert "vax-linux" in error.detail


def test_what_cannot_be_fetched_is_told_as_the_networks_fault(
    failure: Callable[..., AgentError],
) -> None:
    url = "http://127.0.0.1:1/x.tar.gz"
    error = failure(f'builtins.fetchTarball {{ url = "{url}"; sha256 = "{"0" * 52}"; }}')
    assert (str(error).partition(": ")[0], error.kind) == (f"{url} cannot be fetched", "network")


def test_a_dry_run_tells_what_would_be_built(tmp_path: pathlib.Path) -> None:
    words = ["build", "--dry-run", "--json", "--no-link", "--impure", "--expr"]
    wanted = FAILING.format(system=this_system(), exit="exit 3")
    said, log = Nix(Settings(), tmp_path / "log").run_logged([*words, wanted])
    (made,) = json.loads(said)
    assert read_missing(log.notes) == Missing((made["drvPath"],), (), 0, 0)


def test_a_build_is_recorded_with_its_kind(tmp_path: pathlib.Path) -> None:
    nix = Nix(Settings(), tmp_path / "log")
    wanted = f'''derivation {{
      name = "recorded"; system = "{this_system()}"; builder = "/bin/sh";
      args = [ "-c" "echo $when > $out" ]; when = "{time.time_ns()}";
    }}'''
    nix.build(["--impure", "--expr", wanted])
    steps = nix.recorder.result()
    assert [(one.kind, one.name) for one in steps.longest] == [("native", "recorded")]
    assert [(one.kind, one.count) for one in steps.sums] == [("native", 1)]


#: A derivation whose output a cache may have.
WANTED = """derivation {{
  name = "wanted"; system = "{system}"; builder = "/bin/sh"; salt = "{salt}";
  args = [ "-c" "echo built > $out" ];
}}"""


def test_a_cache_gives_only_what_a_trusted_key_has_signed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache has the path signed, with other bytes than those, and without a signature."""
    expression = WANTED.format(system=this_system(), salt=tmp_path)
    plain = {"NIX_CONFIG": "experimental-features = nix-command\nbuild-users-group =\n"}
    secret = tmp_path / "key"
    secret.write_text(run("nix", "key", "generate-secret", "--key-name", "evil-1", **plain))
    trusted = run("sh", "-c", f"nix key convert-secret-to-public < {secret}", **plain)
    no_network = Settings(build_dir=str(tmp_path))
    (path,) = Nix(no_network, tmp_path / "log").build(["--impure", "--expr", expression])
    cache = f"file://{tmp_path}/cache"
    run("nix", "copy", "--to", f"{cache}?compression=none&secret-key={secret}", str(path), **plain)
    run("nix-store", "--delete", "--ignore-liveness", str(path))

    def obtained(*keys: str) -> str:
        settings = dataclasses.replace(
            no_network, substituters=(cache,), trusted_keys=keys, builds=False
        )
        try:
            (made,) = Nix(settings, tmp_path / "log").build(["--impure", "--expr", expression])
        except AgentError:
            return ""
        text = made.read_text()
        run("nix-store", "--delete", "--ignore-liveness", str(made))
        return text

    def planned(*keys: str) -> tuple[list[str], int]:
        """Return what the plan says: kinds of builds, and the number of paths from the cache."""
        told.clear()
        settings = dataclasses.replace(no_network, substituters=(cache,), trusted_keys=keys)
        Forecast((cache,), dry_run=True).build(
            Nix(settings, tmp_path / "log"),
            ["--impure", "--expr", expression],
            [(this_system(), "raw")],
        )
        cost = told["plan"]["cost"]
        return [one["kind"] for one in cost["works"]], sum(one["paths"] for one in cost["fetches"])

    told: dict[str, dict[str, typing.Any]] = {}
    monkeypatch.setattr(events, "emit", lambda kind, **fields: told.update({kind: fields}))
    monkeypatch.setattr(forecast, "WORK", tmp_path)
    assert planned(trusted) == ([], 1)
    assert "cache-unsigned" not in told
    assert planned("evil-1:" + "A" * 43 + "=") == (["native"], 0), "Nix will build it"
    assert "has paths that no trusted key has signed" in told["cache-unsigned"]["message"]
    assert obtained(trusted) == "built\n"
    assert obtained() == ""
    assert obtained("evil-1:" + "A" * 43 + "=") == "", "a key of the same name"
    (entry,) = (tmp_path / "cache").glob("*.narinfo")
    signed = entry.read_text()
    (archive,) = (tmp_path / "cache/nar").iterdir()
    archive.write_bytes(archive.read_bytes().replace(b"built", b"false"))
    assert obtained(trusted) == "", "other bytes"
    entry.write_text("".join(one for one in signed.splitlines(True) if not one.startswith("Sig:")))
    assert obtained(trusted) == "", "no signature"
