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
connect-timeout = 10
"""

#: What Nix says of such lines, and of a flake's input with a token of its own.
SAID = (
    "warning: unable to download 'https://user:made-up-pw@cache.example/x/nix-cache-info'",
    "error: Cannot parse Nix store 'http://user3:made@up/pw@b.example'",
    "error: syntax error in configuration line 'access-tokens example.org=made-up-third'",
    "Authorization: Bearer made-up-token, made-up-other",
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
    shown = [log.log.getvalue(), *log.errors, *log.warnings, repr(log.problem), repr(log._tails)]
    assert log.log.getvalue()
    assert "made" not in "".join(shown)
