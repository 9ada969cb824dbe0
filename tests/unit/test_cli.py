"""The command line.

What each verb becomes, what is wrong and how it is told, and what a shell makes of our orders.
"""

import dataclasses
import pathlib
import subprocess

import hypothesis
import pytest
from hypothesis import strategies as st

from orchestrator.agents.emulation import ladder
from orchestrator.ask import cli, uploads
from orchestrator.ask.request import (
    Boot,
    Build,
    Caller,
    Clean,
    Compose,
    Demo,
    Formats,
    Pins,
    Request,
    Test,
    Verify,
)
from orchestrator.shared.errors import UsageError
from orchestrator.shared.image_options import ImageOptions, Injection
from tests.unit.requests import BUILD, DEMO

P = pathlib.PurePosixPath

RUNG = ladder.rungs()[-1]

DEMO_HELP = "./run.sh demo --help"

#: Not collected by pytest, whatever its name.
TestRequest = Test
TestRequest.__test__ = False  # type: ignore[attr-defined]

BOOT = Boot(
    image=P("/x"),
    system="",
    firmware="",
    identity=None,
    user="root",
    seed=None,
    grow=0,
    run="",
    test=False,
    print_command=False,
    boot_timeout=300.0,
    log_format="auto",
)


def build(**changes: object) -> Build:
    return dataclasses.replace(BUILD, **changes)  # type: ignore[arg-type]


