"""Tests that evaluations, builds and other runs cannot find late values and access tokens."""

import concurrent.futures
import json
import secrets
import time
from collections.abc import Iterator

import pytest

from orchestrator.agents.builder.nix import DESCRIPTOR
from orchestrator.shared import run
from orchestrator.shared.architectures import this_system
from orchestrator.shared.constants import BUILDER
from tests.integration.conftest import Run, docker

pytestmark = [pytest.mark.docker, pytest.mark.e2e, pytest.mark.timeout(900)]

#: Secret that nobody may find before it is put into an image.
FILES = {
    "/home/me/wifi": b"made-up-wifi-password\n",
    "/home/me/key": b"made-up-injected-file\n",
    "/home/me/rows": b"host,wifi_ssid,wifi_password\npi,net,made-up-stamped-password\n",
    "/home/me/seed": b"made-up-seed-of-all-the-devices-of-a-fleet\n",
    "/home/me/nix.conf": b"access-tokens = example.org=made-up-token\n",
}
MARKS = ("made-up-wifi", "made-up-injected", "made-up-stamped", "made-up-seed", "made-up-token")
LATE = (
    *("--inject", "/home/me/key:/etc/key", "--stamp", "/home/me/rows"),
    *("--identity-seed", "/home/me/seed"),
    *("--nix-conf", "/home/me/nix.conf"),
)

#: Spy program: searches everything that its user can read, once or for some seconds, and writes
#: findings into a report. It also tries to write events in the builder's name, so that late values
#: would be sent early. Arguments: report, seconds, the reversed secret (so that it does not find
#: itself).
SPY = r"""
import os, pathlib, stat, sys, time

report, stop = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[1] + ".stop")
marks = [mark[::-1].encode() for mark in sys.argv[3].split()]
until = time.monotonic() + float(sys.argv[2])

def tell(line):
    with report.open("a") as out:
        out.write(line + "\n")

def names():
    for top in ("/var/nixos-image", "/nix/var", "/tmp", "/dev/shm", "/run", "/home"):
        for folder, _, files in os.walk(top):
            yield from (os.path.join(folder, name) for name in files)
    for process in filter(str.isdigit, os.listdir("/proc")):
        yield from (f"/proc/{process}/{name}" for name in ("environ", "cmdline"))
        try:
            yield from (f"/proc/{process}/fd/{one}" for one in os.listdir(f"/proc/{process}/fd"))
        except OSError:
            pass

def look():
    for name in names():
        try:
            # A terminal that the daemon opens would become its own, and its end the daemon's.
            file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
            try:
                # Other pipes would be missed: Nix' own words among them.
                plain = stat.S_ISREG(os.fstat(file).st_mode) or name.endswith("/fd/PIPE")
                data = os.read(file, 1 << 20) if plain else b""
            finally:
                os.close(file)
        except OSError:
            continue
        for mark in marks:
            if mark in data:
                tell(f"{name}: {mark.decode()[::-1]}")

def look_for_late():
    # They may be there for milliseconds only, in which look() sees other files.
    for folder in pathlib.Path("/var/nixos-image").glob("*/LATE"):
        try:
            for name in os.listdir(folder):
                tell(f"{folder}: {name}")
        except OSError:
            continue

try:
    with open("/proc/1/fd/1", "w") as voice:
        voice.write('{"event": "built"}\n')
    tell("spoke for the builder")
except OSError:
    pass
tell("looks")
look()
while time.monotonic() < until and not stop.exists():
    look()
    for _ in range(100):
        look_for_late()
        time.sleep(0.001)
"""

