"""Tests the whole appliance with a real engine, and its failures."""

import contextlib
import hashlib
import json
import pathlib
import re
from collections.abc import Iterator

import pytest

from orchestrator.agents.emulation.ladder import next_rung, rungs
from orchestrator.decide.pins import pinned_nix
from orchestrator.docker.labels import SOURCE_LABEL
from orchestrator.shared.architectures import foreign_system, this_system
from orchestrator.shared.paths import ROOT
from tests.integration.conftest import ENGINE, RIGHTS, Alter, Run, docker, table

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJJJJJJJJJJJJJJJJJJJJJJJJJJJJJJJJJJJJJJJJJJJ tester"


@pytest.mark.e2e
def test_foreign_demo_is_built_delivered_booted_and_the_same_twice(orchestrate: Run) -> None:
    before = table()
    first = orchestrate("demo", "--emulation", "shared")
    assert first.code == 0, first.err
    result = first.result()
    system = foreign_system(this_system())
    files = first.files()
    image = pathlib.PurePosixPath(str(result["path"])).name
    assert result["path"] == f"/somewhere/out/{image}"
    assert result["system"] == system
    assert result["emulation"] == "shared"
    emulator = result["emulators"][0]
    assert emulator["emulator"].startswith("qemu-")
    assert emulator["version"]
    assert result["size"] == len(files[image])
    assert result["sha256"] == hashlib.sha256(files[image]).hexdigest()
    boot = result["boot"]
    assert isinstance(boot, dict)
    assert boot["machine"] == system.partition("-")[0]
    assert b"nixos-image demo: ready" in files[f"{image}.serial.log"]
    assert "binfmt_misc is as before" in first.err
    assert table() == before

    # The registrar and the builder register the same emulator: so the image is the same.
    second = orchestrate("demo", "--no-boot")
    assert second.code == 0, second.err
    assert second.result()["emulation"] == "private"
    assert second.result()["sha256"] == result["sha256"]
    bill = f"{image}.cdx.json"
    assert second.files()[bill] == files[bill], "the same image has the same bill of materials"
    sums = files[f"{image}.sha256"].decode()
    report = f"{image}.report.html"
    for name in (image, bill, f"{image}.provenance.json", report):
        assert f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" in sums
    assert f"report: /somewhere/out/{report}" in first.err
    told = files[report].decode()
    assert "Boot check: passed" in told
    assert "nixos-image demo: ready" in told
    assert "Boot check: not made in this run" in second.files()[report].decode()


@pytest.mark.slow
@pytest.mark.e2e
def test_native_demo_needs_neither_registrar_nor_cleanup(orchestrate: Run) -> None:
    options = ["--system", this_system(), "--log-format", "json", "--no-boot"]
    outcome = orchestrate("demo", *options)
    assert outcome.code == 0, outcome.err
    result = outcome.result()
    assert result["emulation"] == "native"
    assert result["emulators"] == []
    assert result["nix"] == pinned_nix(ROOT).split()[0]
    events = [json.loads(line) for line in outcome.err.splitlines() if line.startswith("{")]
    stages = {event.get("stage") for event in events}
    assert stages >= {"start", "build", "assemble", "deliver"}
    assert "registered" not in outcome.err


@pytest.mark.slow
@pytest.mark.e2e
def test_native_demo_boots(orchestrate: Run) -> None:
    outcome = orchestrate("demo", "--system", this_system())
    assert outcome.code == 0, outcome.err
    boot = outcome.result()["boot"]
    assert isinstance(boot, dict)
    assert boot["machine"] == this_system().partition("-")[0]


@pytest.mark.slow
def test_an_old_nix_is_refused(orchestrate: Run, altered: Alter) -> None:
    old = "#!/bin/sh\\necho 'nix (Nix) 2.26.3'\\n"
    altered("nixos-image-builder", f'RUN printf "{old}" > /opt/nix/bin/nix')
    outcome = orchestrate("demo", "--no-boot", "--system", this_system())
    assert outcome.code == 4, outcome.err
    assert "error: nix (Nix) 2.26.3 is too old: at least 2.34.7 is required" in outcome.err


def test_failed_derivation_is_named_with_its_log(orchestrate: Run, altered: Alter) -> None:
    altered("nixos-image-builder", "RUN echo 'echo it broke here >&2; exit 3' >> nix/demo/etc.sh")
    outcome = orchestrate("demo", "--no-boot")
    assert outcome.code == 6
    assert "error: derivation etc failed" in outcome.err
    assert "it broke here" in outcome.err
    assert "log: /somewhere/out/build.log\n" in outcome.err
    assert "run.sh demo --no-boot\nlog: " in outcome.err
    assert "stage: build\n" in outcome.err
    assert b"etc> it broke here" in outcome.files()["build.log"]


