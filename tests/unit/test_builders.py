"""Tests of builders on other machines: their lines, what is planned, what is told of a loss."""

import base64
import dataclasses
import io
import json
import os
import pathlib
import subprocess
import types
import typing
import unittest.mock

import pytest

from orchestrator.agents.builder.crew import Crew, hire
from orchestrator.agents.builder.limits import Met
from orchestrator.agents.builder.nix import Nix
from orchestrator.agents.builder.nix_failure import Failure
from orchestrator.agents.builder.nix_settings import Settings
from orchestrator.agents.builder.nixlog import PREFIX, NixLog
from orchestrator.agents.builder.ssh import why
from orchestrator.agents.failure import AgentError
from orchestrator.agents.room import Room
from orchestrator.ask.builders import builders_orders, read_builders
from orchestrator.ask.request import Emulation
from orchestrator.decide.host import HostFacts
from orchestrator.decide.plan import make_plan
from orchestrator.run import forecast
from orchestrator.run.account import Account
from orchestrator.run.context import RunContext
from orchestrator.run.supervisor import Supervisor
from orchestrator.shared import run as run_module
from orchestrator.shared.builders import (
    BUILDERS,
    Builder,
    Keyed,
    LineError,
    encoded,
    fingerprint,
    read_keyed,
    read_line,
    write_keyed,
)
from orchestrator.shared.errors import EmulationError, UsageError
from orchestrator.shared.run import Run
from orchestrator.shared.steps import Hand, Steps
from tests.unit.requests import CALLER, DEMO

ROOT = pathlib.Path(__file__).parents[2]

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMD6ccbLnqR7RHMUG3pljNRvLPqSBNAnJUJlHpatnROK"
URI = "ssh-ng://builder@192.0.2.7:2222"
LINE = f"{URI} aarch64-linux key 4 2 kvm,big-parallel - {encoded(KEY)}"
BUILDER = read_line(LINE)
DRV = "/nix/store/00000000000000000000000000000000-linux.drv"

FACTS = HostFacts(
    system="x86_64-linux",
    natively=frozenset({"x86_64-linux"}),
    kernel="6.12",
    engine="26.1",
    runs=frozenset({"x86_64-linux"}),
    no_private="no user namespaces",
    no_shared="",
    memory=8 << 30,
    data_free=1 << 40,
    out_free=None,
)


def test_a_line_is_read_and_written() -> None:
    assert (
        Builder(URI, ("aarch64-linux",), "key", 4, 2, ("kvm", "big-parallel"), (), KEY) == BUILDER
    )
    assert BUILDER.line("key") == LINE
    assert (BUILDER.host, BUILDER.port) == ("192.0.2.7", 2222)
    assert BUILDER.known == f"[192.0.2.7]:2222 {KEY}"
    plain = read_line("ssh-ng://[2001:db8::1] i686-linux,x86_64-linux ~/k")
    assert (plain.host, plain.port, plain.jobs, plain.host_key) == ("2001:db8::1", 22, 1, "")
    assert plain.systems == ("i686-linux", "x86_64-linux")
    assert fingerprint(KEY) == "SHA256:Dthi21vKoA77GcgZn41LmJvrK5AnqTtlPtdUKyP4Yl4"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("ssh://me@host aarch64-linux key", "no address of a machine"),
        ("ssh-ng://-oProxyCommand=x aarch64-linux key", "no address of a machine"),
        ("ssh-ng://me@host?remote-program=x aarch64-linux key", "no address of a machine"),
        ("ssh-ng://me@host:99999 aarch64-linux key", "no address of a machine"),
        ("ssh-ng://localhost aarch64-linux key", "the container itself"),
        ("ssh-ng://me@127.0.0.1:2222 aarch64-linux key", "the container itself"),
        ("ssh-ng://me@host aarch64-linux", "no SSH key"),
        ("ssh-ng://me@host aarch64-linux KEY 1 1", "still KEY"),
        ("ssh-ng://me@host aarch64-linux ~/.ssh/builder.pub", "builder.pub, names a public key"),
        ("ssh-ng://me@host aarch64 key", "no system"),
        ("ssh-ng://me@host aarch64-linux key 0", "jobs: '0'"),
        ("ssh-ng://me@host aarch64-linux key 1 1 a;b", "no feature"),
        ("ssh-ng://me@host aarch64-linux key 1 1 - - AAAA", "no host key"),
        (f"ssh-ng://me@host aarch64-linux key 1 1 - - {encoded(KEY)} x", "ninth word"),
        (
            "ssh-ng://me@host aarch64-linux key 1 1 - - "
            + base64.b64encode(b"ssh-rsa AAAA\n* ssh-rsa BBBB").decode(),
            "no host key",
        ),
    ],
)
def test_a_line_that_nix_or_ssh_would_take_otherwise_is_refused(line: str, problem: str) -> None:
    with pytest.raises(LineError, match=problem):
        read_line(line)


