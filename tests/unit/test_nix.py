"""Tests Nix' settings, and the errors of failed Nix commands."""

import collections
import io
import json
import os
import pathlib
import re
import time

import pytest

from orchestrator.agents import room
from orchestrator.agents.builder import collect, limits, nix, nix_settings, nixos
from orchestrator.agents.builder.crew import Crew
from orchestrator.agents.builder.forecast import Forecast, present_bytes
from orchestrator.agents.builder.limits import Met
from orchestrator.agents.builder.nix import Nix, attribute_paths
from orchestrator.agents.builder.nix_failure import Failure
from orchestrator.agents.builder.nix_settings import Settings
from orchestrator.agents.builder.nixlog import NixLog, derivation_name
from orchestrator.agents.failure import AgentError, disk_full
from orchestrator.agents.room import SCARCE, Room
from orchestrator.decide.pins import pinned_nix
from orchestrator.image import closure
from orchestrator.image.tree import TreeError
from orchestrator.shared import command as programs
from orchestrator.shared.command import Done
from orchestrator.shared.paths import ROOT

DRV = "/nix/store/0c7zvwjrlhqirf3z3q1k0l0r8bq9m5yd-linux.drv"

#: No limit was met.
NOTHING = Met(kills=0, refusals=0)


def config(settings: Settings) -> dict[str, str]:
    text = settings.text()
    assert text.endswith("\n")
    return dict(line.split(" = ", 1) for line in text.splitlines())


def test_nix_is_told_of_foreign_programs_only_where_they_run() -> None:
    found = config(Settings(platforms=("aarch64-linux", "riscv64-linux")))
    assert found["extra-platforms"] == "aarch64-linux riscv64-linux"
    assert "extra-platforms" not in config(Settings())


def test_derivations_that_run_a_virtual_machine_may_be_built() -> None:
    """Nix would refuse their feature where there is no /dev/kvm, after all else is built."""
    assert config(Settings())["extra-system-features"] == "kvm"


def test_features_that_a_foreign_system_requires_are_offered_where_its_programs_run() -> None:
    """Nixpkgs' builds for armv7l require its instruction set; Nix refuses each of them without."""
    found = config(Settings(platforms=("riscv64-linux", "armv7l-linux")))
    assert found["extra-system-features"] == "kvm gccarch-armv7-a"


def test_nix_asks_the_caches_that_it_is_told_of_and_builds_on_the_volume() -> None:
    found = config(Settings(build_dir="/var/nixos-image/0badcafe/builds"))
    assert (found["substituters"], found["trusted-public-keys"]) == ("", "")
    assert found["build-dir"] == "/var/nixos-image/0badcafe/builds"
    assert found["build-users-group"] == ""
    told = config(Settings(substituters=("https://a", "https://b"), trusted_keys=("k",)))
    assert (told["substituters"], told["trusted-public-keys"]) == ("https://a https://b", "k")


def test_an_evaluation_fetches_from_other_hosts_only() -> None:
    found = config(Settings(restricted=True))
    assert found["restrict-eval"] == "true"
    schemes = found["allowed-uris"].split()
    assert {"https:", "github:", "git+ssh:", "channel:"} <= set(schemes)
    assert not {"file:", "path:", "git+file:", "tarball+file:"} & set(schemes)
    assert "restrict-eval" not in config(Settings())