def demo(**changes: object) -> Demo:
    return dataclasses.replace(DEMO, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["demo"], DEMO),
        (
            ["demo", "--system", "x86_64-linux", "--no-boot"],
            demo(system="x86_64-linux", boot=False),
        ),
        (
            ["demo", "-o", "../x", "--ssh-key", "/k.pub"],
            demo(out=P("/home/me/x"), ssh_key=P("/k.pub")),
        ),
        (["demo", "-o", "/a/../../b"], demo(out=P("/b"))),
        (
            ["demo", "--emulation", "host", "--locked", "--dry-run"],
            demo(emulation="host", locked=True, dry_run=True),
        ),
        (
            ["demo", "--timeout", "9", "--boot-timeout=1.5", "--emulation-timeout", "2"],
            demo(timeout=9.0, boot_timeout=1.5, emulation_timeout=2.0),
        ),
        (["demo", "-f", "raw-efi", "--log-format", "json"], demo(log_format="json")),
        (["demo", "--qemu", RUNG], demo(qemu=RUNG)),
        (["demo", "--qemu", "auto"], demo(qemu="auto")),
        (["--qemu", RUNG, "--emulation", "shared"], build(qemu=RUNG, emulation="shared")),
        (["boot", "x.img"], dataclasses.replace(BOOT, image=P("/home/me/project/x.img"))),
        (
            ["boot", "--test", "--system", "aarch64-linux", "/x"],
            dataclasses.replace(BOOT, system="aarch64-linux", test=True),
        ),
        (
            ["boot", "--firmware", "bios", "--grow", "4G", "--identity", "key", "/x"],
            dataclasses.replace(
                BOOT, firmware="bios", grow=4096, identity=P("/home/me/project/key")
            ),
        ),
        (
            ["boot", "--test", "--user", "me", "--identity", "/k", "--print-command", "/x"],
            dataclasses.replace(BOOT, user="me", identity=P("/k"), test=True, print_command=True),
        ),
        (["boot", "--seed", "../s.iso", "/x"], dataclasses.replace(BOOT, seed=P("/home/me/s.iso"))),
        (
            ["demo", "-f", "sd-aarch64", "--disk-size", "8G", "--boot-size", "1000K"],
            demo(format="sd-aarch64", image=ImageOptions(disk_size=8192, boot_size=1)),
        ),
        (
            ["demo", "--partition-table", "hybrid", "--disk-format", "vpc", "--compress", "xz"],
            demo(image=ImageOptions(partition_table="hybrid", disk_format="vpc", compression="xz")),
        ),
        (
            ["demo", "--firmware-size", "64", "--additional-space", "1G", "--bmap", "--check"],
            demo(
                image=ImageOptions(firmware_size=64, additional_space=1024, bmap=True, check=True)
            ),
        ),
        (
            ["demo", "--host-name", "pi", "--inject", "a:/b", "--inject", "/c::d:/e f:0440"],
            demo(
                image=ImageOptions(
                    host_name="pi",
                    injections=(
                        Injection("/home/me/project/a", "/b", 0o600),
                        Injection("/c:d", "/e f", 0o440),
                    ),
                )
            ),
        ),
        (
            ["demo", "--wifi-ssid", "n", "--wifi-password-file", "/p"],
            demo(image=ImageOptions(wifi_ssid="n", wifi_password_file="/p")),
        ),
        (["demo", "--sign", "key"], demo(sign=P("/home/me/project/key"))),
        (["verify", "x.img"], Verify(P("/home/me/project/x.img"), None, None)),
        (["verify", "--key", "/k.pub", "/x"], Verify(P("/x"), P("/k.pub"), None)),
        (["verify", "--allowed-signers", "/s", "/x"], Verify(P("/x"), None, P("/s"))),
        (["pins"], Pins(update=False, installed=False, log_format="auto")),
        (["pins", "--update"], Pins(update=True, installed=False, log_format="auto")),
        (["pins", "--installed"], Pins(update=False, installed=True, log_format="auto")),
        (
            ["demo", "--stamp", "hosts.csv"],
            demo(image=ImageOptions(stamp="/home/me/project/hosts.csv")),
        ),
        ([], BUILD),
        (
            ["-c", "my.nix", "-f", "raw-efi", "-f", "iso", "--system", "x86_64-linux"],
            build(
                configuration=P("/home/me/project/my.nix"),
                formats=("raw-efi", "iso"),
                systems=("x86_64-linux",),
            ),
        ),
        # The same format by two names is one format; so is the same system twice.
        (
            ["-f", "qcow", "-f", "qemu", "--system", "i686-linux", "--system", "i686-linux"],
            build(formats=("qcow",), systems=("i686-linux",)),
        ),
        (
            ["--flake", ".#pi", "--nixpkgs", "github:NixOS/nixpkgs", "--boot", "--run"],
            build(
                configuration=None,
                flake=P("/home/me/project"),
                attribute="pi",
                nixpkgs="github:NixOS/nixpkgs",
                boot=True,
                run=True,
            ),
        ),
        (
            ["--flake", "github:me/machines?dir=a#pi"],
            build(configuration=None, flake="github:me/machines?dir=a", attribute="pi"),
        ),
        (["-I", "nixpkgs=channel:nixos-19.09"], build(nixpkgs="channel:nixos-19.09")),
        (
            ["-I", "nixpkgs=../n", "-I", "mine=x", "-I", "all", "--nixpkgs", "path:other"],
            build(
                nixpkgs=P("/home/me/project/other"),
                search_path=(("mine", P("/home/me/project/x")), ("", P("/home/me/project/all"))),
            ),
        ),
        (
            ["--format-path", "my.nix"],
            build(formats=(), format_paths=(P("/home/me/project/my.nix"),)),
        ),
        (
            ["--option", "a", "b", "--special-arg", "x", "y", "--cores", "0", "--show-trace"],
            build(options=(("a", "b"),), arguments=(("x", "y"),), cores=0, show_trace=True),
        ),
        (
            ["--substituter", "https://c", "--trusted-public-key", "k", "--allow-no-login"],
            build(substituters=("https://c",), trusted_keys=("k",), allow_no_login=True),
        ),
        (
            ["--disk-size", "8G", "--root-fs", "btrfs", "--dry-run", "-o", "/o"],
            build(image=ImageOptions(disk_size=8192), root_fs="btrfs", dry_run=True, out=P("/o")),
        ),
        (["--list"], Formats((), brief=True)),
        (["clean"], Clean(False, "auto")),
        (["clean", "--all", "--log-format", "plain"], Clean(True, "plain")),
        (["test"], Test(())),
        (["test", "-k", "lease", "--help"], Test(("-k", "lease", "--help"))),
        (["ps"], Compose(("ps",))),
        (["down", "--rmi", "all", "-v"], Compose(("down", "--rmi", "all", "-v"))),
        (["logs", "--help"], Compose(("logs", "--help"))),
    ],
)
def test_each_verb_becomes_its_request(argv: list[str], expected: Request, who: Caller) -> None:
    assert cli.parse(argv, who) == expected


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (["dmeo"], "dmeo: no such command", "did you mean demo?"),
        (["donw"], "donw: no such command", "did you mean down?"),
        (["zzzzzz"], "zzzzzz: no such command", "./run.sh help"),
        (
            ["demo", "--ssh-kye", "x"],
            "unrecognized arguments: --ssh-kye",
            "did you mean --ssh-key?",
        ),
        (["demo", "--ot=x"], "unrecognized arguments: --ot=x", "did you mean --out?"),
        (
            ["verify", "--key", "k", "--allowed-signers", "s", "x"],
            "argument --allowed-signers: not allowed with argument --key",
            "./run.sh verify --help",
        ),
        (
            ["pins", "--update", "--installed"],
            "argument --installed: not allowed with argument --update",
            "./run.sh pins --help",
        ),
        (["clean", "--al1"], "unrecognized arguments: --al1", "did you mean --all?"),
        (["demo", "extra"], "unrecognized arguments: extra", "./run.sh demo --help"),
        (["boot", "--user", "me", "x"], "--user needs --identity", "./run.sh boot --help"),
        (["boot"], "required: IMAGE", "./run.sh boot --help"),
        (["demo", "--system", "z80-linux"], "invalid choice: 'z80-linux'", "./run.sh demo --help"),
        (["demo", "--emulation", "magic"], "invalid choice: 'magic'", "./run.sh demo --help"),
        (["demo", "--qemu", "0.1"], "'0.1' (choose from ", "./run.sh demo --help"),
        (
            ["--qemu", RUNG, "--emulation", "host"],
            f"--qemu {RUNG}: --emulation host uses none of these",
            "leave out one of them",
        ),
        (["demo", "--format", "iso"], "invalid choice: 'iso'", "./run.sh demo --help"),
        (["demo", "--log-format", "xml"], "invalid choice: 'xml'", "./run.sh demo --help"),
        *(
            (["demo", "--timeout", text], "--timeout: invalid", "./run.sh demo --help")
            for text in ("0", "-1", "x", "inf", "nan", "")
        ),
        *(
            (["demo", "--inject", text], f"--inject {text}: ", "./run.sh demo --help")
            for text in ("a", "a:", ":/b", "a:b", "a:/b/../c", "a:/b:9", "a:/b:0600:x", "")
        ),
        *(
            (["demo", "--disk-size", text], "--disk-size: invalid", "./run.sh demo --help")
            for text in ("0", "-1", "1P", "x", "1.5G", "99999T", "")
        ),
        (["demo", "--wifi-password-file", "p"], "needs --wifi-ssid", DEMO_HELP),
        (["demo", "--root-fs", "f2fs"], "--root-fs f2fs: it cannot grow", DEMO_HELP),
        (["demo", "--host-name", "../x"], "--host-name: '../x' is not a host name", DEMO_HELP),
        (["demo", "--host-name", "a", "--stamp", "b"], "exclude each other", DEMO_HELP),
        (["--sytem", "x"], "unrecognized arguments: --sytem", "did you mean --system?"),
        (["my.nix"], "my.nix: no such command", "./run.sh help"),
        (["-f", "raw-eif"], "raw-eif: no such format", "did you mean raw-efi?"),
        (
            ["-f", "sd-aarch64", "--system", "x86_64-linux"],
            "--format sd-card: x86_64-linux cannot have it, only aarch64-linux",
            "./run.sh formats",
        ),
        (["-f", "iso", "--bmap"], "--format iso is put together by nixpkgs", "./run.sh formats"),
        (["-f", "lxc", "--host-name", "a"], "--format lxc is put together", "./run.sh formats"),
        (["-f", "lxc", "--boot"], "lxc: no machine boots it", "leave out --boot and --run"),
        (
            ["--format-path", "/mine.nix", "--run"],
            "--format mine: no machine boots it",
            "leave out --boot and --run",
        ),
        (["-c", "a", "--flake", ".#b"], "exclude each other", "./run.sh --help"),
        (["--flake", "."], "which of its nixosConfigurations?", "--flake '.#NAME'"),
        (["--flake", "git+file:///x#a"], "is on this host", "name the folder itself"),
        (["--root-fs", "f2fs"], "--root-fs f2fs: it cannot grow", "./run.sh --help"),
        (["--cores", "-1"], "-1 is no number of cores", "./run.sh --help"),
        (["-c", ""], "an empty path", "name a file or folder"),
        (["--option", "a"], "--option: expected 2 arguments", "./run.sh --help"),
        (
            ["--option", "access-tokens", "github.com=ghp_x"],
            "--option access-tokens: a command line is no place for a secret",
            "write `access-tokens = …` into a file and name that: --nix-conf FILE",
        ),
        (["demo", "--timeout"], "--timeout: expected one argument", "./run.sh demo --help"),
        (["demo", "-o", ""], "an empty path", "name a file or folder"),
        (["boot", ""], "an empty path", "name a file or folder"),
    ],
)
def test_what_is_wrong_is_told_with_a_way_out(
    argv: list[str], message: str, hint: str, who: Caller
) -> None:
    with pytest.raises(UsageError) as caught:
        cli.parse(argv, who)
    assert message in str(caught.value)
    assert caught.value.hint == hint


