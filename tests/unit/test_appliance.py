"""Tests requests and orders of an appliance.toml, and what run.sh lets them send."""

import dataclasses
import pathlib

import pytest

from orchestrator.ask.request import Build, Caller, Demo
from orchestrator.blueprint.tables import SERVICES
from orchestrator.decide import blueprint_modules
from orchestrator.decide.plan import target_systems
from orchestrator.shared.errors import UsageError
from orchestrator.verbs.eject import Eject, commands
from tests.unit.asking import ask
from tests.unit.orders import asked, obeyed, words

TEXT = """\
nixpkgs = "./pkgs"   # "./not-this"
modules = [
  "./x.nix",
  '/y.nix',
]
[image.pi]
board = "raspberry-pi-4"
[image.web]
formats = ["qcow-efi", "raw-efi"]
[[users]]
name = "ada"
keys = ["~/.ssh/id.pub", "../other.pub"]
[wifi]
ssid = "x"
password-file = 'pa"ss'
[services]
tailscale = { auth-key-file = "./ts", routing = "client" }
[[files]]
target = "/etc/shadow"
"source" = "./a b" # a quoted key
"mode" = "640"
[[files]]
target = "/etc/text"
text = '''
source = "in-a-text"
'''
"""


@pytest.fixture
def it(who: Caller) -> Caller:
    """A caller with an appliance.toml in the working directory."""
    return dataclasses.replace(who, appliance=f"{who.cwd}/appliance.toml", appliance_text=TEXT)


def build(argv: list[str], who: Caller) -> Build:
    request = ask(argv, who)
    assert isinstance(request, Build)
    return request


def test_the_file_of_the_working_directory_is_built(it: Caller) -> None:
    request = build([], it)
    assert request.configuration is None
    assert request.appliance
    assert [(one.name, one.formats, one.systems) for one in request.appliance.machines] == [
        ("pi", ("sd-aarch64",), ("aarch64-linux",)),
        ("web", ("qcow-efi", "raw-efi"), ()),
    ]
    assert target_systems(request, "x86_64-linux") == ("aarch64-linux", "x86_64-linux")
    assert request.nixpkgs == it.cwd / "pkgs"
    assert request.image.wifi_ssid == "x"


@pytest.mark.parametrize(
    "argv", [["-c", "a.nix"], ["--flake", "."], ["-I", "nixos-config=a.nix"]], ids=str
)
def test_another_source_goes_first(argv: list[str], it: Caller) -> None:
    request = build(argv, it)
    assert request.appliance is None
    assert not request.image.wifi_ssid


def test_images_are_picked(it: Caller) -> None:
    request = build(["--image", "web", "-f", "raw-efi", "--system", "aarch64-linux"], it)
    assert request.appliance
    (one,) = request.appliance.machines
    assert (one.name, one.formats, one.systems) == ("web", ("raw-efi",), ("aarch64-linux",))


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--image", "wep"], "--image wep: appliance.toml has no such image"),
        (["--image", "pi", "-c", "x"], "--image excludes --configuration and --flake"),
        (["--appliance", "appliance.toml", "--flake", "."], "--appliance excludes --configuration"),
        (["--format-path", "x.nix"], "--format-path x.nix: not with appliance.toml"),
        (["--stamp", "x.csv"], r"--stamp and the ssid in \[wifi\] of appliance.toml exclude each"),
        (
            ["--inject", "b:/srv/x", "--inject", "x:/etc/shadow"],
            "appliance.toml: /etc/shadow: another file is put at /etc/shadow",
        ),
        (["--system", "x86_64-linux"], "--format sd-card: not for x86_64-linux"),
    ],
)
def test_what_does_not_go_together_is_refused(argv: list[str], said: str, it: Caller) -> None:
    with pytest.raises(UsageError, match=said):
        ask(argv, it)


NOBODY = '[image.pi]\nboard = "raspberry-pi-4"\n[[users]]\nname = "ada"\n'


@pytest.mark.parametrize(
    ("text", "argv"),
    [
        (f'{NOBODY}keys = ["~/.ssh/id.pub"]', []),
        (f'{NOBODY}hashed-password = "$y$x"', []),
        (f'modules = ["./x.nix"]\n{NOBODY}', []),
        (NOBODY, ["--allow-no-login"]),
        (NOBODY, ["--stamp", "x.csv"]),
        (NOBODY, ["--inject", "x:/root/.ssh/authorized_keys"]),
        ('[image.a]\nboard = "aws"', []),
    ],
)
def test_who_may_log_in_may_be_said_elsewhere(text: str, argv: list[str], who: Caller) -> None:
    it = dataclasses.replace(who, appliance=f"{who.cwd}/appliance.toml", appliance_text=text)
    assert build(argv, it).appliance