def test_only_a_restricted_evaluation_has_the_library_that_hides_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A command that only builds may collect garbage, for which Nix reads what is hidden."""
    monkeypatch.setattr(nix_settings, "preloaded", lambda library: library.name)
    own, restricted = Settings(), Settings(restricted=True)
    assert own.environment(evaluates=True)["LD_PRELOAD"] == "readonly.so"
    assert restricted.environment()["LD_PRELOAD"] == "readonly.so"
    assert restricted.environment(evaluates=True)["LD_PRELOAD"] == "readonly.so unseen.so"


def test_a_configuration_that_no_pipe_holds_is_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.agents.builder.nix.STORE", tmp_path)
    nix = Nix(Settings(), tmp_path / "log", secret="#" * 65537)
    with pytest.raises(AgentError, match="larger than 64 KiB"):
        nix.run(["build"])


#: Nix outputs of which another process has read or changed a part.
UNREADABLE = (
    "",
    "[]",
    "[{",
    "{}",
    "[1]",
    "null",
    '[{"outputs": {}}]',
    '[{"outputs": {"out": 1}}]',
    "[" * 9999,
)


@pytest.mark.parametrize("said", UNREADABLE)
def test_an_answer_that_is_none_is_a_failed_build(
    said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Nix, "run_logged", lambda *_: (said, None))
    nix = Nix(Settings(), pathlib.Path("log"))
    monkeypatch.setattr(
        "orchestrator.shared.command.run",
        lambda *_, **__: Done("", 0, f"{said} /drv".encode(), b"", 0),
    )
    for ask in (
        lambda: nix.build(["x"]) and None,
        lambda: Forecast().build(nix, [], [("x86_64-linux", "raw")]) and None,
        lambda: nixos._fetched(nix, "https://x"),
        lambda: present_bytes(["/nix/store/x.drv"]),
    ):
        with pytest.raises(AgentError, match=r"^Nix' output is invalid: .*[^\n]$") as caught:
            ask()
        assert caught.value.kind == "build"


def test_a_build_that_fails_on_its_own_collects_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> tuple[str, None]:
        raise AgentError("derivation a failed", kind="build")

    monkeypatch.setattr(Nix, "run_logged", run)
    monkeypatch.setattr(collect, "make_room_for", lambda _: pytest.fail("collected"))
    with pytest.raises(AgentError, match="derivation a failed"):
        Nix(Settings(), pathlib.Path("log")).build_derivations([DRV])


def test_a_command_that_builds_hears_no_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[object] = []

    def run(*_: object, again: bool, evaluates: bool) -> tuple[str, None]:
        heard.append((again, evaluates))
        return json.dumps([{"drvPath": DRV, "outputs": {"out": "/nix/store/o"}}]), None

    monkeypatch.setattr(Nix, "run_logged", run)
    Nix(Settings(), pathlib.Path("log")).build_derivations([DRV])
    assert heard == [(True, False)]


@pytest.mark.parametrize("room_made", [True, False])
def test_a_build_goes_on_once_room_was_made(
    room_made: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    did: list[object] = []

    def run(*_: object, **__: object) -> tuple[str, None]:
        did.append("nix")
        if "nix" in did[:-1]:
            return json.dumps([{"drvPath": DRV, "outputs": {"out": "/nix/store/o"}}]), None
        raise disk_full()

    def collected(derivations: list[str]) -> bool:
        did.append(derivations)
        return room_made

    monkeypatch.setattr(Nix, "run_logged", run)
    monkeypatch.setattr(collect, "make_room_for", collected)
    one = Nix(Settings(), pathlib.Path("log"))
    if room_made:
        assert one.build_derivations([DRV, DRV]) == [pathlib.Path("/nix/store/o")] * 2
        assert did == ["nix", [DRV], "nix"]
    else:
        with pytest.raises(AgentError, match="full"):
            one.build_derivations([DRV])
        assert did == ["nix", [DRV]]


@pytest.mark.parametrize(
    "said", ["/p", "/p\nsum\n1\n\nx\n", "/p\nsum\n1\n\n2\n/q\n", "/p\ns\n1\n\n-5\n"]
)
def test_records_that_are_none_are_an_error(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closure, "_ask", lambda *_: said)
    with pytest.raises(TreeError, match=r"^nix-store's output is invalid: "):
        closure.records(["/p"])


def test_attributes_are_quoted_as_nix_reads_them() -> None:
    assert attribute_paths([("x86_64-linux", "raw-efi")]) == ['"x86_64-linux"."raw-efi"']


def failed(log: NixLog) -> AgentError:
    """Return the error of a command that ended with 1 for no reason but those in its log."""
    nix = Nix(Settings(), pathlib.Path("/nowhere"))
    return Failure(log, 1, Room(pathlib.Path("/")), NOTHING, Crew(), (), nix._explained).error()


def failure(
    *errors: str,
    code: int = 1,
    tail: tuple[str, ...] = (),
    platforms: tuple[str, ...] = (),
    derivation: str = DRV,
    met: Met = NOTHING,
    scarce: bool = False,
) -> AgentError:
    tails = {derivation_name(derivation): collections.deque(tail)}
    log = NixLog(io.StringIO(), errors=list(errors), _tails=tails)
    store = Room(pathlib.Path("/"))
    store.least = SCARCE - scarce
    nix = Nix(Settings(platforms=platforms), pathlib.Path("/nowhere"))
    return Failure(log, code, store, met, Crew(), platforms, nix._explained).error()


def test_a_failed_derivation_is_named_with_the_end_of_its_log() -> None:
    error = failure(
        f"Cannot build '{DRV}'.\nReason: builder failed with exit code 2",
        tail=("make: *** [all] Error 1",),
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
            f"Cannot build '{DRV}'.\nReason: builder failed with exit code 1",
            "unable to download 'http://m/pool/x.deb': HTTP error 404",
        ),
    ],
)
def test_what_cannot_be_fetched_is_the_networks_fault(errors: tuple[str, ...]) -> None:
    error = failure(*errors)
    assert error.kind == "network"
    assert str(error).startswith("http://m/pool/x.deb cannot be fetched: ")


def test_a_cache_whose_archive_is_damaged_is_named() -> None:
    """Nix ends with words about the derivation and an option that run.sh does not have."""
    path, cache = "/nix/store/p-initrd", "http://user:secret@c:5000"
    errors = [
        "error: failed to read compressed data (Zstd decompression failed)",
        f"path '{path}' is required, but there is no substituter that can build it",
        f"some substitutes for the outputs of derivation '{DRV}' failed; try '--fallback'",
    ]
    log = NixLog(io.StringIO(), errors=errors, caches={path: cache})
    error = failed(log)
    assert str(error) == (
        "http://c:5000 does not give /nix/store/p-initrd as it was built:"
        " failed to read compressed data (Zstd decompression failed)"
    )
    assert (error.kind, "--substituter" in error.hint) == ("network", True)


def stand_in(script: str, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a shell script in Nix' place, and the store into `folder`, where the script is."""
    (folder / "nix").write_text(f"#!/bin/sh\n{script}")
    (folder / "nix").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(nix, "STORE", folder)
    monkeypatch.setattr("orchestrator.agents.builder.nix_settings.preloaded", lambda _: "")


