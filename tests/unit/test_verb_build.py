"""Tests `build` and the command line without a verb: requests, usage errors and orders."""

import dataclasses
import pathlib
import typing

import pytest

from orchestrator.agents.emulation import ladder
from orchestrator.ask.request import Build
from orchestrator.shared.errors import UsageError
from orchestrator.shared.image_options import ImageOptions
from orchestrator.shared.nix_options import NixOptions
from orchestrator.verbs.formats import Formats
from tests.unit.asking import ask, build, orders
from tests.unit.requests import BUILD, CALLER
from tests.unit.requests import CACHE_KEY as KEY

P = pathlib.PurePosixPath

RUNG = ladder.rungs()[-1]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--qemu", RUNG, "--emulation", "shared"], build(qemu=RUNG, emulation="shared")),
        ([], BUILD),
        (
            ["-c", "my.nix", "-f", "raw-efi", "-f", "iso", "--system", "x86_64-linux"],
            build(
                configuration=P("/home/me/project/my.nix"),
                formats=("raw-efi", "iso"),
                systems=("x86_64-linux",),
            ),
        ),
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
                boot_on_terminal=True,
            ),
        ),
        (
            ["--flake", "github:me/machines?dir=a#pi"],
            build(configuration=None, flake="github:me/machines?dir=a", attribute="pi"),
        ),
        (
            ["--flake", "path:my%20machines%3f%#a"],
            build(configuration=None, flake=P("/home/me/project/my machines?%"), attribute="a"),
        ),
        (["--nixpkgs", "path:a:b"], build(nixpkgs=P("/home/me/project/a:b"))),
        (
            ["--flake", "git+file:///m?dir=a/b&submodules=1&shallow=1#"],
            build(configuration=None, flake=P("/m"), flake_folder="a/b", submodules=True),
        ),
        (
            ["--flake", ".", "-I", "nixpkgs=n"],
            build(
                configuration=None,
                flake=P("/home/me/project"),
                search_path=(("nixpkgs", P("/home/me/project/n")),),
            ),
        ),
        (
            [
                *("--flake", "path:m?dir=c#a.b", "--nixpkgs", "n"),
                *("--override-input", "x", "../x?dir=d", "--override-input", "y/z", "github:y/z"),
            ],
            build(
                configuration=None,
                flake=P("/home/me/project/m"),
                flake_folder="c",
                attribute="a.b",
                nixpkgs=P("/home/me/project/n"),
                overrides=(("x", P("/home/me/x"), "d"), ("y/z", "github:y/z", "")),
            ),
        ),
        (
            ["-I", "nixos-config=x.nix"],
            build(configuration=P("/home/me/project/x.nix"), configuration_by="-I nixos-config"),
        ),
        (
            ["-c", "y.nix", "-I", "nixos-config=x.nix"],
            build(configuration=P("/home/me/project/y.nix")),
        ),
        (
            ["-I", "nixpkgs=channel:nixos-19.09"],
            build(nixpkgs="channel:nixos-19.09", nixpkgs_by="-I nixpkgs"),
        ),
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
            build(
                nix_options=NixOptions(
                    options=(("a", "b"),), arguments=(("x", "y"),), cores=0, show_trace=True
                )
            ),
        ),
        (
            ["--substituter", "https://c", "--trusted-public-key", KEY, "--allow-no-login"],
            build(
                nix_options=NixOptions(substituters=("https://c",), trusted_keys=(KEY,)),
                allow_no_login=True,
            ),
        ),
        (
            [
                "-f",
                "raw-efi",
                "--disk-size",
                "8G",
                "--ignore-hardware",
                "--root-fs",
                "btrfs",
                "--dry-run",
                "-o",
                "/o",
            ],
            build(
                formats=("raw-efi",),
                image=ImageOptions(disk_size=8192),
                ignore_hardware=True,
                root_fs="btrfs",
                dry_run=True,
                out=P("/o"),
            ),
        ),
        (["--disk-size", "auto"], build(image=ImageOptions(disk_size=0))),
        (
            ["-f", "raw-efi", "--boot-size=auto"],
            build(formats=("raw-efi",), image=ImageOptions(boot_size=0)),
        ),
        (["--out-link", "result"], build(out=P("/home/me/project/result"))),
        (["--list"], Formats((), brief=True)),
    ],
)
def test_words_become_a_request(argv: list[str], expected: object) -> None:
    assert ask(argv) == expected


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (
            ["--qemu", RUNG, "--emulation", "host"],
            f"--qemu {RUNG}: --emulation host has no use for it",
            "omit one of the two options",
        ),
        (["--sytem", "x"], "unrecognized arguments: --sytem", "did you mean --system?"),
        (["-f", "raw-eif"], "raw-eif: no such format", "did you mean raw-efi?"),
        (
            ["-f", "sd-aarch64", "--system", "x86_64-linux"],
            "--format sd-card: not for x86_64-linux, only aarch64-linux",
            "./run.sh formats lists each format's systems",
        ),
        (
            ["-f", "iso", "--secure-boot-key", "k", "--secure-boot-cert", "c"],
            "--secure-boot-key: --format iso is made by nixpkgs' recipe, which lacks this option",
            "./run.sh formats lists the formats that this appliance assembles",
        ),
        (
            ["-f", "iso", "--bmap"],
            "--bmap: --format iso is made by nixpkgs' recipe, which lacks this option",
            "./run.sh formats lists the formats that this appliance assembles",
        ),
        (
            ["-f", "lxc", "--host-name", "a"],
            "--host-name: --format lxc is made by nixpkgs' recipe, which lacks this option",
            "./run.sh formats lists the formats that this appliance assembles",
        ),
        (["-f", "lxc", "--boot"], "lxc: this format is not bootable", "omit --boot and --run"),
        (
            ["--format-path", "/mine.nix", "--run"],
            "--format mine: this format is not bootable",
            "omit --boot and --run",
        ),
        (["-c", "a", "--flake", ".#b"], "exclude each other", "./run.sh build --help"),
        (["--flake", "file:///x#a"], "a file URL is not supported", "name the folder itself"),
        (
            ["--flake", "git+file:///x?ref=v1#a"],
            "a folder is sent with its files as they are",
            "git worktree add FOLDER v1 has that commit's files",
        ),
        (
            ["--flake", ".?narHash=x"],
            ".?narHash=x: ?narHash= is not supported for a folder",
            "only ?dir= and ?submodules=1 are",
        ),
        (["--flake", ".?dir=a/../.."], "?dir= must not lead out of the folder", "omit `..`"),
        (["--override-input", "a", "b"], "--override-input needs --flake", "./run.sh build --help"),
        (
            ["--flake", ".", "--nixpkgs", "a", "--override-input", "nixpkgs", "b"],
            "--nixpkgs and --override-input nixpkgs exclude each other",
            "omit one of them",
        ),
        (
            ["--flake", ".", "--override-input", "a", "b?submodules=1"],
            "--override-input a: ?submodules=1 is refused, no submodules are sent",
            "name the submodule's own folder",
        ),
        (["-I", "nixos-config=github:a/b"], "expected a file", "name a file"),
        (["--root-fs", "f2fs"], "--root-fs f2fs: it cannot grow", "./run.sh build --help"),
        (["--cores", "-1"], "--cores: '-1' is not a whole number", "./run.sh build --help"),
        (["-c", ""], "a path is empty", "name a file or folder"),
        (["--option", "a"], "--option: expected 2 arguments", "./run.sh build --help"),
        (
            ["--option", "access-tokens", "github.com=ghp_x"],
            "--option access-tokens: secrets are not allowed on the command line",
            "write `access-tokens = …` into a file and use --nix-conf FILE",
        ),
    ],
)
def test_what_is_wrong_is_told_with_a_way_out(argv: list[str], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        ask(argv)
    assert message in str(caught.value)
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (
            BUILD,
            [
                ["out_dir", "--out", "/home/me/project/out"],
                ["question"],
                ["images", "--out", "/home/me/project/out"],
                ["send_tree", "--configuration", "/checkout/config/sd-card.nix"],
            ],
        ),
        (
            build(
                dry_run=True,
                configuration=None,
                flake=P("/f"),
                nixpkgs=P("/n"),
                overrides=(("o", P("/o"), "x"), ("r", "github:r/r", "")),
                search_path=(("a", P("/a")), ("b", "channel:b")),
                format_paths=(P("/p.nix"),),
                nix_options=NixOptions(nix_conf="/nix.conf"),
                boot_on_terminal=True,
            ),
            [
                ["images", "--out", "/home/me/project/out"],
                ["send_tree", "--flake", "/f"],
                ["send_tree", "--nixpkgs", "/n"],
                ["send_tree", "--override-input", "/o"],
                ["send_tree", "-I", "/a"],
                ["send_tree", "--format-path", "/p.nix"],
                ["send", "--nix-conf", "/nix.conf"],
                ["then_boot"],
            ],
        ),
    ],
)
def test_orders(request_: object, expected: list[list[str]]) -> None:
    assert orders("build", request_) == expected