def test_lines_come_from_options_and_files_and_their_keys_from_where_they_stand() -> None:
    file = f"# comment\n{URI}1 i686-linux k; {URI}2 i686-linux ~/k"
    text = f"@/home/me/project/\n{LINE}\n@/etc/nix/\n{file}"
    who = dataclasses.replace(CALLER, builders=text)
    found = read_builders([LINE, "@/etc/nix/machines"], None, who)
    assert [one.key for one in found] == ["/home/me/project/key", "/etc/nix/k", "/home/me/k"]
    request = dataclasses.replace(DEMO, builders=found)
    orders = [["send", "--builders", one.key] for one in found]
    assert builders_orders(request) == orders
    assert builders_orders(dataclasses.replace(request, dry_run=True)) == []
    with pytest.raises(UsageError, match="--builders: 'x' is no address"):
        read_builders(["x"], None, dataclasses.replace(CALLER, builders="@/\nx"))
    with pytest.raises(UsageError, match="there is no builder"):
        read_builders(["@f"], None, dataclasses.replace(CALLER, builders="@/\n# nothing"))


def test_a_builder_with_two_lines_is_no_builder_with_the_first_one_alone() -> None:
    """Its other systems would be emulated, silently."""
    other = LINE.replace("aarch64-linux", "x86_64-linux")
    with pytest.raises(UsageError, match=f"--builders: {URI} has two lines that differ"):
        read_builders(["@f"], None, dataclasses.replace(CALLER, builders=f"@/\n{LINE}\n{other}"))
    same = dataclasses.replace(CALLER, builders=f"@/\n{LINE}\n{LINE}")
    assert len(read_builders(["@f"], None, same)) == 1


def test_keys_travel_and_are_not_shown() -> None:
    keyed = (Keyed(BUILDER, "-----BEGIN\nsecret\n"),)
    assert read_keyed(write_keyed(keyed)) == keyed
    assert "secret" not in repr(keyed)


@pytest.mark.parametrize("emulation", ["auto", "native", "shared"])
def test_what_builders_build_for_is_not_emulated(emulation: Emulation) -> None:
    request = dataclasses.replace(
        DEMO, system="aarch64-linux", builders=(BUILDER,), emulation=emulation
    )
    plan = make_plan(request, FACTS)
    assert (plan.mode, plan.services, plan.foreign) == ("builder", ("builder",), ())
    assert (plan.register, plan.private, plan.host) == ((), (), ())
    assert plan.remote == ("aarch64-linux",)
    assert "aarch64-linux: built by builders" in plan.describe()


def test_without_its_builder_a_system_is_emulated_as_the_user_says() -> None:
    request = dataclasses.replace(DEMO, system="aarch64-linux", builders=(BUILDER,))
    plan = make_plan(request, FACTS, alone=True)
    assert (plan.mode, plan.remote, plan.register) == ("shared", (), ("aarch64-linux",))
    native = dataclasses.replace(request, emulation="native")
    with pytest.raises(EmulationError):
        make_plan(native, FACTS, alone=True)


def test_a_builder_of_this_machines_system_changes_nothing_of_the_plan() -> None:
    own = dataclasses.replace(BUILDER, systems=("x86_64-linux",))
    request = dataclasses.replace(DEMO, system="x86_64-linux", builders=(own,))
    assert make_plan(request, FACTS).mode == "native"


# --- what is told of a builder --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("ssh: connect to host h port 22: Connection refused\nerror: failed", "Connection refused"),
        ("builder@h: Permission denied (publickey).\nerror: failed", "refuses the key"),
        (
            (
                "@@@@\nThe fingerprint for the ED25519 key sent by the remote host is\n"
                "SHA256:abc.\nHost key verification failed."
            ),
            "another host key, SHA256:abc,",
        ),
        ("Host key verification failed.", "if the machine was set up again, name its new one"),
        ("error: writing to file: No space left on device", "its disk is full"),
        ("\x1b[31mTimeout, server h not responding.", "Timeout, server h not responding."),
    ],
)
def test_what_ssh_says_is_told_in_words(said: str, told: str) -> None:
    assert told in why(said, BUILDER)