CRASH = "qemu: uncaught target signal 11 (Segmentation fault) - core dumped"


@pytest.mark.slow
def test_crash_of_the_emulator_is_named_with_the_rung_to_try(
    orchestrate: Run, altered: Alter
) -> None:
    altered("nixos-image-builder", f"RUN echo 'echo \"{CRASH}\" >&2; exit 139' >> nix/demo/etc.sh")
    outcome = orchestrate("demo", "--no-boot")
    assert outcome.code == 13
    assert f"error: the emulator failed in derivation etc: {CRASH}" in outcome.err
    assert f"try: --qemu {rungs()[1]}\n" in outcome.err
    assert "log: /somewhere/out/build.log\n" in outcome.err
    assert outcome.err.count("registered nixos-image-") == 1
    # The same message of a native program does not count as an emulator's.
    native = orchestrate("demo", "--no-boot", "--system", this_system())
    assert native.code == 6
    assert "error: derivation etc failed" in native.err


@pytest.mark.slow
def test_auto_tries_the_next_rung_once_by_itself(orchestrate: Run, altered: Alter) -> None:
    altered("nixos-image-builder", f"RUN echo 'echo \"{CRASH}\" >&2; exit 139' >> nix/demo/etc.sh")
    outcome = orchestrate("demo", "--no-boot", "--qemu", "auto")
    assert outcome.code == 13
    first, second = re.findall(
        r"^registered nixos-image-\S+ -> qemu-\S+ (\S+),", outcome.err, re.MULTILINE
    )
    assert first.startswith(f"{rungs()[0]}.")
    assert second.startswith(f"{rungs()[1]}.")
    assert f"trying again with QEMU {rungs()[1]}" in outcome.err
    assert f"try: --qemu {next_rung(rungs()[1])}\n" in outcome.err
    assert CRASH.encode() in outcome.files()["build.log"]


def edit_lock(role: str, change: str) -> str:
    """Return a Dockerfile line that changes the pins of `role` (or `all`)."""
    code = (
        "import json; p = 'locks/debian.json'; d = json.load(open(p)); "
        f"wanted = [pins for role, pins in d['packages'].items() if '{role}' in (role, 'all')]; "
        f"[pin.update({change}) for pins in wanted for pin in pins.values()]; "
        "json.dump(d, open(p, 'w'))"
    )
    return f'RUN python3 -c "{code}"'


def test_without_a_network_the_error_names_what_was_not_reached(
    orchestrate: Run, altered: Alter
) -> None:
    nowhere = (
        "RUN rm -rf /etc/apt/sources.list.d/*"
        " && echo 'deb http://127.0.0.1:9/debian trixie main' > /etc/apt/sources.list"
    )
    # With these hashes the store does not have the packages yet.
    altered(
        "nixos-image-builder", f"{nowhere}\n{edit_lock('all', 'tree=None, sha256=64 * chr(48)')}"
    )
    outcome = orchestrate("demo", "--no-boot")
    assert outcome.code == 11, outcome.err
    assert "error: no package can be reached at http://127.0.0.1:9/debian" in outcome.err


@pytest.mark.slow
def test_superseded_pin_is_replaced_with_a_warning(orchestrate: Run, altered: Alter) -> None:
    gone = "pool/main/z/zlib/zlib1g_0.0.1_none.deb"
    change = f"tree=None, sha256=64 * chr(48), version='0.0.1', path='{gone}'"
    # The changed image gets the label of one built with --locked, which is up to date with and
    # without --locked.
    form = f'{{{{index .Config.Labels "{SOURCE_LABEL}"}}}}'
    source = docker("image", "inspect", "--format", form, "nixos-image-builder")
    label = f"LABEL {SOURCE_LABEL}={source.removesuffix('-locked')}-locked"
    altered("nixos-image-builder", f"{edit_lock('zlib', change)}\n{label}")
    outcome = orchestrate("demo", "--no-boot")
    assert outcome.code == 0, outcome.err
    assert "zlib1g 0.0.1 is no longer in the archive: using zlib1g 1:1." in outcome.err
    locked = orchestrate("demo", "--no-boot", "--locked")
    assert locked.code == 11
    assert "no longer has zlib1g 0.0.1" in locked.err


@pytest.mark.slow
def test_unusable_emulator_is_refused_before_the_build(orchestrate: Run, altered: Alter) -> None:
    altered(
        "nixos-image-qemu-setup",
        "RUN cp /usr/bin/false /opt/qemu/qemu-aarch64; cp /usr/bin/false /opt/qemu/qemu-x86_64",
    )
    docker("tag", "nixos-image-qemu-setup", "nixos-image-qemu-setup:as-user")
    docker(
        "build",
        "-q",
        "-t",
        "nixos-image-qemu-setup",
        "-",
        stdin="FROM nixos-image-qemu-setup:as-user\nUSER root\n",
    )
    docker("rmi", "nixos-image-qemu-setup:as-user")
    outcome = orchestrate("demo", "--no-boot")
    assert outcome.code == 5
    assert "do not run with the registered emulator" in outcome.err


