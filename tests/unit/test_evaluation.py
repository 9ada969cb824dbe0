"""Tests one-line errors of evaluations, with real messages of Nix and nixpkgs."""

import io
import json
import pathlib

import pytest

from orchestrator.agents.builder.evaluation import excerpt, explain, unreachable
from orchestrator.agents.builder.nixlog import NixLog, Problem
from orchestrator.shared.codes import CODES
from orchestrator.shared.run import APPLIANCE_TEXT

SOURCES = "/var/nixos-image/0badcafe/input"
FILE = f"{SOURCES}/home/me/pi.nix"
NIXPKGS = f"{SOURCES}/home/me/nixpkgs"

FOLDER_SENT = CODES["missing-input"].remedy
NAME_ONE = CODES["no-configuration"].remedy


def told(text: str, *places: str, show_trace: bool = False) -> tuple[str, str, str]:
    error = explain(
        Problem(text, places, f"error: {text}"), SOURCES, NIXPKGS, show_trace=show_trace
    )
    assert error.kind == "build"
    assert SOURCES not in f"{error} {error.detail}"
    return str(error), error.detail, error.hint


@pytest.mark.parametrize(
    ("text", "places", "message"),
    [
        ("undefined variable 'foo'", (f"{FILE}:6",), "/home/me/pi.nix:6: undefined variable 'foo'"),
        ("syntax error, unexpected ';'", (f"{FILE}:6",), "/home/me/pi.nix:6: syntax error, unex"),
        ("attribute 'foo' missing", ("/nix/x.nix:1", f"{FILE}:6"), "/home/me/pi.nix:6: attribute"),
        (f"path '{SOURCES}/home/me/no.nix' does not exist", (), "path '/home/me/no.nix' does not"),
        ("\nFailed assertions:\n- the moon is wrong", (), "failed assertion: the moon is wrong"),
        ("infinite recursion encountered", (f"{FILE}:6",), "/home/me/pi.nix:6: infinite recursion"),
        (
            f"The option `foo' does not exist. Definition values:\n- In `{FILE}':\n    1\n",
            (f"{FILE}:9",),
            "/home/me/pi.nix:9: there is no option foo",
        ),
        ("mine", ("/elsewhere/x.nix:1",), "mine"),
        ("mine", (f"{NIXPKGS}/lib/x.nix:1", f"{FILE}:6"), "/home/me/pi.nix:6: mine"),
        ("\nFailed assertions:\n- no", (f"{FILE}:6",), "failed assertion: no"),
        (
            "access to absolute path '/etc/x' is forbidden in restricted mode",
            (f"{FILE}:6",),
            "/home/me/pi.nix:6: access to absolute path '/etc/x' is forbidden",
        ),
        (
            "Cannot build '/nix/store/x.drv'.\nReason: platform mismatch\nRequired system: 'y'",
            (),
            "Cannot build '/nix/store/x.drv'. Reason: platform mismatch",
        ),
        ("", (), "Nix says nothing"),
    ],
)
def test_an_error_is_one_line_with_its_place(
    text: str, places: tuple[str, ...], message: str
) -> None:
    first, _detail, hint = told(text, *places)
    assert first.startswith(message)
    assert "\n" not in first
    assert hint


def test_what_may_not_be_read_has_a_way_out() -> None:
    _first, _detail, hint = told("access to absolute path '/x' is forbidden in restricted mode")
    assert "-I NAME=PATH" in hint


def test_more_lines_are_kept_as_detail() -> None:
    first, detail, _hint = told("\nFailed assertions:\n- one\n- two\n  edit x")
    assert (first, detail) == ("failed assertion: one", "- two\n  edit x")
    first, detail, hint = told(
        f"The option `a' does not exist. Definition values:\n- In `{FILE}': 1"
    )
    assert (first, detail) == ("there is no option a", "- In `/home/me/pi.nix': 1")
    assert "options" in hint


def test_the_trace_is_told_to_who_asks_for_it() -> None:
    assert told("mine") == ("mine", "", "-v shows the evaluation's trace")
    assert told("mine", show_trace=True) == ("mine", "", "")
    problem = Problem("mine", (), f"error: mine\n at {SOURCES}/a.nix")
    error = explain(problem, SOURCES, NIXPKGS, show_trace=True)
    assert error.trace == "error: mine\n at /a.nix"
    assert explain(problem, SOURCES, NIXPKGS, show_trace=False).trace == ""


