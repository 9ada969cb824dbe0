"""Tests what an appliance.toml may say: all faults at once, and the NixOS module made of it."""

import json
import re
import tomllib
import typing

import jsonschema
import pytest

from orchestrator.blueprint import nix, reference
from orchestrator.blueprint.model import Blueprint
from orchestrator.blueprint.reader import read
from orchestrator.blueprint.tables import BOARDS, SERVICES
from orchestrator.shared import nixos_formats
from orchestrator.shared.errors import UsageError
from orchestrator.shared.paths import ROOT

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMj1rPZb5MVRbXBWXbT8RrDvXL7XYyzYQ7gkVJm8w9aX me"

WRONG = """\
packages = ["vim", "g it"]
[image.pi]
board = "raspberry-pi4"
hostname = "x"
[image.web]
format = "qcow-efi"
disk-size = 8
[image.none]
[image.two]
format = "sd-aarch64"
system = "x86_64-linux"
[[users]]
name = "Ada"
keys = ["ssh-rsa ...", "~/.ssh/id.pub"]
grouhs = []
[[users]]
keys = []
[wifi]
ssid = "x"
password = "secret"
[services]
ssh = { port = 70000, prot = 1 }
tailscal = true
k3s = { role = "servant" }
docker = "yes"
[[files]]
target = "/x"
text = "a"
[firewall]
tcp = ["80"]
"""

LONG = "x" * 33
ONE = "appliance.toml:1"
WIFI = "appliance.toml:4:1: wifi"
AT = "appliance.toml:3:1: "
HOST = "host-name"
SECOND = "appliance.toml:4:8"

ANOTHER = (
    "write the line of a .pub file, the path of one (beginning with ./, ../, ~/ or /), or"
    " github:NAME"
)

FAULTS = f"""\
appliance.toml:1:20: packages[2]: 'g it' is not a package's name
appliance.toml:3:1: image.pi.board: 'raspberry-pi4' is no board: did you mean raspberry-pi-4?
appliance.toml:4:1: image.pi.hostname is unknown: did you mean host-name?
appliance.toml:7:1: image.web.disk-size: expected a text, found a number: write "8"
appliance.toml:8:8: image.none: a board or a format is missing: board = … or format = …
appliance.toml:9:8: image.two: format sd-aarch64 is not for x86_64-linux: aarch64-linux
appliance.toml:13:1: users[1].name: 'Ada' is not a user's name: small letters, digits, - and _
appliance.toml:14:9: users[1].keys[1]: 'ssh-rsa ...' is no public SSH key: {ANOTHER}
appliance.toml:15:1: users[1].grouhs is unknown: did you mean groups?
appliance.toml:16:3: users[2]: name is missing
appliance.toml:20:1: wifi.password is unknown: did you mean password-file?
appliance.toml:22:9: services.ssh.port: 70000 must be at most 65535
appliance.toml:22:23: services.ssh.prot is unknown: did you mean port?
appliance.toml:23:1: services.tailscal is unknown: did you mean tailscale?
appliance.toml:24:9: services.k3s.role: 'servant' is not one of 'server' or 'agent'
appliance.toml:25:1: services.docker: expected true, false or a table, found a text
appliance.toml:26:3: files[1]: text is for files below /etc: use source
appliance.toml:30:8: firewall.tcp[1]: expected a whole number, found a text: write 80"""


def parsed(text: str) -> Blueprint:
    return read(text, "appliance.toml", lambda line: line == KEY)


def modules(text: str, **keys: tuple[str, ...]) -> dict[str, str]:
    blueprint = parsed(text)
    return {
        name: nix.module(blueprint, name, path=lambda path: path, keys=keys)
        for name in blueprint.image
    }


