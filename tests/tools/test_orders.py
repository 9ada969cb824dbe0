"""Tests orders to run.sh: it accepts only those that its command line names."""

import dataclasses
import re
import urllib.parse

import hypothesis
import pytest
from hypothesis import strategies as st

from orchestrator.ask.request import Caller
from orchestrator.shared.errors import UsageError
from orchestrator.verbs import registry
from orchestrator.verbs.boot import Boot
from tests.unit.asking import ask
from tests.unit.orders import CALLER, asked, each_obeyed, obeyed, words

#: Arguments with a path: arguments before it, prefix and suffix in the same word.
PLACES: list[tuple[list[str], str, str]] = [
    (["flash"], "", ""),
    (["flash", "x.img", "--dry-run"], "", ""),
    (["demo", "-o"], "", ""),
    (["demo"], "-o", ""),
    (["demo"], "--out=", ""),
    (["demo"], "--out-link=", ""),
    (["--out-link"], "", ""),
    (["demo", "--ssh-key"], "", ""),
    (["demo", "--sign"], "", ""),
    (["demo", "--stamp"], "", ""),
    (["demo", "--inject", "a:/b", "--inject"], "", ":/etc/x:644"),
    (["demo", "--wifi-ssid", "me", "--wifi-password-file"], "", ""),
    (["demo", "--secure-boot-cert", "c", "--secure-boot-key"], "", ""),
    (["-f", "raw-efi", "--secure-boot-key", "k", "--secure-boot-cert"], "", ""),
    (["-c"], "", ""),
    ([], "-c", ""),
    ([], "--configuration=", ""),
    (["--flake"], "", "#host"),
    (["--flake"], "path:", "#host"),
    (["--flake"], "git+file://", "?dir=a#host"),
    (["--flake"], "git+file:", ""),
    (["--flake"], "", "?dir=a"),
    (["--flake"], "", "?submodules=1#host"),
    (["--flake", "a", "--override-input", "name"], "", ""),
    (["--flake", "a", "--override-input", "a", "b", "--override-input", "name"], "path:", "?dir=b"),
    (["--nixpkgs"], "path:", ""),
    (["-I"], "nixos-config=", ""),
    (["-I"], "nixpkgs=", ""),
    (["-I"], "nixpkgs=path:", ""),
    ([], "-Imine=", ""),
    (["-I"], "", ""),
    (["--format-path"], "", ""),
    (["--nix-conf"], "", ""),
    (["--sign"], "", ""),
    (["--stamp", "a", "--inject"], "", ":/etc/x"),
    (["boot"], "", ""),
    (["boot", "--test", "--run", "ls", "--"], "", ""),
    (["boot", "x", "--identity"], "", ""),
    (["boot", "x", "--seed"], "", ""),
    (["verify", "--key", "k"], "", ""),
    (["verify", "x", "--key"], "", ""),
    (["verify", "x", "--allowed-signers"], "", ""),
    (["kit", "export"], "", ""),
    (["kit", "export", "-f", "raw", "--option", "a", "b", "--with", "a.nix"], "", ""),
    (["kit", "export", "--show-trace", "-Ia=b", "--with=a.nix"], "", ""),
    (["kit", "export", "a", "--with"], "", ".nix"),
    (["kit", "export", "a", "--with"], "", "#host"),
    (["kit", "export", "a", "--with"], "", "#nixosConfigurations.toml"),
    (["kit", "export", "a", "--with"], "path:", "?submodules=1#host"),
    (["kit", "export", "a", "--with", "a.nix", "--nixpkgs"], "path:", ""),
    (["kit", "export", "a", "--with", "a.nix", "-I"], "nixpkgs=", ""),
    (["kit", "export", "a", "--with", "a#b", "--override-input", "name"], "", ""),
    (["kit", "export", "a", "--with", "a.nix", "--format-path"], "", ""),
    (["kit", "export", "a", "--with", "a.nix", "--nix-conf"], "", ""),
]

