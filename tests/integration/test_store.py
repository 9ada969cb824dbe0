"""Tests that builds cannot change the shared store's paths unnoticed, in the real builder."""

import pytest

from orchestrator.docker import seccomp
from tests.integration.conftest import Outcome, Run, docker
from tests.integration.test_private import DOCKERS_OWN, UNPRIVILEGED

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

#: Build script that tries to change its inputs in every way and reports successes.
HOSTILE = r"""
b=/usr/bin/busybox
attempt() {
  name=$1; shift
  if "$@" > /dev/null 2>&1; then echo "did $name"; else echo "could not $name"; fi
}
inside() { $b unshare -Urm $b sh -euc "b=$b; $1"; }
attempt chmod $b chmod u+w $file $tree $tree/inner
attempt write $b sh -c 'echo poison >> $file'
attempt create $b touch $tree/new
attempt remount inside '$b mount -o remount,bind,rw $file; $b chmod u+w $file; echo poison >> $file'
attempt unmount inside '$b umount $tree; $b touch $tree/new'
attempt rebind inside '$b mount --bind $tree /build; $b chmod u+w /build; $b touch /build/new'
attempt link $b ln $file link
attempt outside $b touch /var/nixos-image/shown/new
attempt below $b touch /shown/below/new
attempt work $b touch work
for name in LD_PRELOAD READONLY_EXCEPT; do
  $b printenv $name | { read -r value && echo "$name is $value"; }
done
exit 1
"""

#: Expression of that build, with or without sandbox; `impureEnvVars` requests Nix' own variables.
BUILD = """
import pathlib, subprocess, sys
from orchestrator.agents.builder.nix_settings import Settings
for folder in ("/nix/store", "/nix/var/nix/builds", "/var/nixos-image/shown", "/tmp/tree/inner"):
    pathlib.Path(folder).mkdir(parents=True)
shown = ("/usr/bin/busybox", "/var/nixos-image/shown", "/shown=/var/nixos-image")
settings = Settings(sandbox=sys.argv[2] == "sandboxed", sandbox_paths=shown)
expression = (
    'derivation { name = "hostile"; system = builtins.currentSystem; builder = "/bin/sh";'
    ' args = [ "-c" (builtins.getEnv "HOSTILE") ]; file = builtins.toFile "file" "right";'
    ' tree = builtins.path { path = /tmp/tree; name = "tree"; };'
    ' impureEnvVars = [ "LD_PRELOAD" "READONLY_EXCEPT" ];'
    ' outputHashAlgo = "sha256"; outputHash = "' + "0" * 64 + '"; }'
)
command = ["nix", "build", "--impure", "--no-link", "--print-build-logs", "--expr", expression]
environment = {**settings.environment(), "HOSTILE": sys.argv[1]}
done = subprocess.run(command, env=environment, capture_output=True, text=True)
print(done.stderr)
for path in pathlib.Path("/nix/store").glob("*-file"):
    print("the file is", path.read_text())
for path in pathlib.Path("/nix/store").glob("*-tree"):
    print("the tree has", *sorted(inner.name for inner in path.iterdir()))
"""


#: The sandbox probe with still.so, which protects no inputs, in place of readonly.so.
UNPROTECTED = """
import pathlib
from orchestrator.agents import events
from orchestrator.agents.builder import nix, nix_settings, sandbox
from orchestrator.agents.failure import AgentError
events.configure("test")
for folder in ("/nix/store", "/nix/var/nix/builds"):
    pathlib.Path(folder).mkdir(parents=True)
nix_settings.READONLY = nix_settings.READONLY.with_name("still.so")
try:
    settings = nix_settings.Settings()
    sandbox.obtain(nix.Nix(settings, pathlib.Path("/tmp/log")), "builder", strict=True)
except AgentError as error:
    print(error)
"""


def contained(script: str, *arguments: str) -> str:
    """Run `script` in a container with the builder's privileges; return its output."""
    options = ["--security-opt", f"seccomp={seccomp.PROFILE}", "--entrypoint", "python3"]
    return docker("run", *UNPRIVILEGED, *options, "nixos-image-builder", "-c", script, *arguments)