def test_a_lost_builder_is_told_where_nothing_else_builds_for_its_system(
    capsys: pytest.CaptureFixture[str],
) -> None:
    crew = Crew((BUILDER,), pathlib.Path("/run"))
    assert crew.setting == (
        f"{URI} aarch64-linux /run/builder-192.0.2.7-2222.pub 4 2 kvm,big-parallel - -"
    )
    assert crew.missed("aarch64-linux") is None
    crew.lose(BUILDER, "it refuses the key")
    assert "it refuses the key" in capsys.readouterr().out
    assert crew.text() == ""
    error = crew.missed("aarch64-linux")
    assert error
    assert (error.kind, str(error)) == (
        "builder",
        f"no builder for aarch64-linux is left ({URI}: it refuses the key)",
    )
    assert crew.missed("riscv64-linux") is None


def hired(line: str, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Crew:
    """Hire the builder of `line`, where each program succeeds."""
    monkeypatch.setattr(run_module, "WORK", folder)
    run = Run("0badcafe", (), 1, 1, 1)
    run.folder.mkdir()
    (run.folder / BUILDERS).write_text(write_keyed((Keyed(read_line(line), "secret-key"),)))

    def program(*_: object, **__: object) -> object:
        assert not (run.folder / BUILDERS).exists(), "it is gone before a program starts"
        return types.SimpleNamespace(code=0, text=f'{KEY} {{"trusted":true}}', stderr=b"", last="")

    monkeypatch.setattr("orchestrator.shared.command.run", program)
    return hire(run)


def test_only_a_machine_with_the_known_key_is_asked(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = hired(LINE, tmp_path, monkeypatch)
    assert crew.alive == [BUILDER]
    (folder,) = (tmp_path / "0badcafe").iterdir()
    settings = (folder / "ssh_config").read_text().splitlines()
    assert "StrictHostKeyChecking yes" in settings
    assert f"UserKnownHostsFile {folder}/known_hosts" in settings
    assert "GlobalKnownHostsFile none" in settings
    assert "UpdateHostKeys no" in settings
    assert "ForwardAgent no" in settings
    assert (folder / "known_hosts").read_text() == f"{BUILDER.known}\n"
    assert crew.variables()["NIX_SSHOPTS"] == f"-F {folder}/ssh_config"


def test_the_keys_are_in_no_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hired(LINE, tmp_path, monkeypatch)
    files = [one for one in tmp_path.rglob("*") if one.is_file()]
    assert files
    assert not [one for one in files if "secret-key" in one.read_text()]


def test_a_machine_whose_key_is_unknown_is_sent_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AgentError, match="its host key is unknown"):
        hired(LINE.rpartition(" ")[0], tmp_path, monkeypatch)
    # Neither settings nor an agent's socket: no key was used.
    assert not [one for one in tmp_path.rglob("*") if one.is_file()]


def log_of(*events: dict[str, object]) -> NixLog:
    log = NixLog(io.StringIO())
    for event in events:
        log.feed(PREFIX + json.dumps(event))
    return log


def begun(machine: str) -> dict[str, object]:
    fields = [DRV, machine, 1, 1]
    return {"action": "start", "id": 1, "type": 105, "parent": 0, "fields": fields}


def error(text: str, *, raw: bool = True) -> dict[str, object]:
    told = {"raw_msg": text} if raw else {}
    return {"action": "msg", "level": 0, "msg": f"error: {text}", **told}


FAILED = error(f"Cannot build '{DRV}'.\nReason: builder failed with exit code 1.")


def test_a_build_that_ends_with_the_connection_is_the_builders_loss() -> None:
    gone = error("Nix daemon disconnected unexpectedly (maybe it crashed?)", raw=False)
    log = log_of(begun(URI), gone, FAILED)
    assert list(log.lost) == [URI]
    assert "disconnected" in log.lost[URI][0]
    assert not log.failed_for_good


def test_a_build_that_fails_there_by_its_own_fault_is_no_loss() -> None:
    there = error(f"build of '{DRV}' on '{URI}' failed: Cannot build '{DRV}'.", raw=False)
    log = log_of(begun(URI), there, FAILED)
    assert log.lost == {}
    assert log.failed_for_good


def test_a_build_that_fails_there_is_told_with_the_machine() -> None:
    crew = Crew((BUILDER,), pathlib.Path("/run"))
    nix = Nix(Settings(), pathlib.Path("log"), crew=crew)
    for log, where in ((log_of(begun(URI), FAILED), f" on {URI}"), (log_of(begun(""), FAILED), "")):
        room = Room(pathlib.Path("/"))
        failed = Failure(
            log, 1, room, met=Met(0, 0), crew=crew, platforms=(), explained=nix._explained
        )
        assert str(failed.error()) == f"derivation linux failed{where}"


def test_a_full_disk_there_is_the_builders_loss() -> None:
    there = error(f"build of '{DRV}' on '{URI}' failed: No space left on device", raw=False)
    assert list(log_of(begun(URI), there, FAILED).lost) == [URI]


def test_a_build_that_fails_here_while_builders_build_is_final() -> None:
    other = {**begun(URI), "id": 2, "fields": [f"{DRV[:-4]}-2.drv", URI, 1, 1]}
    assert log_of(other, begun(""), FAILED).failed_for_good


def test_a_builder_that_nix_cannot_reach_is_lost() -> None:
    refused = error(f"cannot build on '{URI}': error: failed to start SSH connection", raw=False)
    refused["msg"] = str(refused["msg"]).removeprefix("error: ")
    assert log_of(refused).lost == {URI: ["failed to start SSH connection"]}


def test_what_builders_did_in_an_attempt_that_failed_is_told_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A builder was lost and the run went on without: the store has what it had built."""
    announced = dataclasses.asdict(Steps(hands=(Hand(URI, 2, 1.5),)))
    steps = {"steps": json.loads(json.dumps(announced))}
    supervisor = typing.cast("Supervisor", types.SimpleNamespace(event=lambda *_: steps))
    request = types.SimpleNamespace(builders=(BUILDER,), dry_run=False)
    context = types.SimpleNamespace(request=request, earlier=[], progress=unittest.mock.Mock())
    run = typing.cast("RunContext", context)
    monkeypatch.setattr(forecast, "memory", unittest.mock.Mock())
    monkeypatch.setattr(forecast, "verb_of", lambda _run: "demo")
    forecast.remember(run, supervisor, ended_well=True)
    assert run.earlier == []
    forecast.remember(run, supervisor, ended_well=False)
    (told,) = Account(run, supervisor)._builders()
    assert told == {
        "uri": URI,
        "host_key": fingerprint(BUILDER.host_key),
        "builds": 4,
        "seconds": 3.0,
    }
    context.earlier = []
    supervisor = typing.cast("Supervisor", types.SimpleNamespace(event=lambda *_: None))
    assert Account(run, supervisor)._builders() == []


def test_what_a_builder_says_of_its_own_build_is_no_second_one() -> None:
    inner = {**begun(""), "id": 2, "parent": 9}
    line = {"action": "result", "id": 2, "type": 101, "fields": ["compiling"]}
    log = log_of(begun(URI), inner, line, {"action": "stop", "id": 2}, {"action": "stop", "id": 1})
    steps = log.recorder.result()
    assert [(one.kind, one.count) for one in steps.sums] == [("remote", 1)]
    assert [(one.uri, one.count) for one in steps.hands] == [(URI, 1)]
    assert isinstance(log.log, io.StringIO)
    assert "linux> compiling" in log.log.getvalue()


def test_a_warning_of_a_builder_is_no_error() -> None:
    loud = error("warning: unable to download 'https://cache.example/x': no network", raw=False)
    loud["msg"] = str(loud["msg"]).removeprefix("error: ")
    assert log_of(loud).errors == []


# --- run.sh ---------------------------------------------------------------------------------------

SHELL = r"""
for file in variables named appliance builders; do . "$0/caller/$file.sh"; done
state=$PWD
die() { echo "$2" >&2; exit "$1"; }
find_builders demo --builders @machines '--builders=ssh-ng://h aarch64-linux k2; ssh-ng://i s ~/k3'
appliance=/srv/app/appliance.toml
NIXOS_IMAGE_APPLIANCE_TEXT='builders = ["ssh-ng://j riscv64-linux sub/k4 1"]'
for wanted; do if in_builders; then echo yes; else echo no; fi; done
"""


def test_run_sh_sends_the_keys_that_lines_name_and_no_other_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "machines").write_text("# mine\nssh-ng://g aarch64-linux k1 # a comment\n")
    named = [f"{tmp_path}/k1", f"{tmp_path}/k2", "/home/me/k3", "/srv/app/sub/k4"]
    others = ["/etc/passwd", f"{tmp_path}/k4", "/home/me/.ssh/id_ed25519"]
    done = subprocess.run(
        ["sh", "-euc", SHELL, ROOT, *named, *others],
        cwd=tmp_path,
        env={**os.environ, "HOME": "/home/me"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["yes"] * len(named) + ["no"] * len(others), done.stderr