NASTY = [
    "a b",
    "a%20b",
    "%",
    "%x%41",
    "it's",
    '"$HOME"',
    "`id`",
    "$(id)",
    "a\\b",
    "*",
    "~",
    "ü",
    ";id",
    "x.",
    "a=b",
    "..",
]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: " ".join([*place[0], place[1]]))
def test_run_sh_takes_each_order_of_its_own_command_line(
    place: tuple[list[str], str, str], who: Caller
) -> None:
    before, prefix, suffix = place
    paths = ["x", "/x/", "../x", ".//x/../y", "//x", "/../../x"]
    argvs = [[*before, f"{prefix}{path}{suffix}"] for path in paths]
    assert_all_obeyed(argvs, who)


def assert_all_obeyed(argvs: list[list[str]], who: Caller) -> None:
    calls = [(asked(argv, who), argv) for argv in argvs]
    for (text, argv), orders in zip(calls, each_obeyed(calls, who), strict=True):
        assert orders == words(text), argv


@pytest.mark.parametrize("name", NASTY)
def test_run_sh_takes_any_name_as_it_is(name: str, who: Caller) -> None:
    twice = name.replace(":", "::")
    argvs = [
        ["demo", "-o", name, "--ssh-key", f"/{name}", "--inject", f"{twice}:/etc/x"],
        ["boot", "--identity", name, "--seed", name, f"./{name}"],
        ["verify", "--key", name, name],
        ["flash", "--yes", f"./{name}", "--no-verify", "--", name],
        ["-c", name, "--nixpkgs", f"/{name}", "-I", f"a=/{name}"],
        ["--flake", f"path:/{urllib.parse.quote(name)}?dir=a#b", "--nixpkgs", f"path:{name}%"],
    ]
    assert_all_obeyed(argvs, who)


@hypothesis.given(text=st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1))
@hypothesis.settings(
    max_examples=60, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_run_sh_takes_any_path_that_is_taken_here(text: str, who: Caller) -> None:
    argv = ["boot", "--test", "--system=aarch64-linux", "--", text]
    try:
        request = ask(argv, who)
    except UsageError as error:
        hypothesis.event(error.hint)
        return
    assert isinstance(request, Boot)
    assert request.image.is_absolute()
    assert ".." not in request.image.parts
    text = asked(argv, who)
    assert obeyed(text, argv, who) == words(text)


@pytest.mark.parametrize(
    "argv",
    [[], ["--run"], ["--list"], ["demo"], ["ps"], ["doctor"], ["clean"], ["pins", "--update"]],
)
def test_run_sh_takes_each_order_that_names_no_path(argv: list[str], who: Caller) -> None:
    with_bundle = dataclasses.replace(who, ca_bundle="/etc/ca.crt")
    text = asked(argv, with_bundle)
    assert obeyed(text, argv, with_bundle) == words(text)
    assert ["send_bundle"] in obeyed(text, argv, with_bundle)
    assert ["send_bundle"] not in obeyed(text, argv, who)


def test_run_sh_takes_what_its_environment_names(who: Caller) -> None:
    named = dataclasses.replace(who, configuration="x.nix", nixpkgs="/n")
    text = asked(["-f", "raw-efi"], named)
    own = [["send_tree", "NIXOS_CONFIG", f"{who.cwd}/x.nix"], ["send_tree", "NIX_PATH", "/n"]]
    assert words(text)[-2:] == own
    assert obeyed(text, ["-f", "raw-efi"], named) == words(text)
    assert [one for one in words(text) if one not in obeyed(text, [], who)] == own
    for argv in (["-c", "y.nix"], ["--configuration=y.nix"], ["--flake", "."]):
        assert own[0] not in obeyed(text, argv, named), "the command line names what is built"


def test_run_sh_knows_which_options_have_no_value(who: Caller) -> None:
    """Positional arguments of `boot`, `flash`, `kit` and `verify` are files."""
    text = (CALLER / "named.sh").read_text()
    (known,) = re.findall(r"^ *((?:--[a-z-]+ \| )+)--\*=\*\) ;;", text, re.MULTILINE)
    flags = {
        option
        for verb in ("boot", "flash", "kit", "verify")
        for action in registry.verb(verb).parser()._actions
        for option in action.option_strings
        if action.nargs == 0 and option.startswith("--")
    } - {"--help"}
    assert set(known.split(" | ")) - {""} == flags
