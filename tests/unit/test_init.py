"""Tests `init`: the file it writes, with and without questions."""

import dataclasses
import os
import pathlib
import typing
from unittest import mock

import prompt_toolkit.input
import prompt_toolkit.output
import pytest

from orchestrator.ask import questions, ssh_keys, uploads
from orchestrator.ask.request import Caller
from orchestrator.blueprint import checks
from orchestrator.blueprint.reader import read
from orchestrator.blueprint.writer import Answers, write
from orchestrator.docker import workspace
from orchestrator.shared.errors import DeliveryError, InterruptedRunError, UsageError
from orchestrator.verbs import init
from tests.unit.asking import ask
from tests.unit.orders import asked, obeyed, words

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMj1rPZb5MVRbXBWXbT8RrDvXL7XYyzYQ7gkVJm8w9aX me"
DOWN, ENTER, SPACE, INTERRUPT = "\x1b[B", "\r", " ", "\x03"
FULL = Answers(
    board="raspberry-pi-4",
    host_name="pi",
    user="ada",
    keys=("~/.ssh/id.pub", KEY),
    time_zone="Europe/Berlin",
    locale="de_DE.UTF-8",
    keymap="de-latin1",
    ssid='at"tic ü',
    country="DE",
    password_file="secret/wifi",
    services=("mdns", "tailscale"),
)


def typed(text: str, known: Answers, keys: tuple[str, ...] = ()) -> Answers:
    """Return the answers of a person who types `text`."""
    with prompt_toolkit.input.create_pipe_input() as keyboard:
        keyboard.send_text(text)
        how = {"input": keyboard, "output": prompt_toolkit.output.DummyOutput()}
        return questions.ask(known, keys, lambda line: line == KEY, **how)


def answered(who: Caller, argv: list[str]) -> dict[str, str]:
    """Return the files that `init` writes without a terminal."""
    request = ask(["init", *argv], who)
    assert isinstance(request, init.Init)
    folder = workspace.make_shared(who.run) / init.ANSWERED
    init._write(request, init._with_defaults(request.answers, who), who, folder)
    return {file.name: file.read_text() for file in folder.iterdir()}