#: Replaces nixpkgs' library: a build that spies, leaves a spying daemon, and makes an image file.
LIBRARY = r"""
{
  genAttrs = _: _: {
    "SYSTEM".raw-efi = derivation {
      name = "spy"; system = "SYSTEM"; builder = "/usr/bin/python3"; spy = ./spy.py;
      args = [ "-c" ''
        import os, pathlib, subprocess, time
        spy, marks = ["/usr/bin/python3", os.environ["spy"], "REPORT"], "MARKS"
        subprocess.run([*spy, "0", marks], check=True)
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        daemon = subprocess.Popen([*spy, "SECONDS", marks], start_new_session=True, **quiet)
        if WAITS:
            daemon.wait()
        else:
            while pathlib.Path("REPORT").read_text().count("looks") < 2:
                time.sleep(0.1)
        out = pathlib.Path(os.environ["out"])
        out.mkdir()
        (out / "disk.img").write_bytes(bytes(1 << 20))
      '' ];
    };
  };
}
"""

SPIED = (
    *("-c", "/home/me/machine/a.nix", "--nixpkgs", "/home/me/pkgs", "--allow-no-login"),
    *("-f", "raw-efi", "--option", "sandbox", "false"),
)
TREES = ("/home/me/machine", "/home/me/pkgs")


def spying(report: str, seconds: int, *, waits: bool) -> dict[str, bytes]:
    """Return the caller's files for a run whose unsandboxed build spies for `seconds`."""
    words = {"SYSTEM": this_system(), "REPORT": report, "SECONDS": str(seconds)}
    words |= {"WAITS": str(waits), "MARKS": " ".join(mark[::-1] for mark in MARKS)}
    text = LIBRARY
    for name, value in words.items():
        text = text.replace(name, value)
    spy = SPY.replace("PIPE", str(DESCRIPTOR)).replace("LATE", run.LATE)
    return {
        "/home/me/pkgs/lib/default.nix": text.encode(),
        "/home/me/pkgs/lib/spy.py": spy.encode(),
        "/home/me/pkgs/nixos/lib/eval-config.nix": b"{ }",
        "/home/me/machine/a.nix": b"{ }",
    }


def in_store(command: str) -> str:
    """Run a shell `command` in a container with the store's volume; return its output."""
    options = ["--rm", "--user", "builder", "--network", "none"]
    options += ["--volume", "nixos-image-store:/nix"]
    return docker("run", *options, "--entrypoint", "sh", "nixos-image-builder", "-c", command)


@pytest.fixture
def report() -> Iterator[str]:
    """Report file of a spy on the store's volume."""
    name = f"/nix/var/report-{secrets.token_hex(4)}"
    yield name
    in_store(f"rm -f {name} {name}.stop")


def test_a_build_and_the_daemon_that_it_leaves_find_nothing(orchestrate: Run, report: str) -> None:
    files = FILES | spying(report, 60, waits=False)
    outcome = orchestrate(*SPIED, *LATE, files=files, trees=TREES)
    assert outcome.code == 0, outcome.err
    assert "disk.img" in outcome.files()
    assert in_store(f"cat {report}").splitlines() == ["looks", "looks"]


@pytest.mark.parametrize("root_fs", [pytest.param("btrfs", marks=pytest.mark.slow), "ext4"])
def test_another_run_finds_nothing(orchestrate: Run, report: str, root_fs: str) -> None:
    with concurrent.futures.ThreadPoolExecutor() as pool:
        other = pool.submit(orchestrate, *SPIED, files=spying(report, 300, waits=True), trees=TREES)
        try:
            while in_store(f"cat {report} 2> /dev/null || true").count("looks") < 2:
                assert not other.done(), other.result().err
                time.sleep(1)
            outcome = orchestrate(
                *("demo", "--no-boot", "--system", this_system(), "--root-fs", root_fs),
                *("--wifi-ssid", "net", "--wifi-password-file", "/home/me/wifi"),
                *("--inject", "/home/me/key:/etc/key"),
                files=FILES,
            )
        finally:
            in_store(f"touch {report}.stop")
        assert other.result().code == 0, other.result().err
    assert outcome.code == 0, outcome.err
    image = next(data for name, data in outcome.files().items() if name.endswith(".img"))
    assert b"made-up-wifi-password" in image
    assert b"made-up-injected-file" in image
    assert in_store(f"cat {report}").splitlines() == ["looks", "looks"]


