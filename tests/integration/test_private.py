"""Tests private emulation and Nix' sandbox in a container without capabilities."""

import json
import pathlib
import re
import typing

import pytest

from orchestrator.agents.builder import sandbox
from orchestrator.docker import seccomp
from orchestrator.shared.architectures import foreign_system, this_system
from orchestrator.shared.constants import BUILDER
from tests.integration.conftest import RIGHTS, Alter, Outcome, Run, docker

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

#: Security options of compose.yaml's builder, as `docker run` options.
UNPRIVILEGED = (
    "--rm --user builder --cap-drop ALL --security-opt no-new-privileges"
    " --security-opt apparmor=unconfined --security-opt systempaths=unconfined"
    " --network none --read-only --tmpfs /tmp:exec"
    f" --tmpfs /nix:exec,uid={BUILDER} --tmpfs /var/nixos-image:uid={BUILDER} --env HOME=/tmp/home"
).split()

#: Security option that leaves Docker's default profile in force.
DOCKERS_OWN = "no-new-privileges"

#: Script with both uses of namespaces in the builder: private emulation, and Nix' sandbox.
BOTH = """
import os, pathlib
from orchestrator.agents import events
from orchestrator.agents.builder import sandbox
from orchestrator.agents.emulation import private
from orchestrator.agents.builder.nix import Nix
from orchestrator.agents.builder.nix_settings import Settings
events.configure("test")
for folder in ("/nix/store", "/nix/var/nix/builds"):
    pathlib.Path(folder).mkdir(parents=True)
user, group = os.getuid(), os.getgid()
private.probe()
private.leave(user, group)
print(os.getuid(), pathlib.Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0])
sandbox.obtain(Nix(Settings(), pathlib.Path("/tmp/log")), "builder", strict=True)
"""


def both(folder: pathlib.Path, without: str = "") -> str:
    """Return the output of `BOTH` under our seccomp profile, or without one of its calls."""
    profile = json.loads(seccomp.PROFILE.read_text())
    profile["syscalls"][-1]["names"] = sorted(seccomp.ADDED.keys() - {without})
    path = folder / "seccomp.json"
    path.write_text(json.dumps(profile))
    options = [*UNPRIVILEGED, "--security-opt", f"seccomp={path}", "--entrypoint", "sh"]
    command = 'python3 -c "$1" 2>&1; true'
    return docker("run", *options, "nixos-image-builder", "-c", command, "sh", BOTH)


def test_a_container_without_rights_may_emulate_and_sandbox(tmp_path: pathlib.Path) -> None:
    said = both(tmp_path)
    assert "can have its own binfmt_misc" in said
    assert f"\n{BUILDER} 0000000000000000\n" in said
    assert said.endswith(sandbox.ALL_WELL)


@pytest.mark.slow
@pytest.mark.parametrize("call", seccomp.ADDED)
def test_each_call_that_is_allowed_beyond_dockers_is_needed(
    call: str, tmp_path: pathlib.Path
) -> None:
    said = both(tmp_path, without=call)
    assert not said.endswith(sandbox.ALL_WELL)
    assert "Operation not permitted" in said or "does not support the kernel namespaces" in said


@pytest.mark.slow
def test_dockers_own_profile_makes_it_shared_and_unsandboxed_with_the_causes(
    orchestrate: Run,
) -> None:
    outcome = orchestrate("demo", "--no-boot", NIXOS_IMAGE_SECCOMP=DOCKERS_OWN)
    assert outcome.code == 0, outcome.err
    assert "user namespaces are forbidden (Operation not permitted)" in outcome.err
    assert "builds are not sandboxed: this system does not support" in outcome.err
    result = outcome.result()
    assert result["emulation"] == "shared"
    seen = result["sandbox"]
    assert isinstance(seen, dict)
    assert seen["sandbox"] is False
    assert "builder" in seen["names"]
    assert seen["inputs"] == "writable"

    strict = orchestrate("demo", "--strict", "--no-boot", NIXOS_IMAGE_SECCOMP=DOCKERS_OWN)
    assert strict.code == 4
    assert "error: Nix' sandbox does not work here: this system does not support" in strict.err

    asked = orchestrate("demo", "--emulation", "private", NIXOS_IMAGE_SECCOMP=DOCKERS_OWN)
    assert asked.code == 5
    assert "error: --emulation private: user namespaces are forbidden" in asked.err
    assert "try: use --emulation shared" in asked.err


@pytest.mark.slow
def test_what_is_known_of_the_host_is_forgotten_when_it_was_wrong(
    orchestrate: Run, altered: Alter
) -> None:
    assert orchestrate("demo", "--no-boot").code == 0
    assert "nixos-image-host" in docker("volume", "ls", "-q")
    wrong = "sed -i 's/^CLONE_NEWUSER = .*/CLONE_NEWUSER = -1/'"
    altered("nixos-image-builder", f"RUN {wrong} orchestrator/agents/emulation/private.py")
    failed = orchestrate("demo", "--no-boot")
    assert failed.code == 5, failed.err
    assert "nixos-image-host" not in docker("volume", "ls", "-q")