@pytest.fixture
def person(who: Caller, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Caller:
    """A caller with one public key at home."""
    for module in (uploads, workspace):
        monkeypatch.setattr(module, "WORK", tmp_path)
    for module in (init, ssh_keys):
        monkeypatch.setattr(module, "is_public_key", lambda line: line == KEY)
    own = dataclasses.replace(who, user="ada", zone="Europe/Berlin")
    folder = uploads.received(own, own.home) / ".ssh"
    folder.mkdir(parents=True)
    (folder / "id.pub").write_text(f"{KEY}\n")
    return own


def test_the_file_says_what_was_answered() -> None:
    found = read(write(FULL, "x.json"), "appliance.toml", lambda line: line == KEY)
    image = found.image["pi"]
    assert (image.board, image.host_name, image.time_zone) == (
        *("raspberry-pi-4", "pi"),
        "Europe/Berlin",
    )
    assert (image.locale, image.keymap) == ("de_DE.UTF-8", "de-latin1")
    (user,) = found.users
    assert (user.name, user.keys, user.groups) == ("ada", ("~/.ssh/id.pub", KEY), ("wheel",))
    assert found.wifi
    assert (found.wifi.ssid, found.wifi.country) == ('at"tic ü', "DE")
    assert found.wifi.password_file == "./secret/wifi"
    assert found.services
    assert set(found.services.model_dump(exclude_none=True)) == {"mdns", "tailscale"}


def test_what_was_not_answered_is_a_comment() -> None:
    text = write(Answers("pc", "nixos", "ada", (KEY,)), "x.json")
    for line in ("# [wifi]", '# time-zone = "Europe/Berlin"', '# packages = ["vim", "git"]'):
        assert line in text.splitlines()
    plain = "\n".join(line.removeprefix("# ") for line in text.splitlines() if " = " in line)
    assert "disk-size" in plain


def test_a_person_is_asked_for_all() -> None:
    text = "".join(
        [
            *(DOWN, ENTER),  # the second board: raspberry-pi-3
            *("pi", ENTER),
            *("ada", ENTER),
            ENTER,  # the first key is chosen
            *("Europe/Rome", ENTER),
            *("attic", ENTER),
            *("passw0rd", ENTER),
            *("IT", ENTER),
            *(DOWN, SPACE, ENTER),  # mdns is chosen, and tailscale
        ]
    )
    known = Answers("", "", "root", (), time_zone="UTC")
    found = typed(text, known, ("~/.ssh/id.pub",))
    assert found == Answers(
        board="raspberry-pi-3",
        host_name="pi",
        user="ada",
        keys=("~/.ssh/id.pub",),
        time_zone="Europe/Rome",
        ssid="attic",
        country="IT",
        password="passw0rd",
        services=("mdns", "tailscale"),
    )
    assert "passw0rd" not in repr(found)
    assert "passw0rd" not in write(found, "x.json")


def test_options_are_not_asked_for_again() -> None:
    assert typed(ENTER * 3, FULL) == FULL


def test_a_wrong_answer_is_asked_again() -> None:
    known = dataclasses.replace(FULL, host_name="")
    text = f"a b{ENTER}\x15pi{ENTER}{ENTER}{ENTER}"
    assert typed(text, known).host_name == "pi"
    without = dataclasses.replace(known, host_name="pi", keys=())
    text = f"{ENTER}{ENTER}ssh-rsa ={ENTER}\x15{KEY}{ENTER}{ENTER}"
    assert typed(text, without).keys == (KEY,)


def test_a_person_may_give_up() -> None:
    with pytest.raises(InterruptedRunError, match="nothing was written"):
        typed(INTERRUPT, dataclasses.replace(FULL, host_name=""))


def test_without_a_terminal_options_and_defaults_count(person: Caller) -> None:
    (name, text), *others = answered(person, ["--board", "pc", "--service", "docker"]).items()
    assert (name, others) == ("appliance.toml", [])
    found = read(text, name, lambda line: line == KEY)
    assert found.image["nixos"].time_zone == "Europe/Berlin"
    assert found.users[0].name == "ada"
    assert found.users[0].keys == ("~/.ssh/id.pub",)


def test_a_time_zone_of_this_computer_that_is_none_is_left_out(person: Caller) -> None:
    odd = dataclasses.replace(person, zone="posix/Nowhere")
    text = answered(odd, ["--board", "pc"])["appliance.toml"]
    assert read(text, "appliance.toml", lambda line: line == KEY).image["nixos"].time_zone is None


def test_what_a_prompt_says_of_a_wrong_answer_fits_on_a_narrow_terminal() -> None:
    wrong = {
        checks.password: "short",
        checks.network: "x" * 33,
        checks.user: "Ada",
        checks.host: "a b",
        checks.zone: "UTZ",
    }
    said = [str(check(text)) for check, text in wrong.items()]
    assert said == [
        "8 to 63 ASCII characters are needed",
        "a name has at most 32 bytes",
        "'Ada' is not a user's name: small letters, digits, - and _",
        "'a b' is not a host name: letters, digits and -",
        "'UTZ' is no time zone: did you mean UTC?",
    ]
    assert all(len(one.partition(":")[0]) <= 40 for one in said), "what failed is seen"


def test_nix_gets_the_key_itself(person: Caller) -> None:
    ((name, text),) = answered(person, ["--board", "pc", "--nix", "--host-name", "web"]).items()
    assert name == "web.nix"
    assert KEY in text


@pytest.mark.parametrize(
    ("changes", "argv", "said"),
    [
        ({"home": pathlib.PurePosixPath("/none")}, [], "no public SSH key was found"),
        ({}, ["--host-name", "a b"], "--host-name: 'a b' is not a host name"),
        ({}, ["--time-zone", "a b"], "--time-zone: 'a b' is no time zone"),
        ({}, ["--time-zone", "Europe/Berln"], "is no time zone: did you mean Europe/Berlin"),
        ({}, ["--wifi-ssid", "x", "--wifi-country", "UK"], "'UK' is no country's code"),
        ({}, ["--board", "rpi4"], "'rpi4' is no board: did you mean raspberry-pi-4?"),
        ({}, ["--service", "pihole"], "'pihole' is no service: did you mean adguard-home?"),
        ({}, ["--key", "x.pub", "--nix"], "--nix writes the key itself"),
    ],
)
def test_a_wrong_option_is_told(
    changes: dict[str, typing.Any], argv: list[str], said: str, person: Caller
) -> None:
    who = dataclasses.replace(person, **changes)
    with pytest.raises(UsageError, match=said):
        answered(who, ["--board", "pc", *argv])


def test_paths_are_those_of_the_working_directory(person: Caller) -> None:
    argv = ["--board", "pc", "--key", "keys/a.pub", "--key", "~/b.pub", "-o", "new"]
    wifi = ["--wifi-ssid", "x", "--wifi-password-file", "new/pw"]
    text = answered(person, [*argv, *wifi])["appliance.toml"]
    found = read(text, "appliance.toml", lambda line: line == KEY)
    assert found.users[0].keys == ("../keys/a.pub", "~/b.pub")
    assert found.wifi
    assert found.wifi.password_file == "./pw"


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        ([], "{run}"),
        (["-o", "/n"], "{run} --appliance /n/appliance.toml"),
        (["--nix", "-o", "/n"], "{run} -c /n/nixos.nix -f sd-aarch64"),
        (
            ["--nix", "-o", "/n", "--wifi-ssid", "a b", "--wifi-password-file", "/pw"],
            "{run} -c /n/nixos.nix -f sd-aarch64 --wifi-ssid 'a b' --wifi-password-file /pw",
        ),
        (
            ["--nix", "--wifi-ssid", "x", "--wifi-password-file", "~/pw"],
            "{run} -c {cwd}/nixos.nix -f sd-aarch64 --wifi-ssid x --wifi-password-file {home}/pw",
        ),
    ],
)
def test_the_command_builds_what_was_written(argv: list[str], command: str, person: Caller) -> None:
    answered(person, ["--board", "raspberry-pi-4", *argv])
    told = (workspace.make_shared(person.run) / init.COMMAND).read_text()
    assert told == command.format(run=person.program, cwd=person.cwd, home=person.home)


