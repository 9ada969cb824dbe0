"""Tests completion in real shells, and the man page with groff."""

import os
import pathlib
import pty
import re
import select
import shlex
import subprocess
import time

import pytest

from orchestrator.shared.paths import ROOT

FOLDER = ROOT / "docs/completion"

#: What is typed behind `./run.sh `, and all that is offered for the last word.
OFFERED = [
    ("ver", {"verify", "version"}),
    ("boot --sys", {"--system"}),
    ("boot --system ", {"aarch64-linux", "riscv64-linux", "x86_64-linux"}),
    ("boot --firmware u", {"uefi", "u-boot"}),
    ("--compress ", {"none", "zstd", "xz", "gz"}),
    ("build -f qemu", {"qemu", "qemu-efi"}),
    ("formats sd-aarch64", {"sd-aarch64", "sd-aarch64-installer"}),
    ("help fl", {"flash"}),
    ("flash --no", {"--no-verify"}),
    ("verify --key ", {"folder/", "image.img", "key.pub"}),
    ("verify --key key.pub im", {"image.img"}),
    ("demo --out ", {"folder/"}),
    ("build --override-input nixpkgs f", {"folder/"}),
    ("boot --grow ", set[str]()),
    ("clean ", set[str]()),
]

#: What is typed, and what the tabulator makes of it.
COMPLETED = [
    ("./run.sh veri", "./run.sh verify"),
    ("./run.sh boot --firmware u-", "./run.sh boot --firmware u-boot"),
    ("./run.sh boot --firmware=u-", "./run.sh boot --firmware=u-boot"),
    ("./run.sh --compress zs", "./run.sh --compress zstd"),
    ("./run.sh --format qemu-e", "./run.sh --format qemu-efi"),
    ("./run.sh verify im", "./run.sh verify image.img"),
    ("./run.sh demo --out fold", "./run.sh demo --out folder/"),
    ("./run.sh demo --out=", "./run.sh demo --out=folder/"),
    ("./run.sh flash --dry", "./run.sh flash --dry-run"),
]


@pytest.fixture
def place(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a folder with files and a folder."""
    (tmp_path / "folder").mkdir()
    for name in ("image.img", "key.pub"):
        (tmp_path / name).touch()
    return tmp_path


def said(place: pathlib.Path, *command: str) -> list[str]:
    """Return the lines that a program prints."""
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.needs("bash")
@pytest.mark.parametrize(("typed", "expected"), OFFERED)
def test_bash_offers(typed: str, expected: set[str], place: pathlib.Path) -> None:
    words = ["./run.sh", *typed.split(" ")]
    program = (
        f". {FOLDER / 'run.sh.bash'}; COMP_WORDS=({shlex.join(words)});"
        f" COMP_CWORD={len(words) - 1}; _nixos_image; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    # readline adds the slash of a folder.
    assert set(said(place, "bash", "-c", program)) - {""} == {one.rstrip("/") for one in expected}


@pytest.mark.needs("fish")
@pytest.mark.parametrize(("typed", "expected"), OFFERED)
def test_fish_offers(typed: str, expected: set[str], place: pathlib.Path) -> None:
    program = f"source {FOLDER / 'run.sh.fish'}; complete -C './run.sh {typed}'"
    lines = said(place, "fish", "--no-config", "-c", program)
    assert {line.partition("\t")[0] for line in lines} == expected


@pytest.mark.parametrize(
    "shell", [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("bash", "zsh")]
)
def test_a_tabulator_completes(shell: str, place: pathlib.Path) -> None:
    command = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}[shell]
    setup = {"bash": "", "zsh": "autoload -Uz compinit; compinit -u -d .zcompdump; "}[shell]
    lines = completed(command, f"{setup}. {FOLDER}/run.sh.{shell}", place)
    # zsh takes the slash of a folder away when the line is left.
    assert [line.rstrip("/") for line in lines] == [line.rstrip("/") for _, line in COMPLETED]


def completed(command: list[str], setup: str, place: pathlib.Path) -> list[str]:
    """Type each line of `COMPLETED` and a tabulator in an interactive shell; return the results.

    Ctrl-A goes to the start of the line, which `echo` then shows.
    """
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(place)
        os.environ["TERM"] = "dumb"
        os.environ["PS1"] = "> "
        os.execvp(command[0], command)  # noqa: S606
    try:
        answer(terminal, f"{setup}; echo READY\n", r"^READY")
        found = []
        for number, (typed, _) in enumerate(COMPLETED):
            os.write(terminal, f"{typed}\t".encode())
            time.sleep(0.3)  # a shell may throw away what is typed while it completes
            said_ = answer(terminal, f"\x01echo LINE{number}: \n", rf"^LINE{number}: (.*)$")
            found.append(said_.strip())
        return found
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def answer(terminal: int, keys: str, pattern: str) -> str:
    """Type `keys`; return what the last group of `pattern` is in a line of the terminal."""
    os.write(terminal, keys.encode())
    text, until = "", time.monotonic() + 20
    while time.monotonic() < until:
        if select.select([terminal], [], [], 0.1)[0]:
            text += os.read(terminal, 65536).decode(errors="replace")
        if match := re.search(pattern, text.replace("\r", ""), re.MULTILINE):
            return match[match.lastindex or 0]
    raise AssertionError(f"no line matches {pattern}: {text!r}")


@pytest.mark.needs("groff")
def test_groff_warns_of_nothing() -> None:
    page = ROOT / "docs/man/nixos-image-appliance.1"
    assert said(ROOT, "groff", "-ww", "-man", "-Tutf8", "-z", os.fspath(page)) == []
    text = "\n".join(said(ROOT, "groff", "-man", "-Tascii", os.fspath(page)))
    plain = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", text)
    assert "./run.sh flash out/pi.img /dev/sdb" in plain
    assert re.search(r"^ +--dry-run", plain, re.MULTILINE)
