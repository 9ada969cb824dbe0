"""Tests the codes of errors: their table, their page, and messages of Nix that have one."""

import pathlib
import re

import pytest

from orchestrator.shared import codes, errors
from orchestrator.shared.codes import CODES, recognise
from orchestrator.shared.rules import RULES

ROOT = pathlib.Path(__file__).parents[2]

WHY = "in /nix/store/x-source/pkgs/by-name/he/hello/package.nix:57 because it"

#: Messages as Nix 2.34, nixpkgs 26.05 and older ones say them, their code, and what is told.
SAID = [
    ("infinite recursion encountered", "infinite-recursion", "infinite recursion: a value is"),
    (
        "The option `services.opensh' does not exist. Definition values:\n- In `/x.nix': 1",
        "option-missing",
        "there is no option services.opensh",
    ),
    (
        (
            "A definition for option `services.openssh.enable' is not of type `boolean'. Definition"
            ' values:\n- In `/x.nix\': "yes"'
        ),
        "option-type",
        "the value of services.openssh.enable is not of type boolean",
    ),
    (
        "The option `networking.hostName' has conflicting definition values:\n- In `/x.nix': \"b\"",
        "option-conflict",
        "the option networking.hostName has two values",
    ),
    (
        "The option `x.y' is defined multiple times while it's expected to be unique.",
        "option-conflict",
        "the option x.y has two values",
    ),
    ("\nFailed assertions:\n- the moon is wrong", "assertion-failed", ""),
    (
        f"Refusing to evaluate package 'vscode-1.125.0' {WHY} has an unfree license (...)\na)",
        "unfree-package",
        "package vscode-1.125.0 is not free",
    ),
    (
        "Package \u2018steam-1.0\u2019 in /x.nix:1 has an unfree license, refusing to evaluate.",
        "unfree-package",
        "package steam-1.0 is not free",
    ),
    (
        f"Refusing to evaluate package 'hello-2.12.3' {WHY} is marked as insecure\n\nKnown issues:",
        "insecure-package",
        "package hello-2.12.3 has known vulnerabilities",
    ),
    (
        (
            f"Refusing to evaluate package 'hello-2.12.3' {WHY} is not available on the requested"
            ' hostPlatform:\n  hostPlatform.system = "x86_64-linux"'
        ),
        "unsupported-system",
        "package hello-2.12.3 does not exist for this system",
    ),
    (
        f"Refusing to evaluate package 'hello-2.12.3' {WHY} has problems:\n- broken: It is broken.",
        "broken-package",
        "package hello-2.12.3 is marked as broken",
    ),
    (
        (
            "Cannot build '/nix/store/x-a.drv'.\nReason: platform mismatch\nRequired system:"
            " 'vax-linux' with features {}"
        ),
        "no-builder",
        "",
    ),
    ("a 'aarch64-linux' with features {} is required to build '/x.drv'", "no-builder", ""),
    ("syntax error, unexpected ';'", "syntax-error", ""),
    ("undefined variable 'pkg'", "undefined-variable", ""),
    ("function 'anonymous lambda' called without required argument 'a'", "missing-argument", ""),
    ("function 'f' called with unexpected argument 'b'", "missing-argument", ""),
    (
        'while evaluating the module argument `inputs\' in "/x/configuration.nix":',
        "missing-module-argument",
        "no special argument inputs is given",
    ),
    ("attribute 'helo' missing", "missing-attribute", ""),
    ("cannot add a string to an integer", "wrong-type", ""),
    ("attempt to call something which is not a function but an integer: 1", "wrong-type", ""),
    ("expected a set but found a string", "wrong-type", ""),
    (
        "Path 'hosts/pi.nix' in the repository \"/x\" is not tracked by Git.",
        "untracked-file",
        "the file hosts/pi.nix is not tracked by git",
    ),
    ("access to URI 'path:/x' is forbidden in restricted mode", "missing-input", ""),
    (
        "file 'nixos-hardware/dell' was not found in the Nix search path (add it using $NIX_PATH)",
        "not-on-search-path",
        "<nixos-hardware/dell> is not found: nothing on the search path is called nixos-hardware",
    ),
    ("access to absolute path '/x' is forbidden in restricted mode", "not-sent", ""),
    ("path '/x/no.nix' does not exist", "missing-file", ""),
    ("flake /x has no nixosConfigurations.a, but: b", "no-configuration", ""),
    (
        (
            "hash mismatch in fixed-output derivation '/nix/store/0abc-hello-2.12.tar.gz.drv':\n"
            "         specified: sha256-AAAA=\n            got:    sha256-BBBB="
        ),
        "hash-mismatch",
        "what was fetched for hello-2.12.tar.gz has another hash than the configuration says",
    ),
    (
        "error: collision between `/nix/store/a/bin/x' and `/nix/store/b/bin/x'",
        "file-collision",
        "",
    ),
    (
        (
            "pkgs.buildEnv error: two given paths contain a conflicting subpath:\n"
            "  `/nix/store/a/bin/x' and\n  `/nix/store/b/bin/x'\nhint: this may be"
        ),
        "file-collision",
        "",
    ),
]