def test_no_file_is_replaced(person: Caller) -> None:
    uploads.list_folder(person).mkdir(exist_ok=True)
    (uploads.list_folder(person) / uploads.KEPT).write_bytes(b"appliance.toml\0pc.nix\0")
    with pytest.raises(DeliveryError, match=r"/out/appliance.toml exists, and no file is replaced"):
        answered(person, ["--board", "pc", "-o", "/out"])
    with pytest.raises(DeliveryError, match=r"pc\.nix exists"):
        answered(person, ["--board", "pc", "--nix", "--host-name", "pc"])


def test_run_sh_is_named_as_the_caller_finds_it(who: Caller) -> None:
    root = pathlib.PurePosixPath("/a/b")
    for cwd, name in (("/a/b", "./run.sh"), ("/a", "b/run.sh"), ("/c", "../a/b/run.sh")):
        here = pathlib.PurePosixPath(cwd)
        assert dataclasses.replace(who, root=root, cwd=here).program == name


def test_the_agents_keys_are_offered(person: Caller) -> None:
    who = dataclasses.replace(
        person, home=pathlib.PurePosixPath("/none"), agent_keys=f"{KEY}\nThe agent has none.\n"
    )
    text = answered(who, ["--board", "pc"])["appliance.toml"]
    assert read(text, "appliance.toml", lambda line: line == KEY).users[0].keys == (KEY,)


@pytest.mark.parametrize("password", [True, False])
def test_the_file_of_the_password_is_kept_out_of_git(
    password: bool, person: Caller, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = ask(["init", "--board", "pc"], person)
    assert isinstance(request, init.Init)
    folder = workspace.make_shared(person.run) / init.ANSWERED
    answers = init._with_defaults(request.answers, person)
    if password:
        answers = dataclasses.replace(answers, ssid="x", password="passw0rd")
    init._write(request, answers, person, folder)
    stream = os.open(tmp_path / "stream", os.O_WRONLY | os.O_CREAT)
    init._deliver(request, mock.Mock(who=person, stream=stream), folder)
    said = capsys.readouterr().err
    assert ("wifi-password has the password of your Wi-Fi: keep it out of git" in said) is password
    assert "passw0rd" not in said
    assert said.splitlines()[-1].startswith("to build the image: ")


@pytest.mark.parametrize("argv", [["init"], ["init", "-o", "x"], ["init", "--nix"]], ids=str)
def test_run_sh_takes_the_orders(argv: list[str], who: Caller) -> None:
    text = asked(argv, who)
    assert obeyed(text, argv, who) == words(text)


def test_a_sign_comes_before_the_modules_that_ask(
    person: Caller, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def asks(*_known: object) -> Answers:
        said.append(capsys.readouterr().out)
        return FULL

    monkeypatch.setattr(questions, "ask", asks)
    request = ask(["init", "--board", "pc"], person)
    assert isinstance(request, init.Init)
    init._ask(request, person, workspace.make_shared(person.run) / init.ANSWERED)
    assert said == ["a few questions; Ctrl-C ends them, and nothing is written\n"]
