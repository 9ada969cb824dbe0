"""Tests what an appliance.toml of somebody hostile may do: be refused, on lines of its own."""

import pathlib

import hypothesis
import hypothesis.strategies as st
import pytest

from orchestrator.ask.request import Appliance, Machine
from orchestrator.ask.ssh_keys import OPTIONS
from orchestrator.blueprint.model import Blueprint
from orchestrator.blueprint.positions import DEEPEST, LONGEST
from orchestrator.blueprint.reader import MOST, read
from orchestrator.decide import blueprint_modules
from orchestrator.shared.errors import UsageError
from tests.unit.requests import CALLER

IMAGE = 'image.a.board = "pc"\n'
FILE = f"{IMAGE}[[files]]\n"
DEEP = f"more than {DEEPEST} arrays, tables or parts of a key in each other"


def parsed(text: str) -> Blueprint:
    return read(text, "a.toml", lambda _key: True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{IMAGE}packages = {'[' * 3000}", f"not TOML: {DEEP}"),
        (f"{IMAGE}packages = {'{a=' * 3000}", f"not TOML: {DEEP}"),
        (f"{IMAGE}a{'.a' * 40_000} = 1", f"not TOML: {DEEP}"),
        (f"{IMAGE}[[a{'.a' * 40_000}]]", f"not TOML: {DEEP}"),
        (f"{IMAGE}a = {'9' * 5000}", "a.toml:2:5: not TOML: a word of 5000 letters is too long"),
        (f"{IMAGE}a = 0x{'f' * LONGEST}", f"a word of {LONGEST + 2} letters is too long"),
        ('"\\' * 40_000, "not TOML: "),
        (f"{IMAGE}# \ufffd", "a.toml:2: not TOML: it is not UTF-8"),
        (f"{IMAGE}# a\udcff", "a.toml:2: not TOML: it is not UTF-8"),
        (f"{IMAGE}a = 1\n" * 2, "a.toml:3:21: not TOML: this key has a value already"),
        (f"{IMAGE}[image.a]\ndisk-size = '{'9' * 150}'", "not TOML: [image.a] is there twice"),
        (f"[image.a]\nboard = 'pc'\ndisk-size = '{'9' * 5000}'", "is not a size"),
        (f"{FILE}user = '{'9' * 5000}'", "user: expected a whole number, found a text"),
        (f'{FILE}target = "/etc/x"\ntext = "\\u0000"', "U+0000 is not allowed"),
        (f'{IMAGE}services.caddy.config = "\\u0000"', "U+0000 is not allowed"),
        (f'{FILE}target = "/etc/../root/x"\ntext = ""', "a target must not have .., . or more"),
        (f'{FILE}target = "/etc/x/"\ntext = ""', "a target must not have .., . or more"),
        (f'{FILE}target = "/etc/\\u007f"\ntext = ""', "is not an absolute path"),
        (
            f"{FILE}target = '/etc/x'\ntext = ''\n[[files]]\ntarget = '/etc/x'\ntext = 'b'",
            "two files have the target /etc/x",
        ),
        *(
            (f"{IMAGE}{text}", "control characters are not allowed")
            for text in (
                'modules = ["./a\\nb"]',
                '[[users]]\nname = "a"\nkeys = ["~/a\\tb"]',
                'wifi = { ssid = "a", password-file = "a\\u001b" }',
                'services.tailscale.auth-key-file = "a\\u007f"',
            )
        ),
        (f'{IMAGE}wifi.ssid = "a\\u001b"', "wifi.ssid: control characters are not allowed"),
        (f'nixpkgs = "a\\nb"\n{IMAGE}', "nixpkgs: control characters are not allowed"),
        *(
            (f'{IMAGE}[[users]]\nname = "a"\nkeys = ["github:{name}"]', "is not github: and a user")
            for name in ("", "a/b", "..", "a.keys?", "a b", "a" * 40)
        ),
        *(
            (f'[image."{name}"]\nboard = "pc"', "is not an image's name")
            for name in ("", "..", "a/b", "-a", "a.b", "a b", "é")
        ),
        *(
            (f'{IMAGE}[[users]]\nname = "{name}"', "is not a user's name")
            for name in ("", "a.b", "a b", "a:b", "A", "../a")
        ),
        *(
            (
                f'{IMAGE}[[users]]\nname = "a"\nhashed-password = "${one}"',
                "that is no hashed password",
            )
            for one in ("\\u0000", "a\\u001b[2J", "a:0:0::/:/bin/sh", "é")
        ),
    ],
    ids=lambda text: text[:40],
)
def test_what_breaks_readers_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(text)
    assert said in str(caught.value)
    assert str(caught.value).startswith("a.toml:")


