"""Tests the parser of Nix' internal-json log, with Nix' lines and invalid ones."""

import dataclasses
import io
import json
import time

import hypothesis
import pytest
from hypothesis import strategies as st

from orchestrator.agents.builder.nixlog import TAIL_LINES, WARNINGS, NixLog, derivation_name
from orchestrator.agents.builder.reporter import state_of
from orchestrator.shared.activity import NixState
from orchestrator.shared.json_reader import LARGEST, from_json
from orchestrator.shared.steps import Steps
from orchestrator.shared.text import plain

HASH = "0c7zvwjrlhqirf3z3q1k0l0r8bq9m5yd"
LINUX = f"/nix/store/{HASH}-linux-6.12.drv"


def nix(**event: object) -> str:
    return f"@nix {json.dumps(event)}"


def building(number: int, drv: str) -> str:
    fields = [drv, "", 1, 1]
    return nix(
        action="start",
        id=number,
        level=3,
        parent=0,
        text=f"building '{drv}'",
        type=105,
        fields=fields,
    )


def says(number: int, line: str) -> str:
    return nix(action="result", id=number, type=101, fields=[line])


@pytest.fixture
def log() -> NixLog:
    return NixLog(io.StringIO())


def text_of(log: NixLog) -> str:
    assert isinstance(log.log, io.StringIO)
    return log.log.getvalue()


def test_progress_counts_only_builds(log: NixLog) -> None:
    log.feed(nix(action="start", id=1, level=0, parent=0, text="", type=104))
    log.feed(nix(action="start", id=2, level=0, parent=0, text="", type=103))
    log.feed(nix(action="result", id=1, type=105, fields=[2, 7, 1, 0]))
    log.feed(nix(action="result", id=2, type=105, fields=[50, 90, 1, 0]))
    assert (log.done, log.expected) == (2, 7)


def test_what_nobody_can_have_received_is_counted_as_far_as_numbers_go(log: NixLog) -> None:
    """A build may tell of downloads of any size, again and again."""
    log.feed(nix(action="start", id=1, level=0, parent=0, text="", type=104))
    log.feed(building(5, LINUX))
    for number, done in ((8, 1 << 64), (8, 1), (8, 1 << 64), (9, -5), (10, 10**400)):
        log.feed(nix(action="start", id=number, level=0, parent=5, type=101, fields=["http://x"]))
        log.feed(nix(action="result", id=number, type=105, fields=[done, 1, 0, 0]))
    log.feed(nix(action="result", id=1, type=105, fields=[-1, 10**400, 0, 0]))
    for number in (10, 9, 8, 5):
        log.feed(nix(action="stop", id=number))
    log.feed(building(6, LINUX))
    log.feed(nix(action="stop", id=6))
    told = json.loads(json.dumps(dataclasses.asdict(log.recorder.result())))
    assert from_json(Steps, told, "steps").sums[0].size == LARGEST
    state = json.loads(json.dumps(dataclasses.asdict(state_of(log))))
    assert from_json(NixState, state, "nix").received == LARGEST


def test_warnings_of_the_configuration_are_kept_once(log: NixLog) -> None:
    coloured = "\x1b[35;1mevaluation warning:\x1b[0m first\n                    second"
    for _ in range(2):
        log.feed(nix(action="msg", level=1, msg=coloured, raw_msg="first\nsecond"))
    log.feed(nix(action="msg", level=1, msg="\x1b[35;1mevaluation warning:\x1b[0m older Nix"))
    log.feed(nix(action="msg", level=1, msg="warning: of Nix itself", raw_msg="of Nix itself"))
    assert log.warnings == ["first\nsecond", "older Nix"]


def test_of_many_warnings_the_first_are_told(log: NixLog) -> None:
    for number in range(WARNINGS + 5):
        log.feed(nix(action="msg", level=1, msg=f"evaluation warning: {number}"))
    assert (log.warnings[-1], len(log.warnings), log.untold) == (str(WARNINGS - 1), WARNINGS, 5)


SAID: dict[str, tuple[str, dict[str, list[object]]]] = {
    "a file": ("trace: nixos-image-file {}", {"files": [{}]}),
    "a spec": ("trace: nixos-image-spec {}", {"specs": ["{}"]}),
    "a warning": ("evaluation warning: run this", {"warnings": ["run this"]}),
}


@pytest.mark.parametrize("what", SAID)
def test_what_a_build_prints_does_not_pass_for_the_evaluations_words(what: str) -> None:
    """Nix passes it on as its own."""
    text, found = SAID[what]
    for evaluates in (True, False):
        log = NixLog(io.StringIO(), evaluates=evaluates)
        log.feed(nix(action="msg", level=1, msg=text))
        told = {name: getattr(log, name) for name in ("files", "specs", "warnings")}
        assert {name: value for name, value in told.items() if value} == (
            found if evaluates else {}
        )