def test_a_flakes_inputs_are_no_way_to_them(orchestrate: Run) -> None:
    """Nix copies a flake's folder even if a restricted evaluation may not read it."""
    flake = b"""{
      inputs.work = { url = "path:/var/nixos-image"; flake = false; };
      outputs = { work, ... }: {
        nixosConfigurations.x = throw "spied: ${builtins.toJSON (builtins.readDir work)}";
      };
    }"""
    outcome = orchestrate(
        *("--flake", "/home/me/flake#x", "-f", "raw-efi", *LATE),
        files=FILES | {"/home/me/flake/flake.nix": flake},
        trees=("/home/me/flake",),
    )
    assert outcome.code == 6, outcome.err
    assert "Operation not permitted" in outcome.err or "Permission denied" in outcome.err
    assert (
        in_store(f"grep -rlE '{'|'.join(MARKS)}' /nix/store /nix/var --include='*' || true") == ""
    )


#: Program that evaluates expressions (JSON on the command line) with the product's settings; prints
#: a JSON list of exit code, stdout and stderr of each.
EVALUATE = r"""
import json, os, pathlib, subprocess, sys
from orchestrator.agents.builder.nix_settings import Settings

run = pathlib.Path("/var/nixos-image/0badcafe")
sent = run / "input/home/me"
(sent / "flake").mkdir(parents=True)
(run / "task.json").write_text("task")
(run / "plain.tar").write_text("")
(run / "builds").mkdir()
for name in ("inputs.json", "ca-bundle.crt", "builds/x"):
    (run / name).write_text('"a"')
pathlib.Path("/run/nixos-image/lease/token").write_text("token")
left = pathlib.Path("/nix/var/nix/gcroots/nixos-image")
left.mkdir(parents=True)
(left / "x-of-another-run").write_text("")
(sent / "a.nix").write_text('"a"')
(sent / "link").symlink_to(run / "task.json")
(sent / "flake/flake.nix").write_text("{ outputs = _: { x = import ./a.nix; }; }")
(sent / "flake/a.nix").write_text('"a"')
known = f'let sent = {sent}; flake = "path:{sent}/flake"; in'
command = ["nix", "eval", "--raw", "--impure", "-I", f"nixos-image-sources={run}/input"]
environment = Settings(restricted=True).environment(evaluates=True)
# Without a network Nix cannot load the registry, which it wants for a search path.
command += ["-I", f"mine={sent}", "--option", "flake-registry", "", "--expr"]
options = {"env": environment, "capture_output": True, "text": True}
said = [subprocess.run([*command, f"{known} {one}"], **options) for one in json.loads(sys.argv[1])]
print(json.dumps([(done.returncode, done.stdout, done.stderr) for done in said]))
"""

#: Expressions and their values; None is for what an evaluation must not read.
READS: dict[str, str | None] = {
    "builtins.readFile /proc/self/environ": None,
    "builtins.readFile /etc/passwd": None,
    # A parent folder of a readable path shows only the entry that leads to it.
    "toString (builtins.attrNames (builtins.readDir /var/nixos-image/0badcafe))": "input",
    'toString (builtins.attrNames (builtins.readDir "${/var/nixos-image/0badcafe}"))': "input",
    "builtins.readFile /var/nixos-image/0badcafe/task.json": None,
    "toString (builtins.attrNames (builtins.readDir /nix/var/nix))": None,
    "toString (builtins.attrNames (builtins.readDir /nix/store))": None,
    'builtins.path { path = /var/nixos-image/0badcafe/task.json; name = "x"; }': None,
    '(builtins.fetchGit "/var/nixos-image").outPath': None,
    '(builtins.fetchTree { type = "path"; path = "/var/nixos-image"; }).outPath': None,
    'builtins.fetchurl "file:///var/nixos-image/0badcafe/task.json"': None,
    'builtins.fetchTarball "file:///var/nixos-image/0badcafe/task.json"': None,
    '"${/var/nixos-image/0badcafe/task.json}"': None,
    'builtins.readFile "${toString sent}/link"': None,
    'builtins.getEnv "NIX_CONFIG"': "",
    "import (sent + /a.nix)": "a",
    'builtins.readFile (builtins.toFile "x" "y")': "y",
    "import <mine/a.nix>": "a",
    "(builtins.getFlake flake).x": "a",
    '(import <nix/fetchurl.nix> { url = "https://x/y"; sha256 = ""; }).name': "y",
}