@pytest.mark.parametrize("argv", [["demo", "--ssh-key", ""], ["demo", "--system", ""]])
def test_an_empty_value_is_not_taken_for_none(argv: list[str], who: Caller) -> None:
    """`--ssh-key "$KEY"` with an unset variable must not quietly mean something else."""
    with pytest.raises(UsageError):
        cli.parse(argv, who)


@pytest.mark.parametrize(
    "argv", [["demo", "--no"], ["demo", "--sys", "x86_64-linux"], ["boot", "--t", "x"]]
)
def test_options_are_not_abbreviated(argv: list[str], who: Caller) -> None:
    """What is an abbreviation today is ambiguous with the next option."""
    with pytest.raises(UsageError):
        cli.parse(argv, who)


def test_help_names_every_verb(who: Caller) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.parse(["help"], who)
    assert all(f"./run.sh {verb}" in str(caught.value.code) for verb in cli.OURS if verb != "help")


def test_the_callers_side_has_defaults() -> None:
    nobody = cli.caller({})
    assert (nobody.cwd, nobody.home, nobody.columns, nobody.out_kib, nobody.sparse) == (
        P("/"),
        P("/"),
        0,
        None,
        True,
    )
    assert nobody.socket == "/var/run/docker.sock"
    odd = cli.caller(
        {"NIXOS_IMAGE_COLUMNS": "wide", "NIXOS_IMAGE_OUT_KIB": "-", "NIXOS_IMAGE_SPARSE": "0"}
    )
    assert (odd.columns, odd.out_kib, odd.sparse) == (0, 0, False)