def test_places_come_from_the_log_without_columns_nearest_first() -> None:
    log = NixLog(io.StringIO())
    frames = [
        {"file": "/a.nix:2:3", "line": 2, "column": 3, "raw_msg": "while calling"},
        {"file": None, "line": None, "column": None, "raw_msg": "while evaluating"},
        {"file": "«none»:0", "line": 0, "column": 0, "raw_msg": "x"},
        {"file": "/b.nix:4:9", "line": 4, "column": 9, "raw_msg": "from call site"},
    ]
    event = {"action": "msg", "level": 0, "msg": "error: hm\n trace", "raw_msg": "hm", "file": None}
    log.feed(f"@nix {json.dumps({**event, 'trace': frames})}")
    doings = ("while calling", "while evaluating", "x", "from call site")
    assert log.problem == Problem("hm", ("/a.nix:2", "/b.nix:4"), "error: hm\n trace", doings)
    assert (log.errors, log.notes) == (["hm"], [])


def test_what_nix_only_wants_to_be_read_is_no_problem() -> None:
    log = NixLog(io.StringIO())
    log.feed('@nix {"action":"msg","level":0,"msg":"these 2 derivations will be built:"}')
    assert (log.problem, log.notes) == (None, ["these 2 derivations will be built:"])


ASKING = (
    "noting that argument `{0}` is not externally provided, so querying `_module.args` instead",
    'while evaluating the module argument `{0}\' in "/home/me/pi.nix":',
)


@pytest.mark.parametrize("text", ["infinite recursion encountered", "attribute 'inputs' missing"])
def test_an_argument_that_nobody_gives_to_a_module_is_told(text: str) -> None:
    def explained(name: str) -> tuple[str, str]:
        doings = tuple(line.format(name) for line in ASKING)
        problem = Problem(text, (f"{FILE}:1",), text, doings)
        error = explain(problem, SOURCES, NIXPKGS, show_trace=False)
        return str(error), error.hint

    first, hint = explained("inputs")
    assert first == "/home/me/pi.nix:1: no special argument inputs is given"
    assert hint.startswith("--special-arg inputs VALUE gives it")
    assert "special" not in explained("pkgs")[0], "pkgs is given: its error is another one"


FETCHING = ("while fetching the input 'x'", "while updating the flake input 'a/b'", "while y")


def test_a_folder_that_an_input_names_and_that_was_not_sent_has_a_way_out() -> None:
    text = "path '//home/me/lib' does not exist"
    error = explain(Problem(text, (), text, FETCHING), SOURCES, NIXPKGS, show_trace=False)
    assert (str(error), error.hint) == (f"the flake's input a/b: {text}", FOLDER_SENT)
    locked = "access to URI 'path:/home/me/lib?narHash=x' is forbidden in restricted mode"
    assert told(locked)[2] == FOLDER_SENT


@pytest.mark.parametrize(
    ("text", "doings", "message"),
    [
        (
            "unable to download 'https://x.org/y': Could not connect (7)",
            FETCHING,
            "the flake's input a/b cannot be fetched: https://x.org/y: Could not connect (7)",
        ),
        (
            "Failed to open archive (error: unable to download 'https://x.org/y': No (6) host)",
            FETCHING[2:],
            "https://x.org/y cannot be fetched: No (6) host",
        ),
        (
            "Failed to fetch git repository 'ssh://git@x.org/y'",
            FETCHING,
            "the flake's input a/b cannot be fetched: ssh://x.org/y",
        ),
    ],
)
def test_what_cannot_be_fetched_is_told_with_the_input_that_it_is(
    text: str, doings: tuple[str, ...], message: str
) -> None:
    error = unreachable(text, Problem(text, (), text, doings))
    assert error
    assert (str(error), error.kind) == (message, "network")
    assert ("--override-input a/b FOLDER" in error.hint) is ("a/b" in message)


def test_other_errors_are_not_the_networks() -> None:
    assert unreachable("undefined variable", None) is None


def test_a_name_that_means_no_configuration_has_a_way_out() -> None:
    assert told("flake /x has no nixosConfigurations.a, but: b")[2] == NAME_ONE
    assert (
        told("flake /x: a is a derivation; images are made of a NixOS configuration")[2] == NAME_ONE
    )


