"""Tests what all verbs share: their lookup, paths, facts of the caller."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import pytest

from orchestrator.ask.caller import read_caller
from orchestrator.ask.request import Caller
from orchestrator.shared.errors import UsageError
from orchestrator.shared.paths import ROOT
from orchestrator.verbs import help as help_verb
from orchestrator.verbs import registry
from tests.unit.asking import ask, demo

P = pathlib.PurePosixPath

#: Arguments that verbs cannot do without.
REST = {"verify": ("x.img",)}

EVERY_VERB = pytest.mark.parametrize("name", registry.names())


@pytest.mark.parametrize(
    ("verb", "option", "values"),
    [
        ("demo", "--format", ("raw-efi", "qcow-efi")),
        ("demo", "--ssh-key", ("a.pub", "b.pub")),
        ("build", "--configuration", ("a.nix", "b.nix")),
        ("build", "--nixpkgs", ("a", "b")),
        ("verify", "--key", ("a", "b")),
    ],
)
def test_a_second_value_does_not_drop_the_first(
    verb: str, option: str, values: tuple[str, str]
) -> None:
    parser = registry.verb(verb).parser()
    first, second = values
    twice = vars(parser.parse([option, first, f"{option}={first}", *REST.get(verb, ())]))
    assert twice == vars(parser.parse([option, first, *REST.get(verb, ())]))
    with pytest.raises(UsageError, match=rf"{option}.*: given twice, but only one value counts$"):
        parser.parse([option, first, option, second, *REST.get(verb, ())])


# --- verbs --------------------------------------------------------------------------------------


def test_each_module_beside_the_registry_is_a_verb() -> None:
    modules = {path.stem for path in (ROOT / "orchestrator/verbs").glob("*.py")}
    assert set(registry.names()) == modules - {"__init__", "registry"}
    assert registry.DEFAULT in modules


@EVERY_VERB
def test_a_verb_is_found_by_its_name(name: str) -> None:
    assert registry.find([name, "x"]) == (registry.verb(name), ["x"])
    assert registry.verb(name).parser().prog == f"./run.sh {name}"


@EVERY_VERB
def test_the_overview_has_every_verb(name: str) -> None:
    shown = registry.verb(name).shown
    assert any(name in words for words, _does in shown)
    assert all(f"./run.sh {words}" in help_verb.overview() for words, _does in shown)


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (["dmeo"], "dmeo: no such command", "did you mean demo?"),
        (["donw"], "donw: no such command", "did you mean down?"),
        (["zzzzzz"], "zzzzzz: no such command", "./run.sh help lists the commands"),
        (["my.nix"], "my.nix: no such command", "./run.sh help lists the commands"),
        (["help", "dmeo"], "help dmeo: no such verb", "did you mean demo?"),
        (["help", "registry"], "help registry: no such verb", "./run.sh help lists the commands"),
    ],
)
def test_what_is_no_verb_is_told_with_a_way_out(argv: list[str], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        ask(argv)
    assert message in str(caught.value)
    assert caught.value.hint == hint


@pytest.mark.parametrize("argv", [["demo", "--ssh-key", ""], ["demo", "--system", ""]])
def test_an_empty_value_is_not_taken_for_none(argv: list[str]) -> None:
    """An empty value (`--ssh-key "$KEY"` with an unset variable) is an error."""
    with pytest.raises(UsageError):
        ask(argv)


@pytest.mark.parametrize(
    "argv", [["demo", "--no"], ["demo", "--sys", "x86_64-linux"], ["boot", "--t", "x"]]
)
def test_options_are_not_abbreviated(argv: list[str]) -> None:
    """Abbreviated options are refused: a new option could make them ambiguous."""
    with pytest.raises(UsageError):
        ask(argv)


#: Slow modules that `prepare` must not import.
HEAVY = ("pydantic", "python_on_whales", "rich", "structlog", "tenacity")

PREPARED = """
import json, sys
from orchestrator import __main__
for words in json.loads(sys.argv[1]):
    sys.argv[1:] = ["prepare", *words]
    assert __main__.main() == 0, words
    heavy = [name for name in {heavy!r} if name in sys.modules]
    assert not heavy, f"{{words[0]}} imports {{heavy}}"
"""


def test_to_prepare_is_quick_for_it_imports_nothing_heavy() -> None:
    """`prepare` runs at each call of run.sh; Docker's client alone would take half a second."""
    # `eject` reads an appliance.toml, always.
    more = {"boot": ["x"], "compose": ["ps"], "eject": ["--help"], "flash": ["x"], "verify": ["x"]}
    more |= {"kit": ["export", "x"], "images": ["push", "x"]}
    verbs = json.dumps([[name, *more.get(name, [])] for name in registry.names()])
    command = [sys.executable, "-c", PREPARED.format(heavy=HEAVY), verbs]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- the caller's side --------------------------------------------------------------------------


def test_the_callers_side_has_defaults() -> None:
    nobody = read_caller({})
    assert (nobody.cwd, nobody.home, nobody.columns, nobody.out_kib, nobody.sparse) == (
        P("/"),
        P("/"),
        0,
        None,
        True,
    )
    assert nobody.socket == "/var/run/docker.sock"
    odd = read_caller(
        {"NIXOS_IMAGE_COLUMNS": "wide", "NIXOS_IMAGE_OUT_KIB": "-", "NIXOS_IMAGE_SPARSE": "0"}
    )
    assert (odd.columns, odd.out_kib, odd.sparse) == (0, 0, False)


@pytest.mark.parametrize("path", ["a\nb", "a\rb", "\x1b[2J", "a\ufffdb", "a\udcff", "\x7f"])
@pytest.mark.parametrize("arguments", [["demo", "-o"], ["-c"], ["boot"], ["--stamp"], ["-I"]])
def test_a_path_that_would_not_arrive_as_it_is_is_refused(
    arguments: list[str], path: str, who: Caller
) -> None:
    """Docker replaces invalid UTF-8 by U+FFFD, which would name another file."""
    with pytest.raises(
        UsageError, match="the path has control characters or is not UTF-8"
    ) as caught:
        ask([*arguments, path])
    assert str(caught.value).isprintable()


def test_so_is_any_in_a_folder_of_such_a_name(who: Caller) -> None:
    who = dataclasses.replace(who, cwd=P("/home/me/\ufffd"))
    with pytest.raises(UsageError, match="is not UTF-8"):
        ask(["demo"], who)
    assert ask(["demo", "-o", "/out"], who) == demo(out=P("/out"))


@pytest.mark.parametrize("path", ["//out", "///out", "/../out", "//a/../out/."])
def test_a_path_begins_with_one_slash(path: str, who: Caller) -> None:
    """Two leading slashes have a special meaning in POSIX and Python."""
    assert ask(["demo", f"--out={path}"], who) == demo(out=P("/out"))


ODD = [
    "-rf",
    "--checkpoint",
    "it's",
    'a "b"',
    "$HOME `id`",
    "a\\tb",
    "@x",
    " a ",
    "*",
    "é",
    ";",
    "#",
]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_names(name: str, who: Caller) -> None:
    assert ask(["demo", f"--out={name}"], who) == demo(out=P("/home/me/project") / name)
