"""Tests the generated completion scripts and man page: they are of these parsers, and whole."""

import shlex

import pytest

from orchestrator.manual import command_line
from orchestrator.manual.__main__ import files
from orchestrator.shared.errors import leaves
from orchestrator.shared.paths import ROOT
from orchestrator.verbs import registry

FILES = files()
SCRIPTS = pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
MAN = FILES["docs/man/nixos-image-appliance.1"].replace("\\-", "-")


def test_the_files_are_what_the_parsers_say() -> None:
    """docs/completion, docs/man, docs/commands.md: `python3 -m orchestrator.manual`."""
    folders = (ROOT / "docs/completion", ROOT / "docs/man")
    there = {path.relative_to(ROOT).as_posix() for one in folders for path in one.iterdir()}
    assert there | {"docs/commands.md"} == set(FILES)
    for path, text in FILES.items():
        assert (ROOT / path).read_text() == text, path


@SCRIPTS
@pytest.mark.parametrize("name", registry.names())
def test_every_option_of_every_verb_is_offered(shell: str, name: str) -> None:
    text = FILES[f"docs/completion/run.sh.{shell}"]
    for action in registry.verb(name).parser()._actions:
        for option in action.option_strings:
            if shell == "fish":
                kind = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
                lines = [one for one in text.splitlines() if f"__nixos_image_verb {name}'" in one]
                assert any(f" {kind} " in line for line in lines), option
            elif shell == "bash":
                (line,) = [one for one in text.splitlines() if f"    {name}) options=" in one]
                assert option in line.partition('"')[2].rstrip('" ;').split(), option
            else:
                part = text.partition(f"\n    {name})\n")[2].partition(";;")[0]
                assert any(f"{option}{end}" in part for end in "[=+"), option


def test_values_are_known_by_their_names() -> None:
    verbs = {verb.name: verb for verb in command_line.verbs()}
    values = {
        (verb.name, name): [(value.kind, bool(value.words)) for value in option.values]
        for verb in verbs.values()
        for option in verb.options
        for name in option.names
    }
    assert values["build", "-c"] == values["build", "--sign"] == [("file", False)]
    assert values["build", "--out"] == [("folder", False)]
    assert values["build", "--system"] == values["build", "--format"] == [("none", True)]
    assert values["build", "--override-input"] == [("none", False), ("file", False)]
    assert values["build", "--boot"] == []
    # The versions are those of the locks, which change without these files.
    assert values["build", "--qemu"] == [("none", False)]


def test_the_page_has_every_option_exit_code_and_variable() -> None:
    for verb in command_line.verbs():
        assert f".SS ./run.sh {verb.name}" in MAN
        for option in verb.options:
            if "--help" not in option.names:
                assert f"\n{', '.join(f'\\fB{name}\\fR' for name in option.names)}" in MAN
    for kind in leaves():
        assert f".B {kind.exit_code}\n" in MAN
    assert ".B NIXOS_IMAGE_PATIENCE\n" in MAN
    assert "NIXOS_IMAGE_RUN" not in MAN, "run.sh sets it, not a person"


@pytest.mark.parametrize("name", registry.names())
def test_each_verb_has_examples_that_its_parser_takes(name: str) -> None:
    """They are the last lines of the help, where a terminal shows them."""
    parser = registry.verb(name).parser()
    assert parser.examples
    said = parser.format_help().rstrip().splitlines()
    count = len(parser.examples)
    assert said[-count - 1] == "examples:"
    assert max(map(len, said[-count:])) <= 100
    for words, does in parser.examples:
        assert does
        verb, rest = registry.find(shlex.split(words))
        assert verb is registry.verb(name), words
        if not verb.passes_on:
            verb.parser().parse_intermixed_args(rest)