def test_what_is_nearly_too_deep_is_read() -> None:
    text = f"{IMAGE}{'.'.join('a' * DEEPEST)} = 1"
    with pytest.raises(UsageError, match=r"a.toml:2:\d+: a is unknown"):
        parsed(text)


def test_no_key_makes_a_line_of_its_own() -> None:
    with pytest.raises(UsageError) as caught:
        parsed(IMAGE + '"x\\nerror: \\u001b[2J" = 1')
    (line,) = str(caught.value).splitlines()
    assert line.startswith('a.toml:2:1: "x\\nerror: \\u001b[2J" is unknown')


def test_many_faults_are_the_first_ones_and_a_number() -> None:
    with pytest.raises(UsageError) as caught:
        parsed(IMAGE + "".join(f"x{number} = 1\n" for number in range(2000)))
    *lines, last = str(caught.value).splitlines()
    assert [line.partition(" ")[0] for line in lines] == [
        f"a.toml:{number + 2}:1:" for number in range(MOST)
    ]
    assert last == f"a.toml: and {2000 - MOST} more mistakes"


def test_a_mark_of_windows_editors_is_no_fault() -> None:
    assert parsed(f"\ufeff{IMAGE}").image["a"].board == "pc"


@hypothesis.given(st.text(alphabet='"\\ a=,', max_size=400))
@hypothesis.example('"' + '\\"' * 200)
def test_the_options_of_a_key_take_no_longer_than_they_are(text: str) -> None:
    """As sshd reads them: a quote after a backslash never ends a text."""
    found = OPTIONS.match(text)
    assert (len(found[1]) if found else 0) == options_of(text)


def options_of(text: str) -> int:
    """Return the length of the options as sshd finds it (auth-options.c), 0 if no key follows."""
    quoted, at = False, 0
    while at < len(text) and (quoted or text[at] not in " \t"):
        if text[at : at + 2] == '\\"':
            at += 1
        elif text[at] == '"':
            quoted = not quoted
        at += 1
    return 0 if quoted or at == len(text) else at


HOSTILE = ("./a b; x.nix", "./${builtins.exec 1}.nix", './"].nix', "../x y.nix", "./a..b.nix")


@pytest.mark.parametrize("path", HOSTILE)
def test_no_path_is_code_in_what_is_ejected(path: str) -> None:
    blueprint = parsed(f"modules = ['{path}']\n{IMAGE}")
    place = pathlib.PurePosixPath("/home/me/a.toml")
    machine = Machine("a", ("raw-efi",), ("x86_64-linux",))
    found = Appliance(place, CALLER.home, "", blueprint, (machine,))
    text = blueprint_modules.ejected(found, CALLER, place.parent)["a.nix"]
    (line,) = (line for line in text.splitlines() if line.startswith("  imports = "))
    whole = path.removeprefix(".") if path.startswith("./") else "/home/x y.nix"
    start = "./." if path.startswith("./") else "/."
    quoted = whole.replace("${", "\\${").replace('"', '\\"')
    plain = "./a..b.nix"
    want = plain if path == plain else f'({start} + "{quoted}")'
    assert line == f"  imports = [ {want} ];"