#: Places that Nix copies without asking whether the evaluation may read them, if it may open them.
HIDDEN = (
    "path:/var/nixos-image/0badcafe",
    "path:/var/nixos-image/0badcafe/task.json",
    "path:/var/nixos-image/0badcafe/input/home/me/../../../task.json",
    "file:///var/nixos-image/0badcafe/task.json",
    "tarball+file:///var/nixos-image/0badcafe/plain.tar",
    "path:/run/nixos-image/lease/token",
    "path:/nix",
    "path:/nix/store",
    "path:/nix/var/nix/db",
    "path:/nix/var/nix/db/db.sqlite",
    "file:///nix/var/nix/db/db.sqlite",
    "path:/nix/var/nix/gcroots/nixos-image",
    "path:/nix/var/nix/gcroots/nixos-image/x-of-another-run",
    "file+file:///nix/var/nix/gcroots/nixos-image/",
)

#: What Nix says of a file that it may not open; curl, which opens it for `file:`, tells no cause.
CLOSED = ("Operation not permitted", "Could not open file", "Failed to open/read local data")


def evaluated(expressions: list[str]) -> list[tuple[int, str, str]]:
    """Return exit code, value and messages of `EVALUATE` for each of the `expressions`."""
    options = ["--rm", "--user", "builder", "--network", "none", "--read-only"]
    options += ["--tmpfs", "/tmp:exec", "--tmpfs", f"/nix:exec,uid={BUILDER}"]
    options += ["--tmpfs", f"/var/nixos-image:uid={BUILDER}", "--env", "HOME=/tmp/home"]
    options += ["--tmpfs", f"/run/nixos-image/lease:uid={BUILDER}"]
    options += ["--entrypoint", "python3", "nixos-image-builder"]
    said = json.loads(docker("run", *options, "-c", EVALUATE, json.dumps(expressions)))
    return [(code, out, err) for code, out, err in said]


def test_an_evaluation_reads_what_was_sent_and_nothing_else() -> None:
    refused = (1, "", "forbidden in restricted mode")
    wanted = {one: refused if value is None else (0, value, "") for one, value in READS.items()}
    seen = {
        one: (code, out, refused[2] if refused[2] in err else err if code else "")
        for one, (code, out, err) in zip(READS, evaluated(list(READS)), strict=True)
    }
    assert seen == wanted


def test_an_evaluation_copies_nothing_that_tells_of_runs() -> None:
    searched = [
        f'toString (builtins.findFile [ {{ prefix = "x"; path = "flake:{one}"; }} ] "x")'
        for one in HIDDEN
    ]
    got = [f'(builtins.getFlake "{one}").outPath' for one in HIDDEN if one.startswith("path:")]
    said = evaluated([*searched, *got])
    copied = {
        one: (out, err)
        for one, (code, out, err) in zip([*searched, *got], said, strict=True)
        if code == 0 or not any(word in err for word in CLOSED)
    }
    assert copied == {}


def test_an_evaluation_copies_what_it_is_given() -> None:
    shown = ("input/home/me/a.nix", "inputs.json", "ca-bundle.crt", "builds/x")
    place = "flake:path:/var/nixos-image/0badcafe"
    found = [
        f'import (builtins.findFile [ {{ prefix = "x"; path = "{place}/{one}"; }} ] "x")'
        for one in shown
    ]
    assert [one[:2] for one in evaluated(found)] == [(0, "a")] * len(shown)