# --- orders to run.sh -------------------------------------------------------------------------

#: Plays run.sh: prints what each of its functions was called with, one word per NUL.
FUNCTIONS = "".join(
    f"{name}() {{ printf '%s\\0' {name} \"$@\" ';'; }}\n"
    for name in (
        "out_dir",
        "out_locks",
        "send",
        "send_keys",
        "send_result",
        "send_tree",
        "terminal",
        "then_boot",
    )
)


def obeyed(script: str) -> list[list[str]]:
    """The calls that a POSIX shell makes of `script`, which it gets as run.sh does.

    Out of a substitution, by eval.
    """
    program = f'{FUNCTIONS}orders=$(cat)\neval "$orders"\n'
    done = subprocess.run(
        ["sh", "-euc", program], input=script.encode(), capture_output=True, check=True
    )
    assert done.stderr == b""
    words = done.stdout.decode(errors="surrogateescape").split("\0")[:-1]
    calls: list[list[str]] = [[]]
    for word in words:
        if word == ";":
            calls.append([])
        else:
            calls[-1].append(word)
    return calls[:-1]


NASTY = [
    "/a b",
    "/it's",
    '/"$HOME"',
    "/`id`",
    "/$(id)",
    "/a\nb",
    "/a\n",
    "/-rf",
    "/a\\b",
    "/*",
    "/~",
    "/ü",
    "/;id",
    "/#x",
    "/a\tb",
]