def test_all_faults_are_told_at_once_with_their_places() -> None:
    with pytest.raises(UsageError) as caught:
        parsed(WRONG)
    assert str(caught.value) == FAULTS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "appliance.toml:1:1: image is missing"),
        ("[image]", "appliance.toml:1:2: image: at least one is needed"),
        ("a = ", f"{ONE}:5: not TOML: invalid value"),
        (
            "image = 1",
            "appliance.toml:1:1: image: expected a table, found a number: write [image.NAME]",
        ),
        (
            '[image.a]\nboard = "pc"\nformat = "raw-efi"',
            "appliance.toml:1:8: image.a: board and format exclude each other: keep one",
        ),
        (
            '[image.a]\nboard = "pc"\nhost-name = "x"\n[image.b]\nboard = "pc"\nhost-name = "x"',
            f"{SECOND}: the images a and b would have the same file name: give one another {HOST}",
        ),
        (
            '[image.a]\nboard = "pc"\n[[users]]\nname = "a"\n[[users]]\nname = "a"',
            "appliance.toml:6:1: the user a is there twice",
        ),
        (
            '[image.a]\nboard = "pc"\n[wifi]\nssid = "' + LONG + '"',
            f"{WIFI}.ssid: {LONG!r} is not a network's name: at most 32 bytes",
        ),
        (
            '[image.a]\nboard = "pc"\n[wifi]\nimages = ["b"]\nssid = "x"',
            "appliance.toml:4:11: wifi.images: there is no image b",
        ),
        (
            '[image.a]\nboard = "pc"\ntime-zone = "europe/berln"',
            f"{AT}image.a.time-zone: 'europe/berln' is no time zone: did you mean Europe/Berlin?",
        ),
        (
            '[image.a]\nboard = "pc"\n[wifi]\ncountry = "UK"\nssid = "x"',
            f"{WIFI}.country: 'UK' is no country's code of ISO 3166, such as DE, GB or US",
        ),
    ],
)
def test_a_fault_is_told(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(text)
    assert str(caught.value) == said


@pytest.mark.parametrize("zone", ["Europe/Berlin", "UTC", "Etc/GMT+3", "US/Pacific"])
def test_old_and_new_names_of_time_zones_are_known(zone: str) -> None:
    found = parsed(f'[image.a]\nboard = "pc"\ntime-zone = "{zone}"')
    assert found.image["a"].time_zone == zone


def test_a_file_that_says_little_makes_a_machine_with_its_images_name() -> None:
    text = modules('[image.my_pi]\nboard = "raspberry-pi-4"')["my_pi"]
    assert 'networking.hostName = "my-pi";' in text
    assert "hardware.enableRedistributableFirmware = true;" in text
    assert f'system.stateVersion = "{nix.pinned_release()}";' in text
    assert "openssh" not in text


def test_a_user_with_a_key_can_log_in() -> None:
    both = modules(
        f'image.a.board = "pc"\n[[users]]\nname = "ada"\nkeys = ["{KEY}", "./k"]',
        **{"./k": ("ssh-rsa one", "ssh-rsa two")},
    )["a"]
    for line in (KEY, "ssh-rsa one", "ssh-rsa two"):
        assert f'"{line}"' in both
    assert "services.openssh.enable = true;" in both
    off = modules(
        f'image.a.board = "pc"\nservices.ssh = false\n[[users]]\nname = "ada"\nkeys = ["{KEY}"]'
    )["a"]
    assert "services.openssh" not in off


@pytest.mark.parametrize(("password", "asks"), [("", False), ('hashed-password = "$y$x"', True)])
def test_sudo_asks_for_a_password_where_there_is_one(password: str, asks: bool) -> None:
    text = modules(
        f'image.a.board = "pc"\n[[users]]\nname = "ada"\ngroups = ["wheel"]\n{password}'
    )["a"]
    assert ("security.sudo.wheelNeedsPassword = false;" in text) is not asks


def test_a_network_may_be_that_of_some_images() -> None:
    two = 'image.a.board = "pc"\nimage.b.board = "aws"\n[wifi]\nssid = "x"\ncountry = "DE"\n'
    texts = modules(f'{two}images = ["a"]')
    assert "networking.wireless.enable = true" in texts["a"]
    assert "nixosImage" not in texts["a"]
    assert "networking.wireless" not in texts["b"]
    assert "ieee80211" not in texts["b"]
    assert "nixosImage.late.wifi = lib.mkForce false;" in texts["b"]
    assert all("networking.wireless.enable = true" in text for text in modules(two).values())


def test_the_builders_own_options_are_no_options_of_plain_nixos() -> None:
    text = modules('[image.a]\nboard = "qemu"\ndisk-size = "8G"\ncompress = "zstd"')["a"]
    (block,) = re.findall(
        r"optionalAttrs \(options \? nixosImage\) \{\n(.*?)\n      \};", text, re.DOTALL
    )
    assert [line.strip() for line in block.splitlines()] == [
        'nixosImage.diskSize = "8G";',
        'nixosImage.compression = "zstd";',
        "nixosImage.cloud.enable = true;",
    ]
    assert text.count("nixosImage.") == 3


def test_a_text_is_written_as_nix_reads_it() -> None:
    text = modules(
        "image.a.board = \"pc\"\n[[files]]\ntarget = \"/etc/a.b/c\"\ntext = '''${x} \"q\" \\ $\n'''"
    )["a"]
    assert 'environment.etc."a.b/c" = {\n    text = "\\${x} \\"q\\" \\\\ $\\n";\n  };' in text


def test_the_firewall_opens_what_services_and_the_file_name() -> None:
    text = modules('image.a.board = "pc"\nservices.nginx = true\nfirewall.tcp = [22, 80]')["a"]
    assert "networking.firewall.allowedTCPPorts = [ 22 80 443 ];" in text
    off = modules('image.a.board = "pc"\nfirewall.enable = false')["a"]
    assert "networking.firewall.enable = false;" in off


def test_a_services_secret_is_a_late_value() -> None:
    blueprint = parsed('image.a.board = "pc"\nservices.tailscale.auth-key-file = "./key"')
    ((source, target),) = nix.secrets(blueprint)
    assert source == "./key"
    text = nix.module(blueprint, "a", path=lambda path: path, keys={})
    assert f'services.tailscale.authKeyFile = "{target}";' in text
    assert "./key" not in text


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (nix.pinned_release(), ""),
        ("25.11", "github:NixOS/nixpkgs/nixos-25.11"),
        ("./nixpkgs", "./nixpkgs"),
        ("github:a/b", "github:a/b"),
    ],
)
def test_nixpkgs_may_be_a_release(asked: str, found: str) -> None:
    assert nix.reference(parsed(f'nixpkgs = "{asked}"\nimage.a.board = "pc"')) == found


