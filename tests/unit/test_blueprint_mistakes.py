"""Tests that an appliance.toml with a beginner's mistake is told what to write instead."""

import pytest

from orchestrator.blueprint.meant import near
from orchestrator.blueprint.reader import read
from orchestrator.blueprint.tables import BOARDS, SERVICES, others
from orchestrator.shared.errors import UsageError

IMAGE = '[image.pi]\nboard = "raspberry-pi-4"\n'
USER = f'{IMAGE}[[users]]\nname = "ada"\n'
TOP = "it belongs to the top of the file, above the first table"


def fault(text: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        read(text, "a.toml", lambda _key: False)
    return caught.value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'{IMAGE}packages = ["vim"]', f"a.toml:3:1: image.pi.packages is unknown: {TOP}"),
        (f'{IMAGE}[wifi]\nnixpkgs = "26.05"', f"a.toml:4:1: wifi.nixpkgs is unknown: {TOP}"),
        (f'{IMAGE}ssid = "x"', "image.pi.ssid is unknown: it belongs to [wifi]"),
        (f"{IMAGE}[wifi]\nnginx = true", "wifi.nginx is unknown: it belongs to [services]"),
        (f'{IMAGE}keys = ["x"]', "image.pi.keys is unknown: it belongs to [[users]]"),
        (f"{IMAGE}services = []", "image.pi.services is unknown: it is a table of its own, [serv"),
        (f'board = "pc"\n{IMAGE}', "a.toml:1:1: board is unknown: it belongs to [image.NAME]"),
        ('[images.pi]\nboard = "pc"', "images is unknown: did you mean image?"),
        (f'{IMAGE}host_name = "x"', "image.pi.host_name is unknown: did you mean host-name?"),
        (f'{IMAGE}[wifi]\nSSID = "x"', "wifi.SSID is unknown: did you mean ssid?"),
        (f"{IMAGE}[services]\npihole = true", "services.pihole is unknown: did you mean adguard-"),
        ('[image]\nboard = "pc"', "expected a table, found a text: write [image.NAME]"),
        ('[[image]]\nboard = "pc"', "expected a table, found an array: write [image.NAME]"),
        (f'{IMAGE}[users]\nname = "a"', "expected an array, found a table: write [[users]]"),
        (f'{IMAGE}[[wifi]]\nssid = "a"', "expected a table, found an array: write [wifi]"),
        (f'{USER}groups = "wheel"', 'expected an array, found a text: write ["wheel"]'),
        (f"{IMAGE}[firewall]\ntcp = 80", "expected an array, found a number: write [80]"),
        (f'{IMAGE}[services.ssh]\nport = "22"', "a whole number, found a text: write 22"),
        (f'{IMAGE}[firewall]\nenable = "no"', "expected true or false, found a text: write false"),
        (f'{IMAGE}disk-size = "8 GiB"', "'8 GiB' is not a size: write 8G"),
        (f'{IMAGE}disk-size = "0"', "'0' is not a size: auto, or a number of MiB, or 8G"),
        (f'{IMAGE}locale = "German"', "'German' is not a language of a country: de_DE.UTF-8"),
        (f'{IMAGE}keymap = "de at"', "'de at' is not the name of a keymap: de-latin1"),
        (f'{IMAGE}host-name = "pi.local"', "'pi.local' is not a host name: letters, digits and -"),
        (f'{IMAGE}[wifi]\nssid = "x"\ncountry = "de"', "two capital letters: write DE"),
        (f'{USER}groups = ["sudo"]', "NixOS has no group sudo: administrators are in wheel"),
        (f'nixpkgs = "unstable"\n{IMAGE}', "'unstable' is not a release (26.05), a folder"),
        ('[image.a]\nformat = "img"', "'img' is no format; ./run.sh formats lists them"),
    ],
)
def test_what_to_write_is_said(text: str, said: str) -> None:
    assert said in str(fault(text)).splitlines()[-1]


@pytest.mark.parametrize("name", ["raspberry-pi-5", "rpi5", "pi 5"])
def test_a_model_with_another_number_is_not_meant(name: str) -> None:
    said = str(fault(f'[image.a]\nboard = "{name}"'))
    assert f"'{name}' is no board; known: " in said


@pytest.mark.parametrize("name", ["rpi4", "Raspberry Pi 4", "raspberry_pi_4", "RaspberryPi4"])
def test_a_board_may_have_other_names(name: str) -> None:
    assert near(name, BOARDS, others(BOARDS)) == "raspberry-pi-4"


def test_no_other_word_is_a_name_or_means_two() -> None:
    for rows in (BOARDS, SERVICES):
        words = [word for row in rows.values() for word in row.also]
        assert not set(words) & set(rows)
        assert len(words) == len(set(words))
        assert all(near(word, rows, others(rows)) == others(rows)[word] for word in words)


PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjE\n"


@pytest.mark.parametrize(
    ("text", "secret", "said"),
    [
        (f'{USER}keys = ["""{PRIVATE}"""]', "b3Bl", "that is a private key"),
        (f"{USER}keys = ['PuTTY-User-Key-File-3: b3Bl']", "b3Bl", "that is a private key"),
        (f'{USER}hashed-password = "hunter2"', "hunter2", "that is no hashed password"),
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated(text: str, secret: str, said: str) -> None:
    error = fault(text)
    assert said in str(error)
    assert secret not in f"{error} {error.hint}"


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("[image.a]\nboard = “pc”", "2:9: not TOML: these are not the quotes", 'straight ones: "'),
        ("[image.a]\n\xa0board = 'pc'", "2:1: not TOML: the line has a blank", "type it anew"),
        ("[image.a]\nboard = pc", "2:9: not TOML: invalid value", 'a text has quotes: "pc"'),
        ("[services]\nssh = True", "2:7: not TOML: True is no value", "write true"),
        ("[services]\nssh = no", "2:7: not TOML: no is no value", "write false"),
        ("image:\n  a:", "1:6: not TOML: a colon does not belong here", "write KEY = VALUE"),
        ('a = "C:\\keys"', "1:10: not TOML: a \\ has a meaning", "single quotes"),
        ('a = "x\nb = 1', "1:7: not TOML: the text has no end", 'add the quote "'),
        ("a = 'x\nb = 1", "2:6: not TOML: a text has no end", "add ' where it ends"),
        ("[wifi]\na = 1\n[wifi]", "3:6: not TOML: [wifi] is there twice", "below one of them"),
        ("a = 1\na = 2", "2:6: not TOML: this key has a value already", "keep one"),
        ("[image.my pi]", "1:11: not TOML: this is no name of a table", "A-Z, digits, - and _"),
        ("{ pkgs, ... }: { }", "1:1: not TOML: this is another language", "-c FILE builds a"),
        ("a = [1,", "1:8: not TOML: invalid value", "mend that line"),
    ],
)
def test_a_fault_of_toml_has_its_place_and_its_remedy(text: str, said: str, hint: str) -> None:
    error = fault(text)
    assert str(error).startswith(f"a.toml:{said}")
    assert hint in (error.hint or "")


def test_all_faults_between_tables_are_told_at_once() -> None:
    double = '[[users]]\nname = "a"\n[[users]]\nname = "a"\n'
    file = '[[files]]\ntarget = "/etc/a"\ntext = ""\n'
    said = str(fault(f'{IMAGE}{double}{file * 2}[wifi]\nssid = "x"\nimages = ["no"]'))
    assert said.splitlines() == [
        "a.toml:6:1: the user a is there twice",
        "a.toml:11:1: two files have the target /etc/a",
        "a.toml:15:11: wifi.images: there is no image no",
    ]