@pytest.mark.parametrize("path", NASTY)
def test_a_shell_gets_each_path_as_it_is(path: str, who: Caller) -> None:
    request = demo(out=P(path), ssh_key=P(path))
    assert obeyed(cli.script(request, who)) == [["out_dir", path], ["send", "--ssh-key", path]]
    booted = dataclasses.replace(BOOT, image=P(path), test=True, identity=P(path), seed=P(path))
    assert obeyed(cli.script(booted, who)) == [
        ["send", "boot", path],
        ["send_result", str(P(path).parent / "result.json")],
        ["send", "--identity", path],
        ["send", "--seed", path],
    ]
    with_bundle = dataclasses.replace(who, ca_bundle=path)
    assert obeyed(cli.script(Clean(False, "auto"), with_bundle)) == [
        ["send", "SSL_CERT_FILE", path]
    ]


@hypothesis.given(text=st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1))
@hypothesis.settings(
    max_examples=60, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_a_shell_gets_any_path_as_it_is(text: str, who: Caller) -> None:
    try:
        request = cli.parse(["boot", "--test", "--system=aarch64-linux", "--", text], who)
    except UsageError as error:
        hypothesis.event(error.hint)
        request = dataclasses.replace(BOOT, image=P("/", text.replace("..", "").lstrip("/")))
    assert isinstance(request, Boot)
    assert request.image.is_absolute()
    assert ".." not in request.image.parts
    assert obeyed(cli.script(request, who))[0] == ["send", "boot", str(request.image)]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (DEMO, [["out_dir", "/home/me/project/out"], ["send_keys"]]),
        (BOOT, [["send", "boot", "/x"], ["send_result", "/result.json"], ["terminal"]]),
        (
            demo(image=ImageOptions(injections=(Injection("/s", "/d", 0o600),), stamp="/c")),
            [
                ["out_dir", "/home/me/project/out"],
                ["send", "--inject", "/s"],
                ["send", "--stamp", "/c"],
                ["send_keys"],
            ],
        ),
        (
            BUILD,
            [
                ["out_dir", "/home/me/project/out"],
                ["send_tree", "--configuration", "/checkout/config/sd-card.nix"],
            ],
        ),
        (
            build(
                dry_run=True,
                configuration=None,
                flake=P("/f"),
                nixpkgs=P("/n"),
                search_path=(("a", P("/a")), ("b", "channel:b")),
                format_paths=(P("/p.nix"),),
                nix_conf=P("/nix.conf"),
                run=True,
            ),
            [
                ["send_tree", "--flake", "/f"],
                ["send_tree", "--nixpkgs", "/n"],
                ["send_tree", "-I", "/a"],
                ["send_tree", "--format-path", "/p.nix"],
                ["send", "--nix-conf", "/nix.conf"],
                ["then_boot"],
            ],
        ),
        (
            demo(sign=P("/k")),
            [["out_dir", "/home/me/project/out"], ["send", "--sign", "/k"], ["send_keys"]],
        ),
        (
            Verify(P("/o/x.img"), P("/k.pub"), None),
            [
                ["send", "verify", "/o/x.img"],
                ["send_result", "/o/x.img.cdx.json"],
                ["send_result", "/o/x.img.provenance.json"],
                ["send_result", "/o/x.img.sha256"],
                ["send_result", "/o/x.img.sha256.sig"],
                ["send_result", "/o/x.img.bmap"],
                ["send", "--key", "/k.pub"],
            ],
        ),
        (Pins(update=True, installed=False, log_format="auto"), [["out_locks"]]),
        (Pins(update=False, installed=True, log_format="auto"), [["terminal"]]),
        (Compose(("ps",)), [["terminal"]]),
        (Test(()), [["terminal"]]),
        (Clean(False, "auto"), []),
    ],
)
def test_orders_of_each_request(request_: Request, expected: list[list[str]], who: Caller) -> None:
    assert obeyed(cli.script(request_, who)) == expected