@pytest.mark.parametrize("text", [NOBODY, '[image.pi]\nformats = ["amazon", "qcow-efi"]'])
def test_an_image_that_lets_nobody_in_is_refused_before_anything_starts(
    text: str, who: Caller
) -> None:
    it = dataclasses.replace(who, appliance=f"{who.cwd}/appliance.toml", appliance_text=text)
    with pytest.raises(UsageError, match=r"appliance.toml: nobody could log in to pi: no user has"):
        ask([], it)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/etc/../root/x", "the destination must not contain .."),
        ("/nix/store/x", "/nix/store: only Nix may add files to the store"),
        ("/proc/x", "/proc: the kernel's processes are mounted there"),
    ],
)
def test_no_file_gets_where_an_image_has_none(target: str, said: str, who: Caller) -> None:
    text = f'image.a.board = "aws"\n[[files]]\nsource = "x"\ntarget = "{target}"\n'
    it = dataclasses.replace(who, appliance=f"{who.cwd}/appliance.toml", appliance_text=text)
    with pytest.raises(UsageError, match=rf"appliance.toml: {target}: {said}"):
        ask([], it)


def test_without_a_file_an_image_is_not_found(who: Caller) -> None:
    with pytest.raises(UsageError, match=r"--image x: there is no appliance.toml here"):
        ask(["--image", "x"], who)
    with pytest.raises(UsageError, match=r"there is no appliance.toml here"):
        ask(["eject"], who)


def test_the_command_lines_late_values_win(it: Caller) -> None:
    request = build(["--wifi-ssid", "mine"], it)
    assert (request.image.wifi_ssid, request.image.wifi_password_file) == ("mine", "")
    assert [(one.source, one.target, one.mode) for one in request.image.injections] == [
        (f"{it.cwd}/a b", "/etc/shadow", 0o640),
        (f"{it.cwd}/ts", "/etc/tailscale-auth-key", 0o400),
    ]


@pytest.mark.parametrize("argv", [[], ["demo"], ["eject"], ["eject", "-o", "x"]], ids=str)
def test_run_sh_sends_what_the_file_names(argv: list[str], it: Caller) -> None:
    text = asked(argv, it)
    assert obeyed(text, argv, it) == words(text)
    sent = {pathlib.PurePosixPath(one[2]) for one in words(text) if one[0] == "send"}
    assert {it.home / ".ssh/id.pub", it.cwd.parent / "other.pub"} <= sent
    if argv != ["eject"] and "eject" not in argv:
        assert {it.cwd / 'pa"ss', it.cwd / "ts", it.cwd / "a b"} <= sent
    if not argv:
        trees = [one[1:] for one in words(text) if one[0] == "send_tree"]
        assert trees == [
            ["--appliance", f"{it.cwd}/x.nix"],
            ["--appliance", "/y.nix"],
            ["--appliance nixpkgs", f"{it.cwd}/pkgs"],
        ]


@pytest.mark.parametrize(
    ("service", "option"),
    [
        (name, option)
        for name, service in SERVICES.items()
        for option, row in service.options.items()
        if row.type == "secret"
    ],
)
def test_run_sh_knows_the_secrets_of_services(service: str, option: str, who: Caller) -> None:
    text = f'image.a.board = "pc"\nservices.{service}.{option} = "./secret"\n'
    it = dataclasses.replace(who, appliance=f"{who.cwd}/appliance.toml", appliance_text=text)
    orders = asked([], it)
    assert ["send", "--appliance", f"{who.cwd}/secret"] in words(orders)
    assert obeyed(orders, [], it) == words(orders)


@pytest.mark.parametrize(
    "order",
    [
        ["send", "--appliance", "/etc/shadow"],  # a target
        ["send", "--appliance", "{cwd}/not-this"],  # a comment
        ["send", "--appliance", "{cwd}/x.nix"],  # a module is not an injected file
        ["send", "--appliance", "{cwd}/x"],  # a network's name
        ["send", "--appliance", "{cwd}/source"],  # a key
        ["send", "--appliance", "{cwd}/in-a-text"],
        ["send", "--appliance", "{cwd}/640"],  # a path in the value of a key in quotes
        ["send", "--appliance", "{cwd}/ada"],
        ["send", "--appliance", "/home/other/.ssh/id.pub"],
        ["send_tree", "--appliance", "{cwd}/ts"],
        ["send_tree", "--appliance", "{cwd}"],
        ["send_tree", "--appliance nixpkgs", "{cwd}/x.nix"],
        ["send_tree", "--configuration", "{cwd}/x.nix"],
    ],
    ids=" ".join,
)
def test_run_sh_sends_nothing_else(order: list[str], it: Caller) -> None:
    text = "\t".join(order).replace("{cwd}", str(it.cwd)) + "\n"
    assert obeyed(text, [], it) == []
    assert obeyed(text, [], dataclasses.replace(it, appliance="", appliance_text="")) == []


