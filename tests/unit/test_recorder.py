"""Tests what is recorded of Nix' downloads and builds, from its log's lines."""

import io
import itertools
import json
import pathlib

from orchestrator.agents.builder import recorder
from orchestrator.agents.builder.nixlog import NixLog
from orchestrator.agents.builder.recorder import Recorder
from orchestrator.shared.steps import Step, Sum

HASH = "0c7zvwjrlhqirf3z3q1k0l0r8bq9m5yd"


def event(**fields: object) -> str:
    return f"@nix {json.dumps(fields)}"


def start(number: int, kind: int, subject: str, parent: int = 0) -> str:
    return event(action="start", id=number, type=kind, parent=parent, text="", fields=[subject])


def stop(number: int) -> str:
    return event(action="stop", id=number)


def derivation(folder: pathlib.Path, name: str, system: str) -> str:
    file = folder / f"{HASH}-{name}.drv"
    file.write_text(f'Derive([("out","/nix/store/x","","")],[],[],"{system}","/bin/sh",[],[])')
    return str(file)


def ticking() -> Recorder:
    """Make a recorder whose clock goes on by a second with each look."""
    return Recorder(("aarch64-linux",), clock=itertools.count(100.0).__next__)


def test_builds_are_told_apart_by_who_runs_them(tmp_path: pathlib.Path) -> None:
    found = ticking()
    log = NixLog(io.StringIO(), found)
    systems = {"hello": "x86_64-linux", "busybox": "aarch64-linux", "source": "builtin"}
    for number, (name, system) in enumerate(systems.items(), 1):
        log.feed(start(number, 105, derivation(tmp_path, name, system)))
        log.feed(stop(number))
    kinds = {one.name.rpartition("-")[2]: one.kind for one in found.result().longest}
    assert kinds == {"hello": "native", "busybox": "emulated", "source": "fetched"}
    assert [(one.kind, one.count) for one in found.result().sums] == [
        ("fetched", 1),
        ("native", 1),
        ("emulated", 1),
    ]


def test_a_download_has_the_bytes_of_its_transfers() -> None:
    """Nix nests them: an activity for the path, one for the copy below it, the transfer below."""
    found = ticking()
    log = NixLog(io.StringIO(), found)
    log.feed(start(1, 104, ""))
    log.feed(start(2, 108, f"/nix/store/{HASH}-glibc-2.42", parent=1))
    log.feed(start(3, 100, "", parent=2))
    log.feed(start(4, 101, "https://cache.example/nar/x.nar.xz", parent=3))
    for done in (10, 4096):
        log.feed(event(action="result", id=4, type=105, fields=[done, 4096, 0, 0]))
    for number in (4, 3, 2, 1):
        log.feed(stop(number))
    # The clock is looked at when the recorder is made, at the begin and at the end.
    assert found.result().longest == (Step("fetched", "glibc-2.42", 1.0, 1.0, 4096),)
    assert found.result().sums == (Sum("fetched", 1, 1.0, 4096),)


def test_commands_are_added_up_and_only_the_longest_steps_are_kept() -> None:
    found = ticking()
    for command in range(5):
        log = NixLog(io.StringIO(), found)
        for number in range(recorder.LONGEST):
            log.feed(start(1000 * command + number, 108, f"/nix/store/{HASH}-x{number}"))
            log.feed(stop(1000 * command + number))
    slow = NixLog(io.StringIO(), found)
    slow.feed(start(1, 108, f"/nix/store/{HASH}-slow"))
    for number in range(2, 20):
        slow.feed(start(number, 108, f"/nix/store/{HASH}-other"))
    slow.feed(stop(1))
    result = found.result()
    assert len(result.longest) == recorder.LONGEST
    assert "slow" in {one.name for one in result.longest}
    assert result.sums[0].count == 5 * recorder.LONGEST + 1


def test_what_never_ends_or_never_began_does_no_harm() -> None:
    found = ticking()
    log = NixLog(io.StringIO(), found)
    log.feed(stop(7))
    log.feed(start(8, 105, f"/nix/store/{HASH}-gone.drv"))
    log.feed(event(action="result", id=9, type=105, fields=[5, 5]))
    assert found.result().longest == ()
    log.feed(stop(8))
    assert [one.kind for one in found.result().longest] == ["native"]