def hostile(mode: str) -> list[str]:
    """Return the hostile build's report, and its inputs afterwards."""
    said = contained(BUILD, HOSTILE, mode)
    lines = [line.removeprefix("hostile> ") for line in said.splitlines()]
    told = ("did ", "could not ", "the ", "LD_PRELOAD", "READONLY_EXCEPT")
    return [line for line in lines if line.startswith(told)]


def test_a_sandboxed_build_cannot_change_its_inputs() -> None:
    names = ("chmod", "write", "create", "remount", "unmount", "rebind", "link", "outside")
    assert hostile("sandboxed") == [
        *(f"could not {name}" for name in (*names, "below")),
        "did work",
        "the file is right",
        "the tree has inner",
    ]


def test_what_is_tried_is_possible_without_a_sandbox() -> None:
    said = hostile("bare")
    assert said[:3] == ["did chmod", "did write", "did create"]
    assert "did link" in said
    assert said[-2:] == ["the file is rightpoison", "the tree has inner new"]


def test_a_sandbox_whose_inputs_are_writable_is_none() -> None:
    said = contained(UNPROTECTED)
    assert said.endswith(
        "Nix' sandbox does not work here: a build inside is not alone: it can change its inputs"
    )


# --- what an image is made of ---------------------------------------------------------------------

#: Script that changes a path of the system's closure and prints it.
POISON = """
import pathlib, subprocess, sys
command = ["nix-store", "--query", "--requisites", sys.argv[1]]
paths = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
inner = sorted(pathlib.Path(paths[0]).rglob("*"))
file = next(one for one in inner if one.is_file() and not one.is_symlink())
file.chmod(0o644)
file.write_bytes(file.read_bytes() + b"poison")
print(paths[0])
"""

#: Script that removes a path's derivation, so that Nix cannot rebuild it, and prints the path.
FORGET = """
import sqlite3, sys
with sqlite3.connect("/nix/var/nix/db/db.sqlite") as database:
    where = "from ValidPaths where path = ?"
    print(database.execute(f"select deriver {where}", sys.argv[1:]).fetchone()[0])
    database.execute("update ValidPaths set deriver = null where path = ?", sys.argv[1:])
"""

REMEMBER = """
import sqlite3, sys
with sqlite3.connect("/nix/var/nix/db/db.sqlite") as database:
    database.execute("update ValidPaths set deriver = ? where path = ?", sys.argv[1:])
"""


def in_store(script: str, *arguments: str) -> str:
    """Run `script` with the store's volume, as a build would; return its output."""
    options = ["--rm", "--user", "builder", "--env", "HOME=/tmp", "--network", "none"]
    options += ["--volume", "nixos-image-store:/nix"]
    command = ["--entrypoint", "python3", "nixos-image-builder", "-c", script, *arguments]
    return docker("run", *options, *command)


def demo(orchestrate: Run, *options: str) -> tuple[Outcome, dict[str, object]]:
    """Run the demo; return the outcome and its image."""
    outcome = orchestrate("demo", "--no-boot", *options)
    assert outcome.code == 0, outcome.err
    (image,) = outcome.result()["images"]
    return outcome, image


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ext4", "erofs", "btrfs", "xfs"])
def test_a_changed_path_is_named_and_made_again(kind: str, orchestrate: Run) -> None:
    _, before = demo(orchestrate, "--root-fs", kind)
    path = in_store(POISON, str(before["store_path"]))
    outcome, after = demo(orchestrate, "--root-fs", kind)
    assert f"{path} was changed since Nix made it: repairing" in outcome.err
    assert after["sha256"] == before["sha256"]
    again, _ = demo(orchestrate, "--root-fs", kind)
    assert "was changed since Nix made it" not in again.err


