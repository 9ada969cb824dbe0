"""Tests `demo`: requests, usage errors and orders."""

import pathlib

import pytest

from orchestrator.agents.emulation import ladder
from orchestrator.shared.display import Display
from orchestrator.shared.errors import UsageError
from orchestrator.shared.image_options import ImageOptions, Injection
from tests.unit.asking import ask, demo, orders
from tests.unit.requests import DEMO

P = pathlib.PurePosixPath

BLANKS = "./run.sh demo --help; a name with blanks stands between quotes"

RUNG = ladder.rungs()[-1]


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
        (["demo", "-f", "raw-efi", "--progress", "json"], demo(display=Display("json"))),
        (["demo", "--log-format", "json", "-v"], demo(display=Display("json", "verbose"))),
        (["demo", "--quiet", "--yes"], demo(display=Display(detail="quiet"), yes=True)),
        (["demo", "--qemu", RUNG], demo(qemu=RUNG)),
        (["demo", "--qemu", "auto"], demo(qemu="auto")),
        (
            ["demo", "-f", "qcow-efi", "--disk-size", "8G", "--boot-size", "1000K"],
            demo(format="qcow-efi", image=ImageOptions(disk_size=8192, boot_size=1)),
        ),
        (
            ["demo", "--partition-table", "hybrid", "--disk-format", "vpc", "--compress", "xz"],
            demo(image=ImageOptions(partition_table="hybrid", disk_format="vpc", compression="xz")),
        ),
        (
            [
                *("demo", "-f", "sd-riscv64", "--firmware-size", "64"),
                *("--additional-space", "1G", "--bmap", "--check"),
            ],
            demo(
                format="sd-riscv64",
                image=ImageOptions(firmware_size=64, additional_space=1024, bmap=True, check=True),
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
        (
            ["demo", "--secure-boot-key", "/k", "--secure-boot-cert", "/c"],
            demo(image=ImageOptions(secure_boot_key="/k", secure_boot_cert="/c")),
        ),
        (["demo", "--sign", "key"], demo(sign=P("/home/me/project/key"))),
        (
            ["demo", "--stamp", "hosts.csv"],
            demo(image=ImageOptions(stamp="/home/me/project/hosts.csv")),
        ),
    ],
)
def test_words_become_a_request(argv: list[str], expected: object) -> None:
    assert ask(argv) == expected


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (
            ["demo", "--ssh-kye", "x"],
            "unrecognized arguments: --ssh-kye",
            "did you mean --ssh-key?",
        ),
        (["demo", "--ot=x"], "unrecognized arguments: --ot=x", "did you mean --out?"),
        (["demo", "extra"], "unrecognized arguments: extra", BLANKS),
        (["demo", "--system", "z80-linux"], "invalid choice: 'z80-linux'", "./run.sh demo --help"),
        (["demo", "--emulation", "magic"], "invalid choice: 'magic'", "./run.sh demo --help"),
        (["demo", "--qemu", "0.1"], "'0.1' (choose from ", "./run.sh demo --help"),
        (["demo", "--format", "iso"], "invalid choice: 'iso'", "./run.sh demo --help"),
        (["demo", "--json"], "--json: only with --dry-run", "./run.sh demo --help"),
        (["demo", "-q", "-v"], "not allowed with argument -q/--quiet", "./run.sh demo --help"),
        (["demo", "--log-format", "xml"], "invalid choice: 'xml'", "./run.sh demo --help"),
        *(
            (["demo", "--timeout", text], "is not a positive number of", "./run.sh demo --help")
            for text in ("0", "-1", "x", "inf", "nan", "")
        ),
        *(
            (["demo", "--inject", text], f"--inject {text}: ", "./run.sh demo --help")
            for text in ("a", "a:", ":/b", "a:b", "a:/b/../c", "a:/b:9", "a:/b:0600:x", "")
        ),
        *(
            (["demo", "--disk-size", text], f"--disk-size: {text!r} is not", "./run.sh demo --help")
            for text in ("0", "-1", "1P", "x", "1.5G", "99999T", "", "16T")
        ),
        (["demo", "--wifi-password-file", "p"], "needs --wifi-ssid", "./run.sh demo --help"),
        (["demo", "--identity-seed", "p"], "needs --stamp or --host-name", "./run.sh demo --help"),
        (["demo", "--secure-boot-key", "k"], "need each other", "./run.sh demo --help"),
        (["demo", "--secure-boot-cert", "c"], "need each other", "./run.sh demo --help"),
        (["demo", "--root-fs", "f2fs"], "--root-fs f2fs: it cannot grow", "./run.sh demo --help"),
        (
            ["demo", "--host-name", "../x"],
            "--host-name: '../x' is not a host name",
            "./run.sh demo --help",
        ),
        (
            ["demo", "--host-name", "a", "--stamp", "b"],
            "exclude each other",
            "./run.sh demo --help",
        ),
        (["demo", "--timeout"], "--timeout: expected one argument", "./run.sh demo --help"),
        (["demo", "-o", ""], "a path is empty", "name a file or folder"),
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
        (DEMO, [["out_dir", "--out", "/home/me/project/out"], ["question"], ["send_keys"]]),
        (demo(yes=True), [["out_dir", "--out", "/home/me/project/out"], ["send_keys"]]),
        (demo(dry_run=True), [["send_keys"]]),
        (demo(dry_run=True, as_json=True), [["terminal"], ["send_keys"]]),
        (
            demo(image=ImageOptions(injections=(Injection("/s", "/d", 0o600),), stamp="/c")),
            [
                ["out_dir", "--out", "/home/me/project/out"],
                ["delivered"],
                ["question"],
                ["send", "--inject", "/s"],
                ["send", "--stamp", "/c"],
                ["send_keys"],
            ],
        ),
        (
            demo(image=ImageOptions(stamp="/c", identity_seed="/seed")),
            [
                ["out_dir", "--out", "/home/me/project/out"],
                ["delivered"],
                ["question"],
                ["send", "--stamp", "/c"],
                ["send", "--identity-seed", "/seed"],
                ["send_keys"],
            ],
        ),
        (
            demo(sign=P("/k")),
            [
                ["out_dir", "--out", "/home/me/project/out"],
                ["question"],
                ["send", "--sign", "/k"],
                ["send_keys"],
            ],
        ),
    ],
)
def test_orders(request_: object, expected: list[list[str]]) -> None:
    assert orders("demo", request_) == expected
