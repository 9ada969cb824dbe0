"""Linters and the type checker find nothing."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def complaints(*command: str | pathlib.Path, expected: int = 0) -> str:
    """Run a linter on the repository; return its findings."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return "" if done.returncode == expected else f"{done.stdout}{done.stderr}"


def shell_scripts() -> list[pathlib.Path]:
    folders = (
        ("tests", "forget-demo"),
        ("tests/emulators", "make-compatibility"),
        ("tests/caller", "*.sh"),
        ("tests/simulated_hosts", "*.sh"),
        ("tests/nixos", "*.sh"),
        ("tests/nixos", "make-tree"),
        ("tests/nixos/stand-in", "*.sh"),
        ("benchmarks", "*.sh"),
        ("docs/completion", "*.bash"),
        ("nix", "*.sh"),
        ("nix/modules", "*.sh"),
        ("nix/demo", "*.sh"),
    )
    found = [path for folder, pattern in folders for path in sorted((ROOT / folder).glob(pattern))]
    return [ROOT / "run.sh", *([ROOT / ".ci/run"] if (ROOT / ".ci/run").exists() else []), *found]


@pytest.mark.needs("ruff")
def test_ruff() -> None:
    assert complaints("ruff", "check", "--no-cache", "--output-format", "concise", ".") == ""


@pytest.mark.needs("ruff")
def test_ruff_format() -> None:
    assert complaints("ruff", "format", "--no-cache", "--check", ".") == ""


@pytest.mark.timeout(300)
@pytest.mark.needs("mypy")
def test_mypy(tmp_path: pathlib.Path) -> None:
    assert (
        complaints(
            *(sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path),
            *("orchestrator", "tests", "benchmarks"),
        )
        == ""
    )


@pytest.mark.needs("codespell")
def test_codespell() -> None:
    assert complaints(sys.executable, "-m", "codespell_lib") == ""


#: Ignored in the demo's scripts: Nix sets their variables and inserts the interpreter. SC1113 and
#: SC2096 take a comment about /etc in the first line for a shebang.
PIECE = ("--shell=sh", "--exclude=SC2154,SC1090,SC1008,SC2239,SC1113,SC2096")


@pytest.mark.needs("shellcheck")
@pytest.mark.parametrize(
    "script", shell_scripts(), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_shellcheck(script: pathlib.Path) -> None:
    options: tuple[str, ...] = ("--shell=sh",)
    if script.parent.name == "demo":
        options = PIECE
    elif script == ROOT / "run.sh":
        # With all of caller/. SC2015: in `A && B || die`, die exits anyway.
        options = ("--check-sourced", "--exclude=SC2015")
    elif script.name == "lib.sh":
        # Scripts that source it use its variables.
        options = ("--shell=sh", "--exclude=SC2034")
    elif script.read_bytes().startswith((b"#!", b"# shellcheck shell=bash")):
        options = ()
    command = [
        "shellcheck",
        "--format=gcc",
        "--external-sources",
        "--source-path=SCRIPTDIR",
        *options,
    ]
    assert complaints(*command, script) == ""


def test_run_sh_has_all_of_its_parts() -> None:
    """ShellCheck only checks files that run.sh sources."""
    text = (ROOT / "run.sh").read_text()
    sourced = re.findall(r'^\. "\$root/(caller/[a-z]+\.sh)"$', text, re.MULTILINE)
    found = {path.relative_to(ROOT).as_posix() for path in (ROOT / "caller").iterdir()}
    assert set(sourced) == found
    assert len(sourced) == len(found)


def test_no_part_of_run_sh_is_long() -> None:
    for path in (ROOT / "run.sh", *(ROOT / "caller").iterdir()):
        assert len(path.read_text().splitlines()) <= 150, path.name


#: A command called docker: not its name in a text, a path or an option.
DOCKER = re.compile(r"(?<![\w./=-])docker(?![\w./=:-])")


def stale_logs(script: str) -> list[str]:
    """Return a test's commands in the background whose log is not emptied right before them.

    The shell empties the log of `COMMAND 2> LOG &` in the new process. Until then a reader finds
    there what an earlier command wrote.
    """
    lines = [
        line.strip()
        for line in script.replace("\\\n", " ").splitlines()
        if not line.strip().startswith("#")
    ]
    found = []
    for index, line in enumerate(lines):
        starts = re.search(r'2> "\$work/err".*[^&]&$', line)
        if starts and ': > "$work/err"' not in "\n".join(lines[max(0, index - 3) : index]):
            found.append(line)
    return found


@pytest.mark.parametrize("script", shell_scripts(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_test_reads_an_earlier_commands_log(script: pathlib.Path) -> None:
    assert stale_logs(script.read_text()) == []


def test_a_stale_log_is_seen() -> None:
    assert stale_logs('one > "$work/out" \\\n  2> "$work/err" &\n')
    assert not stale_logs(': > "$work/err"\none 2> "$work/err" &\n')
    assert not stale_logs('one 2> "$work/err" && two\n')


def calls_of_docker(script: str) -> list[str]:
    """Return the lines of a shell script that call docker, as far as one line shows that."""
    found = []
    for line in script.splitlines():
        code = re.sub(r"(^|\s)#.*|'[^']*'", " ", line)
        # Remove quoted text, but not the commands in it.
        code = re.sub(r'"([^"$\\]|\\.|\$[^(])*"', " ", code).replace("command -v docker", "")
        if DOCKER.search(code):
            found.append(line.strip())
    return found


def test_the_callers_side_has_one_door_to_docker() -> None:
    """Only caller/engine.sh calls docker, with a time limit and interruptible by signals."""
    door = ROOT / "caller/engine.sh"
    parts = [ROOT / "run.sh", *sorted((ROOT / "caller").iterdir())]
    assert [path.name for path in parts if calls_of_docker(path.read_text())] == [door.name]


@pytest.mark.parametrize(
    "line",
    [
        "docker ps",
        "if docker ps; then",
        'found=$(docker ps | grep "$1")',
        'say "$(docker ps)"',
        "context | docker build -",
        "with_life 60 docker pull",
        '[ -z "$2" ] || docker $1 $2 # removes',
    ],
)
def test_a_call_of_docker_is_seen(line: str) -> None:
    assert calls_of_docker(f"{line}\n") == [line]


def test_a_command_to_copy_is_no_call_of_docker() -> None:
    assert calls_of_docker('die 4 full "docker rm \\$(docker ps)"\n') == []


#: DL3008: Debian drops superseded versions, so apt's signed index decides; DL3006, DL3045: our own
#: images have no tags and pass their WORKDIR on, which hadolint cannot see; DL3066: users are
#: created in the same file; DL4006: Debian's sh has no pipefail.
HADOLINT_IGNORED = ("DL3006", "DL3008", "DL3045", "DL3066", "DL4006")


@pytest.mark.needs("hadolint")
@pytest.mark.parametrize("dockerfile", sorted(ROOT.glob("Dockerfile*")), ids=lambda path: path.name)
def test_hadolint(dockerfile: pathlib.Path) -> None:
    ignored = [option for rule in HADOLINT_IGNORED for option in ("--ignore", rule)]
    assert complaints("hadolint", "--no-color", *ignored, dockerfile) == ""


@pytest.mark.needs("ruff")
def test_a_linter_that_complains_is_heard(tmp_path: pathlib.Path) -> None:
    """A finding must fail the linters' tests."""
    bad = tmp_path / "bad.py"
    bad.write_text("import os\n")
    assert "F401" in complaints("ruff", "check", "--no-cache", "--isolated", "--select", "F", bad)
