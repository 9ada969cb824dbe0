"""Tests that Nix' words reach no file and no message with the secrets of nix.conf's lines."""

import io
import json

import pytest

from orchestrator.agents.builder.hiding import hider
from orchestrator.agents.builder.nixlog import NixLog

LINES = """
substituters = https://user:made-up-pw@cache.example/x http://user3:made@up/pw@b.example
access-tokens = github.com=made-up-token gitlab.com=PAT:made-up-other
access-tokens example.org=made-up-third
acces-token example.org=made-up-fourth
extra-access-tokens = example.com=made-up-fifth
impure-env = TOKEN=made-up-sixth
connect-timeout = 10
"""

#: What Nix says of such lines, and of a flake's input with a token of its own.
SAID = (
    "warning: unable to download 'https://user:made-up-pw@cache.example/x/nix-cache-info'",
    "error: Cannot parse Nix store 'http://user3:made@up/pw@b.example'",
    "error: syntax error in configuration line 'access-tokens example.org=made-up-third'",
    "Authorization: Bearer made-up-token, made-up-other, made-up-fifth, made-up-sixth",
    "error: syntax error in configuration line 'acces-token example.org=made-up-fourth'",
    "fetching git input 'git+https://me:made-up-own@example.org/x.git'",
)


@pytest.mark.parametrize("said", SAID)
def test_a_secret_of_nix_conf_is_in_no_word_of_nix(said: str) -> None:
    assert "made" not in hider(LINES)(said)


def test_what_is_no_secret_stays() -> None:
    told = "building '/nix/store/0c7z-linux.drv' on https://cache.example/x, connect-timeout 10"
    assert hider(LINES)(told) == hider("")(told) == told
    plain = "substituters = https://a.example?trusted=1 ssh://git@b.example/x"
    assert hider(plain)("trusted git 1") == "trusted git 1"


@pytest.mark.parametrize("setting", ["nix-path = nixpkgs", "sandbox-paths = /bin/x", "x = a"])
def test_a_value_of_another_setting_is_none(setting: str) -> None:
    assert hider(f"{setting}=/nix/store # a=direct")("direct: /nix/store/x") == (
        "direct: /nix/store/x"
    )


def test_what_is_parsed_is_parsed_before_a_secret_in_it_is_hidden() -> None:
    """A variable for fetching may have the same word as a package's name."""
    log = NixLog(io.StringIO(), hide=hider("impure-env = GOPROXY=direct NAME=/nix/store"))
    drv = "/nix/store/0c7zvwjrlhqirf3z3q1k0l0r8bq9m5yd-direct.drv"
    uri = "ssh-ng://a"
    begin = {"action": "start", "id": 1, "type": 105, "fields": [drv, uri, 1, 1]}
    stop = {"action": "stop", "id": 1}
    note = {"action": "msg", "level": 0, "msg": f"  {drv}"}
    failed = {"action": "msg", "level": 0, "msg": "", "raw_msg": f"Cannot build '{drv}' failed"}
    full = f"build of '{drv}' on '{uri}' failed: direct: No space left on device"
    there = {"action": "msg", "level": 0, "msg": full, "raw_msg": full}
    got = {"action": "start", "id": 2, "type": 108, "fields": [drv, "https://a"]}
    none = f"path '{drv}' is required, but there is no substituter"
    spoiled = {"action": "msg", "level": 0, "msg": none, "raw_msg": none}
    for event in (begin, stop, note, failed, there, got, spoiled):
        log.feed(f"@nix {json.dumps(event)}")
    assert log.notes == [f"  {drv}"]
    assert (log.failed_path, log.failed) == (drv, "direct")
    assert log.lost == {uri: ["...: No space left on device"]}
    assert log.spoiled == (drv, "https://a")
    assert "direct" not in log.told


@pytest.mark.parametrize("level", [0, 1, 3])
@pytest.mark.parametrize("said", SAID)
def test_nix_log_has_no_secret(said: str, level: int) -> None:
    log = NixLog(io.StringIO(), hide=hider(LINES))
    trace = [{"raw_msg": said, "file": "/x", "line": 1}]
    message = {"action": "msg", "level": level, "msg": said, "raw_msg": said, "trace": trace}
    drv = "/nix/store/0c7zvwjrlhqirf3z3q1k0l0r8bq9m5yd-linux.drv"
    begin = {"action": "start", "id": 1, "type": 105, "fields": [drv, "", 1, 1]}
    line = {"action": "result", "id": 1, "type": 101, "fields": [said]}
    for event in (message, message | {"msg": f"evaluation warning: {said}"}, begin, line):
        log.feed(f"@nix {json.dumps(event)}")
    log.feed(said)
    assert isinstance(log.log, io.StringIO)
    shown = [log.log.getvalue(), log.told, *log.warnings, repr(log.problem), repr(log._tails)]
    assert log.log.getvalue()
    assert "made" not in "".join(shown)