def test_the_metadata_of_a_flake_with_hundreds_of_inputs_is_read(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit into a pipe made Nix wait for a reader, which waited for Nix' end."""
    script = "timeout 10 sh -c 'head -c 1000000 /dev/zero | tr \"\\0\" x'"
    stand_in(script, tmp_path, monkeypatch)
    assert Nix(Settings(), tmp_path / "log").run(["flake", "metadata"]) == "x" * 1_000_000


CACHE = "http://user:secret@c:5000"


def test_a_cache_that_no_trusted_key_has_signed_is_told_once(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, what the plan calls fetched is built for hours, and nobody knows why."""
    texts = (
        f"\x1b[35;1mwarning:\x1b[0m ignoring substitute for '/nix/store/{path}' from"
        f" '{cache}', as it's not signed by any of the keys in 'trusted-public-keys'"
        for path, cache in (("a", CACHE), ("b", CACHE), ("c", "http://what.a.build/prints"))
    )
    lines = [f"@nix {json.dumps({'action': 'msg', 'level': 1, 'msg': one})}" for one in texts]
    stand_in("cat >&2 << 'EOF'\n" + "\n".join(lines) + "\nEOF\n", tmp_path, monkeypatch)
    told: list[str] = []

    def emit(_event: str, **fields: str) -> None:
        told.append(fields["message"])

    monkeypatch.setattr("orchestrator.agents.events.emit", emit)
    Nix(Settings(substituters=(f"{CACHE}/?priority=5",)), tmp_path / "log").run(["build"])
    (message,) = told
    assert message.startswith("http://c:5000 has paths that no trusted key has signed")


def test_a_full_disk_is_told() -> None:
    for words in ("writing to file: No space left on device", "database or disk is full"):
        error = failure(f"error: {words}", scarce=True)
        assert (str(error), error.kind) == ("the disk of Docker's data is full", "disk")


def test_a_disk_that_fills_up_in_a_derivation_is_told() -> None:
    error = failure(
        f"Cannot build '{DRV}'.\nReason: builder failed with exit code 1",
        tail=("cp: error writing 'x': No space left on device",),
        scarce=True,
    )
    assert error.kind == "disk"


def test_a_derivation_that_failed_for_its_own_reasons_tells_the_next_step() -> None:
    error = failure(f"Cannot build '{DRV}'.\nReason: builder failed with exit code 1", tail=("so",))
    assert (str(error), error.code) == ("derivation linux failed", "")
    assert error.hint == "see the log; --debug-shell opens a shell in the failed build"


def test_a_disk_that_a_derivation_makes_and_fills_is_not_dockers() -> None:
    error = failure(
        f"Cannot build '{DRV}'.\nReason: builder failed with exit code 1",
        tail=("cptofs: error writing 'x': No space left on device",),
    )
    assert (str(error), error.kind) == ("derivation linux failed", "build")
    assert error.hint == "a disk image within the build is full (--disk-size?)"


def test_the_least_room_is_kept_that_was_seen(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [7, 5, 9]
    monkeypatch.setattr(room, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(Room, "_free", lambda _: free.pop() if free else 8)
    seen = Room(tmp_path)
    until = time.monotonic() + 10
    with seen.watched():
        while free and time.monotonic() < until:
            time.sleep(0.01)
    assert seen.least == 5


def test_room_is_what_the_disk_has(tmp_path: pathlib.Path) -> None:
    disk = os.statvfs(tmp_path)
    assert abs(Room(tmp_path).least - disk.f_bavail * disk.f_frsize) < 1 << 30


def test_want_of_memory_is_told_from_another_failure_and_from_a_full_disk() -> None:
    failed = f"Cannot build '{DRV}'.\nReason: builder failed with exit code 137"
    error = failure(failed, met=Met(kills=1, refusals=1))
    assert (
        str(error) == "derivation linux failed: the kernel killed a process because memory ran out"
    )
    assert (error.kind, "--memory" in error.hint) == ("memory", True)
    assert failure(failed).kind == "build"
    assert failure("No space left on device", met=Met(1, 1), scarce=True).kind == "disk"


def test_the_limit_of_processes_is_told() -> None:
    error = failure(
        f"Cannot build '{DRV}'.\nReason: builder failed",
        tail=("fork: retry",),
        met=Met(kills=0, refusals=3),
    )
    assert str(error) == (
        "derivation linux failed: the kernel started no process because the builder has as many as"
        " it may"
    )
    assert (error.kind, error.code, error.detail) == ("host", "out-of-processes", "fork: retry")


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ("low 0\nhigh 0\noom 3\noom_kill 2\noom_group_kill 0\n", Met(2, 0)),
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n", Met(5, 0)),
        ("max 7\n", Met(0, 7)),
        ("nothing of the kind\n", Met(0, 0)),
    ],
)
def test_what_met_a_limit_is_counted(events: str, found: Met, tmp_path: pathlib.Path) -> None:
    counter = tmp_path / "events"
    counter.write_text(events)
    counters = (tmp_path / "none", counter)
    assert limits.met(counters, counters) - NOTHING == found


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


@pytest.mark.parametrize(
    ("system", "kind"),
    [("aarch64-linux", "emulator"), ("riscv64-linux", "emulator"), ("x86_64-linux", "build")],
)
def test_an_emulators_failure_is_named_where_there_was_one(
    system: str, kind: str, tmp_path: pathlib.Path
) -> None:
    derivation = tmp_path / "0c7z-linux.drv"
    derivation.write_text(
        'Derive([("out","/nix/store/x","","")],[("/nix/store/y.drv",["out"])],["/nix/store/z"],'
        f'"{system}","/bin/sh",["-c"],[("system","{system}")])'
    )
    error = failure(
        f"Cannot build '{derivation}'.\nReason: builder failed with exit code 139",
        tail=("qemu: uncaught target signal 11 (Segmentation fault) - core dumped", "make: Error"),
        platforms=("aarch64-linux", "riscv64-linux"),
        derivation=str(derivation),
    )
    assert error.kind == kind
    assert error.detail.endswith("make: Error")
    if kind == "emulator":
        assert str(error).startswith("the emulator failed in derivation ")
        assert "qemu: uncaught target signal 11" in str(error)


def test_a_foreign_derivation_that_fails_by_itself_is_no_emulators_failure(
    tmp_path: pathlib.Path,
) -> None:
    derivation = tmp_path / "0c7z-linux.drv"
    derivation.write_text('Derive([],[],[],"aarch64-linux","/bin/sh",[],[])')
    error = failure(
        f"Cannot build '{derivation}'.\nReason: builder failed with exit code 2",
        platforms=("aarch64-linux",),
    )
    assert error.kind == "build"


def test_a_failed_derivation_that_is_no_file_is_not_read(tmp_path: pathlib.Path) -> None:
    """A build may print Nix' message about any path."""
    os.mkfifo(tmp_path / "pipe.drv")
    (tmp_path / "link.drv").symlink_to("/dev/zero")
    for name in ("pipe.drv", "link.drv"):
        error = failure(
            f"Cannot build '{tmp_path / name}'.\nReason: builder failed with exit code 1"
        )
        assert error.kind == "build"


@pytest.mark.parametrize(
    "said", ["nix (Nix) 2.34.7", "nix (Nix) 2.34.8", "nix (Nix) 2.35.0pre20260601", "nix (Nix) 3.0"]
)
def test_a_nix_without_known_holes_is_taken(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = programs.Done("nix", 0, f"{said}\n".encode(), b"", 0.1)
    monkeypatch.setattr(programs, "run", lambda *_, **__: done)
    assert nix.version() == said.split()[-1]


@pytest.mark.parametrize("said", ["nix (Nix) 2.26.3", "nix (Nix) 2.34.6", "nix (Lix) 2.95.2", ""])
def test_an_older_nix_is_refused_in_one_line(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = programs.Done("nix", 0, f"{said}\n".encode(), b"", 0.1)
    monkeypatch.setattr(programs, "run", lambda *_, **__: done)
    with pytest.raises(AgentError, match=rf"^{re.escape(said)} is too old: .* 2\.34\.7 ") as caught:
        nix.version()
    assert "CVE-2026-39860" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (caught.value.kind, bool(caught.value.hint)) == ("host", True)


def test_the_pinned_nix_is_none_that_is_refused() -> None:
    (found, _suite) = pinned_nix(ROOT).split()
    assert tuple(map(int, found.split("."))) >= nix.LOWEST