@contextlib.contextmanager
def planted(*names: str) -> Iterator[None]:
    """Keep entries `names` in binfmt_misc, as a host would; a container registers and holds them.

    The end of a name is a CPU. Entries for the host's own CPU are left out.
    """
    script = (
        "import pathlib, time\n"
        "from orchestrator.agents.emulation import binfmt\n"
        "from orchestrator.shared import architectures\n"
        "binfmt.mount()\n"
        "k = binfmt.kernel_version()\n"
        f"for name in {names}:\n"
        "    cpu = name.rsplit('-')[-1]\n"
        "    s = next(s for s in architectures.SYSTEMS.values() if s.name.startswith(cpu))\n"
        "    if s.name != architectures.this_system():\n"
        "        emulator = pathlib.Path('/opt/qemu', s.emulator)\n"
        "        binfmt.register(binfmt.registration(name, s, emulator, k))\n"
        "print('held', flush=True); time.sleep(600)\n"
    )
    options = [*RIGHTS, "--tmpfs", "/run", "--entrypoint", "python3"]
    holder = docker("run", "-d", *options, "nixos-image-qemu-setup", "-u", "-c", script)
    try:
        while "held" not in docker("logs", holder):
            running = docker("inspect", "-f", "{{.State.Running}}", holder)
            assert running == "true", docker("logs", holder)
        yield
    finally:
        remove = (
            "from orchestrator.agents.emulation import binfmt; "
            "[(binfmt.MOUNT_POINT / n).write_text('-1') for n in binfmt.entries()]"
        )
        docker("exec", holder, "python3", "-c", remove)
        docker("rm", "-f", holder)


def test_stale_entry_of_a_dead_run_is_removed_and_a_foreign_one_is_not(orchestrate: Run) -> None:
    """Entries of another engine's run count as foreign, because nothing is known about it here."""
    dead, other = f"nixos-image-{ENGINE}deadbeef", "nixos-image-0badcafebabe-armv7l"
    names = [*(f"{dead}-{cpu}" for cpu in ("riscv64", "aarch64", "x86_64")), other, "qemu-riscv64"]
    with planted(*names):
        before = table()
        stale = f"{dead}-{foreign_system(this_system()).partition('-')[0]}"
        assert set(before) == {f"{dead}-riscv64", stale, other, "qemu-riscv64"}
        outcome = orchestrate("demo", "--no-boot", "--emulation", "shared")
        assert outcome.code == 0, outcome.err
        assert (
            f"binfmt_misc entries of a dead run: {', '.join(sorted([stale, f'{dead}-riscv64']))}"
            in outcome.err
        )
        assert outcome.result()["emulation"] == "shared"
        assert table() == {name: before[name] for name in (other, "qemu-riscv64")}


def test_the_table_is_looked_at_without_the_image_that_writes_it(orchestrate: Run) -> None:
    """`clean` needs no emulators' image: entries stay registered when that image is removed."""
    image, stale = "nixos-image-qemu-setup", f"nixos-image-{ENGINE}deadbeef-riscv64"
    with planted(stale, "qemu-riscv64"):
        docker("tag", image, "kept-for-a-test")
        docker("rmi", image)
        try:
            outcome = orchestrate("clean")
        finally:
            docker("tag", "kept-for-a-test", image)
            docker("rmi", "kept-for-a-test")
        assert outcome.code == 0, outcome.err
        assert f"removed binfmt_misc entries of a dead run: {stale}" in outcome.err
        assert table().keys() == {"qemu-riscv64"}


def test_a_dry_run_ends_with_the_plan(orchestrate: Run) -> None:
    outcome = orchestrate("demo", "--dry-run", "--emulation", "shared")
    assert outcome.code == 0, outcome.err
    assert "emulation  shared" in outcome.err
    assert re.search(r"^time +\w", outcome.err, re.MULTILINE)
    assert outcome.tar == b""


def test_a_run_that_is_refused_after_the_host_was_looked_at_leaves_nothing(
    orchestrate: Run,
) -> None:
    """Compose has created networks already, for the probe."""
    files = {"/home/me/bad.pub": b"nonsense\n"}
    outcome = orchestrate("demo", "--ssh-key", "/home/me/bad.pub", files=files)
    assert outcome.code == 2
    assert "not a public key" in outcome.err