def test_every_order_is_one_that_run_sh_knows(who: Caller) -> None:
    text = (pathlib.Path(__file__).parents[2] / "run.sh").read_text()
    requests: list[Request] = [
        DEMO,
        demo(ssh_key=P("/k")),
        BOOT,
        dataclasses.replace(BUILD, run=True),
        Verify(P("/x"), P("/k"), None),
        Pins(update=True, installed=False, log_format="auto"),
        Compose(("ps",)),
        Test(()),
    ]
    names = {call[0] for request in requests for call in obeyed(cli.script(request, who))}
    assert len(names) == 8
    assert all(f"\n{name}() {{" in text for name in names)


# --- paths --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["a\nb", "a\rb", "\x1b[2J", "a\ufffdb", "a\udcff", "\x7f"])
@pytest.mark.parametrize("arguments", [["demo", "-o"], ["-c"], ["boot"], ["--stamp"], ["-I"]])
def test_a_path_that_would_not_arrive_as_it_is_is_refused(
    arguments: list[str], path: str, who: Caller
) -> None:
    """Docker turns what is no UTF-8 into U+FFFD: another file's name."""
    with pytest.raises(
        UsageError, match="a path with control characters, or not in UTF-8"
    ) as caught:
        cli.parse([*arguments, path], who)
    assert str(caught.value).isprintable()


def test_so_is_any_in_a_folder_of_such_a_name(who: Caller) -> None:
    who = dataclasses.replace(who, cwd=P("/home/me/\ufffd"))
    with pytest.raises(UsageError, match="not in UTF-8"):
        cli.parse(["demo"], who)
    assert cli.parse(["demo", "-o", "/out"], who) == demo(out=P("/out"))


@pytest.mark.parametrize("path", ["//out", "///out", "/../out", "//a/../out/."])
def test_a_path_begins_with_one_slash(path: str, who: Caller) -> None:
    """POSIX gives two a meaning of their own, and so does Python."""
    assert cli.parse(["demo", f"--out={path}"], who) == demo(out=P("/out"))


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
    assert cli.parse(["demo", f"--out={name}"], who) == demo(out=P("/home/me/project") / name)


# --- SSH keys ---------------------------------------------------------------------------------

ED = "ssh-ed25519 AAAAC3 me@host"
EC = "ecdsa-sha2-nistp256 AAAAE2 me"
SK = "sk-ssh-ed25519@openssh.com AAAAG me"


@pytest.fixture
def received(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(uploads, "input_folder", lambda _who: tmp_path)
    (tmp_path / "home/me/.ssh").mkdir(parents=True)
    return tmp_path


def test_all_public_keys_of_the_caller_are_taken_once(received: pathlib.Path, who: Caller) -> None:
    folder = received / "home/me/.ssh"
    (folder / "a.pub").write_text(f"# mine\n\n  {ED}\r\n")
    (folder / "b.pub").write_text(f"{EC}\n{ED}\n{SK}\n")
    (folder / "c.pub").write_text("no key\n")
    (folder / "id_ed25519").write_text("ssh-private\n")
    assert cli.ssh_keys(DEMO, who) == (ED, EC, SK)


def test_no_keys_are_no_error(received: pathlib.Path, who: Caller) -> None:
    assert cli.ssh_keys(DEMO, who) == ()
    (received / "home/me/.ssh").rmdir()
    assert cli.ssh_keys(DEMO, who) == ()


def test_the_key_that_is_named_is_the_only_one(received: pathlib.Path, who: Caller) -> None:
    (received / "home/me/.ssh/a.pub").write_text(f"{EC}\n")
    (received / "keys.pub").write_text(f"{ED}\n")
    assert cli.ssh_keys(demo(ssh_key=P("/keys.pub")), who) == (ED,)


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN OPENSSH PRIVATE KEY-----\nssh-x\n",
        "",
        "# nothing\n",
        f"{ED}\ngarbage\n",
        "\x00\xff\n",
    ],
)
def test_a_file_that_is_no_public_key_is_refused(
    text: str, received: pathlib.Path, who: Caller
) -> None:
    (received / "key").write_text(text)
    with pytest.raises(UsageError, match="/key: not a public key file"):
        cli.ssh_keys(demo(ssh_key=P("/key")), who)