def test_each_board_has_a_format_of_its_system() -> None:
    table = nixos_formats.read_formats()
    for name, board in BOARDS.items():
        (one,) = nixos_formats.chosen((board.format,), table)
        assert not board.system or board.system in one.systems, name


def test_each_option_of_a_service_can_be_given() -> None:
    values: dict[str, typing.Any] = {
        "string": '"x"',
        "port": "1",
        "boolean": "true",
        "strings": '["x"]',
        "secret": '"./x"',
    }
    for name, service in SERVICES.items():
        for option, row in service.options.items():
            value = f'"{row.words[0]}"' if row.type == "choice" else values[row.type]
            text = modules(f'image.a.board = "pc"\nservices.{name}.{option} = {value}')["a"]
            assert f"  {row.sets} = " in text, f"{name}.{option}"


def test_a_flake_has_every_image() -> None:
    text = nix.flake({"a": "x86_64-linux", "b-c": "aarch64-linux"}, "")
    assert 'inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-' in text
    assert './b-c.nix { nixpkgs.hostPlatform = "aarch64-linux"; }' in text


def test_a_path_may_have_any_letters() -> None:
    assert nix.quoted_path("/a/b.nix") == "/a/b.nix"
    assert nix.quoted_path("/a b/${c}") == '(/. + "/a b/\\${c}")'


def test_the_reference_is_made_of_the_types() -> None:
    text = reference.PAGE.read_text()
    assert reference.page(text) == text
    assert json.loads(reference.SCHEMA.read_text()) == reference.schema()


def test_the_schema_takes_what_the_reader_takes() -> None:
    check = jsonschema.Draft202012Validator(reference.schema())
    page = (ROOT / "docs/appliance.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert parsed(example).image["pi"].board == "raspberry-pi-4"
    check.validate(tomllib.loads(example))
    wrong = {tuple(error.absolute_path) for error in check.iter_errors(tomllib.loads(WRONG))}
    assert {("image", "pi"), ("users", 0), ("users", 1), ("wifi",), ("firewall",)} <= wrong