@pytest.mark.parametrize("what", SAID)
def test_what_an_import_from_derivation_prints_does_not_either(what: str, log: NixLog) -> None:
    """The evaluation waits for the build, and says nothing meanwhile."""
    text, found = SAID[what]
    message = nix(action="msg", level=1, msg=text)
    log.feed(building(5, LINUX))
    log.feed(message)
    assert not any(getattr(log, name) for name in ("files", "specs", "warnings"))
    log.feed(nix(action="stop", id=5))
    log.feed(message)
    assert {name: getattr(log, name) for name in found} == found


def test_what_an_import_from_derivation_prints_is_no_plan(log: NixLog) -> None:
    """A plan names files that the builder reads."""
    plan = ["this derivation will be built:", "  /nix/store/../../dev/zero"]
    log.feed(building(5, LINUX))
    for text in plan:
        log.feed(nix(action="msg", level=0, msg=text))
    log.feed(nix(action="stop", id=5))
    log.feed(nix(action="msg", level=0, msg="this derivation will be built:"))
    assert log.notes == ["this derivation will be built:"]


@pytest.mark.parametrize("name", ["--help.drv", "x.drv", "/tmp/flake#x.drv", "/tmp/x?dir=y.drv"])
def test_what_a_build_calls_a_failed_derivation_is_no_option_and_no_flake(
    name: str, log: NixLog
) -> None:
    for text in (f"Cannot build '{name}'.\nReason: builder failed", f"build of '{name}' failed"):
        log.feed(nix(action="msg", level=0, msg=text))
    assert log.failed_path == ""


def test_the_current_derivation_comes_and_goes(log: NixLog) -> None:
    assert log.current == ""
    log.feed(building(5, LINUX))
    assert log.current == "linux-6.12"
    log.feed(building(6, f"/nix/store/{HASH}-rootfs.drv"))
    assert log.current == "rootfs"
    log.feed(nix(action="stop", id=6))
    assert log.current == "linux-6.12"
    log.feed(nix(action="stop", id=5))
    assert log.current == ""


def test_the_current_download_is_the_file(log: NixLog) -> None:
    url = "https://example.org/pool/main/l/linux/linux-image_6.12_arm64.deb"
    log.feed(nix(action="start", id=9, level=4, parent=0, text="", type=101, fields=[url]))
    assert log.current == "linux-image_6.12_arm64.deb"
    log.feed(nix(action="stop", id=9))
    assert log.current == ""


@pytest.mark.parametrize(
    "error",
    [
        f"Cannot build '{LINUX}'.\nReason: builder failed with exit code 2.\nOutput paths:\n  x",
        f"builder for '{LINUX}' failed to produce output path for output 'out' at \"x\"",
        f"build of '{LINUX}' on 'ssh://x' failed: exit code 2",
    ],
)
def test_a_failure_has_the_name_and_the_tail_of_its_log_alone(log: NixLog, error: str) -> None:
    log.feed(building(5, LINUX))
    log.feed(building(6, f"/nix/store/{HASH}-other.drv"))
    for number in range(TAIL_LINES + 10):
        log.feed(says(5, f"line {number}"))
        log.feed(says(6, "noise"))
    log.feed(nix(action="stop", id=5))
    log.feed(nix(action="msg", level=0, msg=f"\x1b[31;1merror:\x1b[0m {error}", raw_msg=error))
    needs = f"Cannot build '/nix/store/{HASH}-image.drv'.\nReason: 1 dependency failed."
    log.feed(nix(action="msg", level=0, msg=f"error: {needs}", raw_msg=needs))
    assert log.failed == "linux-6.12"
    assert log.tail.splitlines() == [f"line {number}" for number in range(10, TAIL_LINES + 10)]
    assert "linux-6.12> line 3\n" in text_of(log), "the whole story is in the log"


@pytest.mark.parametrize(
    "error",
    [
        f"Cannot build '{LINUX}'.\nReason: 1 dependency failed.\nOutput paths:\n  x",
        f"Cannot build '{LINUX}'.\nReason: platform mismatch\nRequired system: 'x'",
        f"hash mismatch in fixed-output derivation '{LINUX}':\n  specified: x",
    ],
)
def test_what_no_builder_has_failed_of_is_no_failed_derivation(log: NixLog, error: str) -> None:
    log.feed(nix(action="msg", level=0, msg=f"error: {error}", raw_msg=error))
    assert log.failed == ""


def test_nothing_has_failed_where_nothing_was_said(log: NixLog) -> None:
    log.feed(nix(action="msg", level=1, msg="warning: something"))
    assert (log.failed, log.tail, log.errors) == ("", "", [])


@pytest.mark.parametrize(
    "mark", ["\u202e", "\u2066", "\u200b", "\u2028", "\u00ad", "\ufeff", "\ue000", "\U000e0041"]
)
def test_marks_that_make_text_look_like_another_are_not_shown(mark: str, log: NixLog) -> None:
    """Bidirectional marks, signs without width, other line ends, signs of no meaning."""
    log.feed(building(5, LINUX))
    log.feed(says(5, f"gpj{mark}.exe"))
    assert "gpj.exe" in text_of(log)
    assert plain(f"a{mark}b\N{NO-BREAK SPACE}c\td\n") == "ab\N{NO-BREAK SPACE}c\td\n"