def test_the_demo_takes_name_keys_and_files(it: Caller) -> None:
    request = ask(["demo", "--image", "web"], it)
    assert isinstance(request, Demo)
    assert request.image.host_name == "web"
    assert request.image.wifi_ssid == "x"


@pytest.mark.parametrize(
    ("users", "user"), [("", "nixos"), ("root", "nixos"), ("ada bob", "ada"), ("root bob", "bob")]
)
def test_the_demos_user_is_the_first_of_the_file(users: str, user: str, it: Caller) -> None:
    tables = "".join(
        f'[[users]]\nname = "{name}"\nkeys = ["~/.ssh/id.pub"]\n' for name in users.split()
    )
    who = dataclasses.replace(it, appliance_text=f'image.a.board = "pc"\n{tables}')
    request = ask(["demo"], who)
    assert isinstance(request, Demo)
    assert blueprint_modules.demo_user(request) == user


def test_eject_writes_beside_the_file(it: Caller) -> None:
    request = ask(["eject"], it)
    assert isinstance(request, Eject)
    assert request.out == it.cwd


TWO = """\
[image.pi]
board = "raspberry-pi-4"
[image.web]
board = "aws"
[[users]]
name = "ada"
keys = ["~/.ssh/id.pub"]
[wifi]
images = ["pi"]
"""


def test_only_images_that_join_the_network_get_its_values(who: Caller) -> None:
    text = f'{TWO}ssid = "x"\npassword-file = "./pw"\n'
    it = dataclasses.replace(who, appliance=f"{who.cwd}/appliance.toml", appliance_text=text)
    both, web = build([], it), build(["--image", "web"], it)
    assert (both.image.wifi_ssid, both.image.wifi_password_file) == ("x", f"{it.cwd}/pw")
    assert (web.image.wifi_ssid, web.image.wifi_password_file, web.written) == ("", "", frozenset())
    request = ask(["eject"], it)
    assert isinstance(request, Eject)
    assert ["--wifi-ssid" in words for words in commands(request, it)] == [True, False]
    demo = ask(["demo", "--image", "web"], it)
    assert isinstance(demo, Demo)
    assert not demo.image.wifi_ssid


def test_a_list_may_name_the_network_of_each_device(who: Caller) -> None:
    it = dataclasses.replace(who, appliance=f"{who.cwd}/appliance.toml", appliance_text=TWO)
    assert build(["--stamp", "x.csv"], it).image.stamp
    assert build(["--wifi-ssid", "x"], it).image.wifi_ssid == "x"
    assert build(["--image", "web"], it).image.wifi_ssid == ""
    with pytest.raises(UsageError, match=r"appliance.toml: wifi: ssid is missing"):
        build([], it)
    assert isinstance(ask(["eject"], it), Eject)


@pytest.mark.parametrize(
    ("nixpkgs", "out", "option", "url"),
    [
        ("", ".", None, "github:NixOS/nixpkgs/nixos-"),
        ("channel:x", ".", "channel:x", "channel:x"),
        ("25.11", ".", "github:NixOS/nixpkgs/nixos-25.11", "github:NixOS/nixpkgs/nixos-25.11"),
        ("./pkgs", ".", "/home/me/project/pkgs", "path:./pkgs"),
        ("./pkgs", "new", "/home/me/project/pkgs", "path:/home/me/project/pkgs"),
        ("~/my pkgs", ".", "/home/me/my pkgs", "path:/home/me/my%20pkgs"),
    ],
)
def test_what_is_ejected_has_the_nixpkgs_of_the_file(
    nixpkgs: str, out: str, option: str | None, url: str, who: Caller
) -> None:
    line = f'nixpkgs = "{nixpkgs}"\n' if nixpkgs else ""
    text = f'{line}image.pi.board = "pc"\n'
    it = dataclasses.replace(who, appliance=f"{who.cwd}/appliance.toml", appliance_text=text)
    request = ask(["eject", "-o", out], it)
    assert isinstance(request, Eject)
    (words,) = commands(request, it)
    assert words[1:4] == ["build", "-c", f"{request.out}/pi.nix"]
    given = words[words.index("--nixpkgs") + 1] if "--nixpkgs" in words else None
    assert given == option
    flake = blueprint_modules.ejected(request.appliance, it, request.out)["flake.nix"]
    assert f'  inputs.nixpkgs.url = "{url}' in flake


@pytest.mark.parametrize("name", ["flake", "Flake"])  # macOS takes one for the other
def test_an_image_named_flake_is_not_ejected(name: str, who: Caller) -> None:
    text = f'image.{name}.board = "pc"\n'
    it = dataclasses.replace(who, appliance=f"{who.cwd}/appliance.toml", appliance_text=text)
    with pytest.raises(UsageError, match=r"which is the flake's file"):
        ask(["eject"], it)