@pytest.mark.parametrize(
    ("data", "named"), [(b"\xef\xbb\xbf{ }\n", True), (b"{ ; }\n", False), (None, False)]
)
def test_a_byte_order_mark_is_named(
    data: bytes | None, named: bool, tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "a.nix"
    if data:
        file.write_bytes(data)
    hint = told("syntax error, unexpected invalid token", f"{file}:1")[2]
    assert ("byte order mark" in hint) == named


# --- the caller's line ------------------------------------------------------------------------


@pytest.fixture
def sent(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a file of the caller's, in the folder of sent files `tmp_path`."""
    file = tmp_path / "pi.nix"
    file.write_text(
        "{\n  # services.opensh.enable\n  services = {\n    opensh.enable = 1;\n  };\n}\n"
    )
    return file


def test_the_line_that_nix_names_is_shown(sent: pathlib.Path, tmp_path: pathlib.Path) -> None:
    problem = Problem("undefined variable 'x'", (f"{sent}:4",), "")
    error = explain(problem, str(tmp_path), "", show_trace=False)
    assert str(error) == "/pi.nix:4: undefined variable 'x'"
    assert error.excerpt == "  4 |     opensh.enable = 1;"


def test_the_line_of_an_option_is_looked_for(sent: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The module system names the file only; a comment does not count, and nested sets do."""
    text = (
        f"The option `services.opensh' does not exist. Definition values:\n- In `{sent}':\n"
        "    {\n      enable = 1;\n    }\n\nDid you mean `services.openssh' or `services.opkssh'?"
    )
    error = explain(Problem(text, (f"{sent}:1",), text), str(tmp_path), "", show_trace=False)
    assert str(error) == "/pi.nix:4: there is no option services.opensh"
    assert error.excerpt == "  4 |     opensh.enable = 1;"
    assert error.hint == "did you mean services.openssh or services.opkssh?"
    assert error.code == "option-missing"
    assert "Did you" not in error.detail


def test_the_line_of_a_folders_module_is_looked_for(tmp_path: pathlib.Path) -> None:
    """A board's profile is often a folder, which Nix imports by its default.nix."""
    (tmp_path / "board").mkdir()
    (tmp_path / "board/default.nix").write_text("{\n  boot.kernelPackages = 1;\n}\n")
    text = (
        "The option `boot.kernelPackages' is defined multiple times while it's expected to be "
        f"unique.\n\nDefinition values:\n- In `{tmp_path}/board'\n- In `/nixpkgs/sd-image.nix'"
    )
    error = explain(Problem(text, (), text), str(tmp_path), "", show_trace=False)
    assert str(error) == "/board/default.nix:2: the option boot.kernelPackages has two values"
    assert error.excerpt == "  2 |   boot.kernelPackages = 1;"


def test_an_option_that_no_line_has_is_told_with_nixs_place(
    sent: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    text = f"The option `boot.no' does not exist. Definition values:\n- In `{sent}': 1"
    error = explain(Problem(text, (f"{sent}:3",), text), str(tmp_path), "", show_trace=False)
    assert str(error) == "/pi.nix:3: there is no option boot.no"


@pytest.mark.parametrize("place", ["", "/nowhere/x.nix:1", "{}:0", "{}:99", "{}:x", "{}:", "{}"])
def test_a_line_that_is_not_there_is_not_shown(place: str, sent: pathlib.Path) -> None:
    assert excerpt(place.format(sent)) == ""


def test_a_long_line_is_cut(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.nix").write_bytes(b"x" * 5000 + b"\xff\n")
    assert len(excerpt(f"{tmp_path}/a.nix:1")) < 200


def test_nixs_suggestion_comes_before_a_general_hint() -> None:
    trace = "error: attribute 'helo' missing\n at x\n Did you mean one of halo, hello or belr?"
    error = explain(Problem("attribute 'helo' missing", (), trace), "", "", show_trace=False)
    assert error.hint == "did you mean one of halo, hello or belr?"
    assert error.code == "missing-attribute"


def test_a_package_that_nixpkgs_refuses_is_told_without_its_advice_for_other_tools() -> None:
    text = (
        "Refusing to evaluate package 'vscode-1.125.0' in /x/vscode.nix:106 because it has an"
        " unfree license (\u2018unfree\u2019)\na) To temporarily allow unfree packages, you can use"
    )
    first, detail, hint = told(text)
    assert first == "package vscode-1.125.0 is not free, and the configuration does not allow it"
    assert detail == ""
    assert "allowUnfree = true" in hint


def test_a_package_of_an_appliance_toml_is_told_with_its_line_there(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "pi.toml"
    folder.mkdir()
    (folder / APPLIANCE_TEXT).write_text('# htpo\npackages = [\n  "vim", "htpo",\n]\n')
    (folder / "pi.nix").write_text("{ pkgs, ... }: {\n  a = [ pkgs.htpo ];\n}\n")
    problem = Problem("attribute 'htpo' missing", (f"{folder}/pi.nix:2",), "")
    error = explain(problem, str(tmp_path), "", show_trace=False)
    assert str(error) == "pi.toml:3: attribute 'htpo' missing"
    assert error.excerpt == '  3 |   "vim", "htpo",'
    other = Problem("attribute 'x' missing", (f"{folder}/pi.nix:2",), "")
    assert str(explain(other, str(tmp_path), "", show_trace=False)).startswith(
        "/pi.toml/pi.nix:2: "
    )