@pytest.mark.slow
def test_the_hosts_table_is_never_written(orchestrate: Run) -> None:
    """A container watches the host's binfmt_misc during the whole run."""
    watch = (
        "import json, time; from orchestrator.agents.emulation import binfmt; binfmt.mount()\n"
        "seen = set(); end = time.monotonic() + 600; print('held', flush=True)\n"
        "while time.monotonic() < end:\n"
        "    new = set(binfmt.entries()) - seen\n"
        "    if new:\n"
        "        seen |= new; print('seen', *new, flush=True)\n"
        "    time.sleep(0.005)\n"
    )
    watcher = docker(
        *("run", "-d", *RIGHTS, "--tmpfs", "/run", "--entrypoint", "python3"),
        *("nixos-image-qemu-setup", "-u", "-c", watch),
    )
    try:
        while "held" not in docker("logs", watcher):
            assert docker("inspect", "-f", "{{.State.Running}}", watcher) == "true"
        private = orchestrate("demo", "--no-boot", "--emulation", "private")
        assert private.code == 0, private.err
        assert docker("logs", watcher) == "held"
        shared = orchestrate("demo", "--no-boot", "--emulation", "shared")
        assert shared.code == 0, shared.err
        foreign = foreign_system(this_system()).partition("-")[0]
        assert docker("logs", watcher).endswith(
            f"-{foreign}"
        )  # check that the watcher sees entries at all
    finally:
        docker("rm", "-f", watcher)


Rights = list[dict[str, typing.Any]]


def receipts(outcome: Outcome) -> Rights:
    """Return each container's privileges from `result.json`."""
    assert outcome.code == 0, outcome.err
    found = outcome.result()["privileges"]
    assert isinstance(found, list)
    assert all(one["read_only"] and one["dropped"] == ["ALL"] for one in found)
    assert all(one["memory"] and one["pids"] and one["seconds"] is not None for one in found)
    assert all(str(one["image"]).startswith("sha256:") for one in found)
    return found


def test_what_each_container_was_allowed_is_told_by_docker_itself(orchestrate: Run) -> None:
    private = receipts(orchestrate("demo", "--no-boot", "--emulation", "private"))
    assert [one["service"] for one in private] == ["emulators", "builder"]
    assert [one["capabilities"] for one in private] == [[], []]
    outcome = orchestrate("demo", "--no-boot", "--emulation", "shared")
    shared = {one["service"]: one for one in receipts(outcome)}
    rights = {service: one["capabilities"] for service, one in shared.items()}
    assert rights == {"cleanup": ["SYS_ADMIN"], "registrar": ["SYS_ADMIN"], "builder": []}
    assert shared["registrar"]["networks"] == []
    (network,) = shared["cleanup"]["networks"]
    assert network.endswith("_lease")
    assert shared["builder"]["security"] == private[1]["security"]
    (entry,) = outcome.result()["emulators"]
    assert entry["line"].startswith(f":{entry['entry']}:M::")


@pytest.mark.slow
def test_what_would_be_used_is_told_before_anything_starts(orchestrate: Run) -> None:
    outcome = orchestrate("doctor", "--privileges", "--emulation", "shared")
    assert outcome.code == 0
    text = outcome.tar.decode()
    assert "emulation  shared: asked for" in text
    assert re.search(r"^Nix {8}2\.\d+\.\d+ \(\w+\)$", text, re.MULTILINE)
    blocks = {block.split()[0]: block for block in text.split("\n\n")[1:]}
    assert blocks.keys() == {"cleanup", "registrar", "builder", "boot"}
    assert "capabilities  SYS_ADMIN" in blocks["cleanup"]
    assert "networks      lease (internal)" in blocks["cleanup"]
    assert "capabilities  none" in blocks["builder"]
    assert "seccomp=orchestrator/docker/seccomp.json" in blocks["builder"]


@pytest.mark.slow
def test_so_is_what_other_kinds_of_runs_would_use(orchestrate: Run) -> None:
    native = orchestrate("doctor", "--privileges", "--system", this_system())
    blocks = {block.split()[0]: block for block in native.tar.decode().split("\n\n")[1:]}
    assert blocks.keys() == {"builder", "boot-kvm"}
    assert "devices       /dev/kvm" in blocks["boot-kvm"]
    private = orchestrate("doctor", "--privileges", "--emulation", "private").tar.decode()
    assert {block.split()[0] for block in private.split("\n\n")[1:]} == {
        *("emulators", "builder", "boot", "probe")
    }


@pytest.mark.slow
def test_want_of_memory_is_told_from_a_failed_derivation(orchestrate: Run, altered: Alter) -> None:
    hungry = "tail -c 2000000000 /dev/zero > /dev/null"  # tail keeps everything in memory
    altered("nixos-image-builder", f"RUN echo '{hungry}' >> nix/demo/etc.sh")
    outcome = orchestrate("demo", "--no-boot", "--memory", "300M")
    assert outcome.code == 4, outcome.err
    message = "error: derivation etc failed: the kernel killed a process because memory ran out"
    assert message in outcome.err
    assert "try: --memory SIZE" in outcome.err