def test_control_sequences_reach_neither_the_log_nor_the_error(log: NixLog) -> None:
    evil = "\x1b]0;owned\x07\x1b[2Jred\x1b[31m \x08\rtext\x1b[0m\x7f"
    log.feed(building(5, LINUX))
    log.feed(says(5, evil))
    log.feed(f"not json {evil}")
    log.feed(nix(action="msg", level=0, msg=evil, raw_msg=f"builder for '{LINUX}' failed {evil}"))
    told = text_of(log) + log.tail + "".join(log.errors)
    assert "red text" in told
    assert not [
        char for char in told if (ord(char) < 32 and char not in "\n\t") or ord(char) == 127
    ]


@hypothesis.given(st.text())
def test_plain_text_cannot_steer_a_terminal(text: str) -> None:
    """C1 control characters are removed, too: in 8-bit mode, U+009B starts a sequence."""
    assert not [
        char
        for char in plain(text)
        if (ord(char) < 32 and char not in "\n\t") or 127 <= ord(char) < 160
    ]


def test_control_strings_are_left_out_whole() -> None:
    assert plain("a\x1b]104\x07b\x1b]0;title\x1b\\c\x1bPx\x1b\\d") == "abcd"
    assert plain("a\x1b]unfinished\nb") == "a]unfinished\nb"


def test_plain_leaves_text_alone() -> None:
    assert plain("Ünïcode → tab\there\n") == "Ünïcode → tab\there\n"


MALFORMED = [
    "@nix ",
    "@nix {",
    "@nix null",
    "@nix 7",
    "@nix []",
    '@nix "text"',
    nix(action="start"),
    nix(action="start", id="1", type=105, fields=["x"]),
    nix(action="start", id=1, type=105),
    nix(action="start", id=1, type=105, fields=[]),
    nix(action="start", id=1, type=105, fields=7),
    nix(action="start", id=1, type=105, fields={"a": 1}),
    nix(action="result", id=1, type=105, fields=[]),
    nix(action="result", id=1, type=105, fields=["a", "b"]),
    nix(action="result", id=1, type=105, fields=[None, None]),
    nix(action="result", id=2, type=101, fields=[]),
    nix(action="result", id=2, type=101, fields=[None]),
    nix(action="msg", level=0, msg="x", raw_msg=7),
    nix(action="msg", level=0, msg="x", raw_msg="x", trace=7),
    nix(action="msg", level=0, msg="x", raw_msg="x", trace=[7], line=1),
    nix(action="msg", level=0),
    nix(action="stop", id=[]),
    "",
]


@pytest.mark.parametrize("line", MALFORMED)
def test_malformed_lines_do_not_end_the_build(log: NixLog, line: str) -> None:
    log.feed(nix(action="start", id=1, type=104))
    log.feed(building(2, LINUX))
    log.feed(line)
    log.feed(nix(action="result", id=1, type=105, fields=[1, 2, 0, 0]))
    assert (log.done, log.expected) == (1, 2)


@pytest.mark.parametrize(
    ("path", "name"),
    [(LINUX, "linux-6.12"), ("linux", "linux"), (f"/nix/store/{HASH}-a-b.drv", "a-b")],
)
def test_derivation_names(path: str, name: str) -> None:
    assert derivation_name(path) == name


def test_names_of_files_are_told_and_no_part_of_the_log(log: NixLog) -> None:
    file = {"name": "pi", "diskFormat": "raw"}
    log.feed(nix(action="msg", level=0, msg=f"trace: nixos-image-file {json.dumps(file)}"))
    log.feed(nix(action="msg", level=0, msg="trace: nixos-image-file {"))
    log.feed(nix(action="msg", level=0, msg="trace: a user's own"))
    assert log.files == [file]
    assert log.errors == ["trace: a user's own"]
    assert text_of(log) == "trace: a user's own\n"


def test_specs_of_images_are_told_as_they_are_and_no_part_of_the_log(log: NixLog) -> None:
    for text in ('{"a": 1}', "null"):
        log.feed(nix(action="msg", level=0, msg=f"trace: nixos-image-spec {text}"))
    assert log.specs == ['{"a": 1}', "null"]
    assert text_of(log) == ""


@pytest.mark.parametrize(
    "piece", ["\x9d", "\x90", "\x1b]", "\x1b[", "\x9b0", "\x9d\x1b", "\x1b", "\x9b;", "\x9d;"]
)
def test_a_letter_of_hostile_text_is_not_looked_at_again_and_again(piece: str) -> None:
    began = time.process_time()
    plain(piece * 40_000)
    plain(f"{piece}{piece[-1] * 40_000}")
    assert time.process_time() - began < 2


def test_nor_is_a_failure_that_repeats_a_name(log: NixLog) -> None:
    log.errors.append("build of '/a.drv'" * 20_000)
    began = time.process_time()
    assert log.failed_path == ""
    assert time.process_time() - began < 2