@pytest.mark.parametrize(("message", "code", "text"), SAID)
def test_a_message_of_nix_has_its_code(message: str, code: str, text: str) -> None:
    told = recognise(message)
    assert told
    assert told.code == code
    assert told.text.startswith(text)
    assert bool(told.text) == bool(text)
    assert told.remedy
    assert not re.search(r"\{\d\}", told.text + told.remedy), "each group has been put in"


def test_each_pattern_is_tested_with_a_message() -> None:
    assert {code for _, code, _ in SAID} == {name for name, row in CODES.items() if row.says}


def test_the_remedy_names_what_is_to_be_written() -> None:
    mismatch = next(message for message, code, _ in SAID if code == "hash-mismatch")
    told = recognise(mismatch, in_build=True)
    assert told
    assert told.remedy == "if the new content is right, replace sha256-AAAA= by sha256-BBBB="
    insecure = recognise(next(message for message, code, _ in SAID if code == "insecure-package"))
    assert insecure
    assert 'permittedInsecurePackages = [ "hello-2.12.3" ];' in insecure.remedy


@pytest.mark.parametrize(
    "line", ["main.c:1: syntax error", "value is wrong", "attribute 'x' missing", "all is well"]
)
def test_a_compilers_words_are_none_of_nixs(line: str) -> None:
    assert recognise(line, in_build=True) is None


def test_an_unknown_message_has_no_code() -> None:
    assert recognise("the moon is wrong") is None


def test_each_class_has_its_own_code_and_each_code_its_class() -> None:
    names = {kind.__name__ for kind in errors.leaves()}
    assert {row.error for row in CODES.values()} == names
    for kind in errors.leaves():
        assert CODES[kind("x").code].kind is kind
        for finer in kind.__subclasses__():
            assert finer("x").code == kind("x").code


def test_codes_that_python_names_are_there() -> None:
    texts = [path.read_text() for path in (ROOT / "orchestrator").rglob("*.py")]
    named = {name for text in texts for name in re.findall(r'(?:code=|CODES\[)"([a-z-]+)"', text)}
    named |= {"image-full", "missing-input"}
    assert len(named) > 4
    assert named <= CODES.keys()


def test_no_code_is_a_rule_of_doctor() -> None:
    """A reader who looks for the name finds one thing."""
    assert not CODES.keys() & RULES.keys()


def test_the_documentation_has_all_codes() -> None:
    text = (ROOT / codes.PAGE).read_text()
    assert text.endswith(codes.reference())
    for name in CODES:
        assert f"\n### {name}\n" in text
    assert codes.page("usage") == "docs/errors.md#usage"


def test_run_sh_names_the_same_codes() -> None:
    text = (ROOT / "caller/say.sh").read_text()
    table = re.search(r"^page_of\(\) \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL)
    assert table
    pairs = re.findall(r"(\d+)\) echo 'docs/errors\.md#([a-z-]+)' ;;", table[1])
    assert len(pairs) > 5
    for number, name in pairs:
        assert CODES[name].kind.exit_code == int(number)