ENVIRONMENT = dataclasses.replace(
    CALLER, configuration="x.nix", nixpkgs="/n", searched="nixpkgs=/n:nixos-config=/etc/nixos/c.nix"
)


def test_the_callers_environment_decides_what_the_command_line_does_not() -> None:
    assert ask([], ENVIRONMENT) == build(
        configuration=P("/home/me/project/x.nix"),
        configuration_by="NIXOS_CONFIG",
        nixpkgs=P("/n"),
        nixpkgs_by="NIX_PATH",
        notes=(
            "configuration: /home/me/project/x.nix, because of NIXOS_CONFIG",
            "nixpkgs: /n, because of NIX_PATH (--nixpkgs takes another one)",
        ),
    )
    argv = ["-I", "nixos-config=y.nix", "--nixpkgs", "channel:z"]
    assert ask(argv, ENVIRONMENT) == ask(argv), "what is said counts"
    assert ask(["--flake", "."], ENVIRONMENT) == ask(["--flake", "."]), "a flake says all itself"


def test_the_configuration_of_the_callers_computer_is_not_built_unasked() -> None:
    """Each NixOS host has one in NIX_PATH; it is not what ./run.sh alone is documented to build."""
    request = ask([], dataclasses.replace(CALLER, searched=ENVIRONMENT.searched))
    (note,) = typing.cast("Build", request).notes
    assert note.startswith(
        "configuration: config/sd-card.nix of this project, not the nixos-config"
    )
    assert request == build(notes=(note,))


def test_submodules_are_sent_if_they_are_asked_for() -> None:
    flake = build(configuration=None, flake=P("/f"), nixpkgs=P("/n"), submodules=True, dry_run=True)
    assert orders("build", flake) == [
        ["images", "--out", "/home/me/project/out"],
        ["send_modules", "--flake", "/f"],
        ["send_tree", "--nixpkgs", "/n"],
    ]


@pytest.mark.parametrize("words", [[], ["--dry-run", "-f", "raw-efi"], ["--list"]])
def test_its_name_may_be_left_out(words: list[str]) -> None:
    assert ask(["build", *words]) == ask(words)


def test_a_list_of_formats_needs_the_terminal_alone() -> None:
    assert orders("build", Formats((), brief=True)) == [["terminal"]]
