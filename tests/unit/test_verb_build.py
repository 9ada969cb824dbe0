"""Tests `build` and the command line without a verb: requests, usage errors and orders."""

import pathlib

import pytest

from orchestrator.agents.emulation import ladder
from orchestrator.shared.errors import UsageError
from orchestrator.shared.image_options import ImageOptions
from orchestrator.shared.nix_options import NixOptions
from orchestrator.verbs.formats import Formats
from tests.unit.asking import ask, build, orders
from tests.unit.requests import BUILD

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
            build(
                nix_options=NixOptions(
                    options=(("a", "b"),), arguments=(("x", "y"),), cores=0, show_trace=True
                )
            ),
        ),
        (
            ["--substituter", "https://c", "--trusted-public-key", "k", "--allow-no-login"],
            build(
                nix_options=NixOptions(substituters=("https://c",), trusted_keys=("k",)),
                allow_no_login=True,
            ),
        ),
        (
            [
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
                image=ImageOptions(disk_size=8192),
                ignore_hardware=True,
                root_fs="btrfs",
                dry_run=True,
                out=P("/o"),
            ),
        ),
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
            "--format iso is assembled by nixpkgs",
            "./run.sh formats lists the formats",
        ),
        (
            ["-f", "iso", "--bmap"],
            "--format iso is assembled by nixpkgs",
            "./run.sh formats lists the formats",
        ),
        (
            ["-f", "lxc", "--host-name", "a"],
            "--format lxc is assembled",
            "./run.sh formats lists the formats",
        ),
        (["-f", "lxc", "--boot"], "lxc: this format is not bootable", "omit --boot and --run"),
        (
            ["--format-path", "/mine.nix", "--run"],
            "--format mine: this format is not bootable",
            "omit --boot and --run",
        ),
        (["-c", "a", "--flake", ".#b"], "exclude each other", "./run.sh build --help"),
        (["--flake", "."], "the name of a nixosConfiguration is missing", "--flake '.#NAME'"),
        (["--flake", "git+file:///x#a"], "a file URL is not supported", "name the folder itself"),
        (["--root-fs", "f2fs"], "--root-fs f2fs: it cannot grow", "./run.sh build --help"),
        (["--cores", "-1"], "--cores: invalid count value: '-1'", "./run.sh build --help"),
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
                nix_options=NixOptions(nix_conf="/nix.conf"),
                boot_on_terminal=True,
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
    ],
)
def test_orders(request_: object, expected: list[list[str]]) -> None:
    assert orders("build", request_) == expected


@pytest.mark.parametrize("words", [[], ["--dry-run", "-f", "raw-efi"], ["--list"]])
def test_its_name_may_be_left_out(words: list[str]) -> None:
    assert ask(["build", *words]) == ask(words)


def test_a_list_of_formats_needs_the_terminal_alone() -> None:
    assert orders("build", Formats((), brief=True)) == [["terminal"]]