@pytest.mark.slow
def test_what_cannot_be_made_again_ends_the_run(orchestrate: Run) -> None:
    _, image = demo(orchestrate)
    path = in_store(POISON, str(image["store_path"]))
    deriver = in_store(FORGET, path)
    try:
        outcome = orchestrate("demo", "--no-boot")
    finally:
        in_store(REMEMBER, deriver, path)
    assert outcome.code == 15, outcome.err
    assert f"error: {path} in the store was changed and cannot be repaired" in outcome.err
    assert "try: ./run.sh down -v" in outcome.err
    mended, again = demo(orchestrate)
    assert f"{path} was changed since Nix made it" in mended.err
    assert again["sha256"] == image["sha256"]


#: Script that builds a path which lists the network interfaces that its build sees, changes it, and
#: prints it.
SEEN = """
import pathlib, subprocess
from orchestrator.agents.builder.nix_settings import Settings
script = "while read -r name rest; do echo $name; done < /proc/net/dev > $out"
expression = (
    'derivation { name = "seen"; system = builtins.currentSystem; builder = "/bin/sh";'
    f' args = [ "-c" "{script}" ]; ' "}"
)
command = ["nix", "build", "--impure", "--no-link", "--print-out-paths", "--expr", expression]
environment = Settings().environment()
done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
path = pathlib.Path(done.stdout.strip())
path.chmod(0o644)
path.write_text("poison")
print(path)
"""


@pytest.mark.slow
def test_a_repair_builds_in_the_sandbox(orchestrate: Run) -> None:
    """The container that repairs has a network, its builds have none."""
    path = in_store(SEEN)
    found = orchestrate("store", "verify")
    assert found.code == 15, found.err
    assert path in found.err
    repaired = orchestrate("store", "verify", "--repair")
    assert repaired.code == 0, repaired.err
    interfaces = in_store(f"print(open({path!r}).read())").splitlines()
    assert [name for name in interfaces if name.endswith(":")] == ["lo:"]


@pytest.mark.slow
def test_without_a_sandbox_a_repair_builds_nothing(orchestrate: Run) -> None:
    path = in_store(SEEN)
    outcome = orchestrate("store", "verify", "--repair", NIXOS_IMAGE_SECCOMP=DOCKERS_OWN)
    assert outcome.code == 15, outcome.err
    assert "what no cache has cannot be built again: Nix' sandbox does not work here" in outcome.err
    assert in_store(f"print(open({path!r}).read())") == "poison"
    assert orchestrate("store", "verify", "--repair").code == 0


#: Script: the sandbox probe, with options and nix.conf lines of the caller's that may disable the
#: sandbox.
SET_AGAINST = """
import pathlib
from orchestrator.agents import events
from orchestrator.agents.builder import effective, nix, nix_settings, sandbox
from orchestrator.agents.failure import AgentError
events.configure("test")
for folder in ("/nix/store", "/nix/var/nix/builds"):
    pathlib.Path(folder).mkdir(parents=True)
for secret, options in (
    ("", ("--option", "sandbox", "false")),
    ("sandbox = false\\n", ()),
    ("sandbox = relaxed\\n", ()),
    ("sandbox = false\\n", ("--option", "sandbox", "true")),
    ("access-tokens = example.org=hunter2\\n", ()),
):
    one = nix.Nix(nix_settings.Settings(), pathlib.Path("/tmp/log"), secret=secret, options=options)
    try:
        found = sandbox.obtain(one, "builder", strict=True)
    except AgentError as error:
        print(error)
    else:
        told = effective.ask(found)
        print("told", told.told["sandbox"], "access-tokens" in told.others, "hunter2" in str(told))
"""


def test_the_sandbox_is_what_all_settings_make_of_it() -> None:
    """Nix reports, and a build sees, what --option and --nix-conf make of the sandbox."""
    said = [line for line in contained(SET_AGAINST).splitlines() if not line.startswith("test:")]
    asked = "Nix' sandbox is not for all builds: --option or --nix-conf says sandbox ="
    assert said == [
        *(f"{asked} {value}" for value in ("false", "false", "relaxed")),
        "told true False False",
        "told true True False",
    ]
