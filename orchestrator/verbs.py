"""What each of our verbs does, from its request to its end."""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator

from orchestrator import cli, machine_commands, receipt, renewal, signing, sources
from orchestrator.agents import ladder
from orchestrator.agents.systems import this_system
from orchestrator.agents.task import DemoTask
from orchestrator.appliance import CLEAN_SECONDS, Appliance
from orchestrator.bootcheck import finish_boot, start_boot
from orchestrator.delivery import RESULT, Delivery
from orchestrator.engine import COMPOSE_RUN, HOME, PROJECT, Engine
from orchestrator.errors import ApplianceError, BootError, EmulatorCrashError, UsageError
from orchestrator.format_table import columns
from orchestrator.host import measure
from orchestrator.images import IMAGES, Images
from orchestrator.make_task import make_task
from orchestrator.pins import table
from orchestrator.plan import Mode, Plan, make_plan, target_systems
from orchestrator.probe import needed, probe
from orchestrator.progress import Progress, make_progress
from orchestrator.repair import repair_if_harmless
from orchestrator.request import AUTO, Boot, Build, Caller, Clean, Demo, Doctor, Pins, Test
from orchestrator.sources import BUILDER_UID
from orchestrator.supervisor import Supervisor
from orchestrator.workspace import Workspace, make_shared, old_folders, open_to_agents

#: Verbs of Docker Compose that look at what runs.
ABOUT_RUNS = frozenset({"events", "logs", "ps", "stats", "top"})

#: How much longer than the run (seconds) its agents wait by themselves.
SPARE_SECONDS = 600


def images(request: Demo | Build, who: Caller, progress: Progress, stream: int) -> None:
    """Build images, deliver them, and boot the first one if asked for."""
    if request.sign:
        signing.take_key(who, request.sign)
    targets = target_systems(request, this_system())
    guest = targets[0].partition("-")[0]
    variables = {"NIXOS_IMAGE_GUEST": guest}
    # cleanup waits longer than the run: only a run that nobody looks after any more gets there.
    variables["NIXOS_IMAGE_DEADLINE_SECONDS"] = f"{request.timeout + SPARE_SECONDS:.0f}"
    if request.locked:
        variables["NIXOS_IMAGE_LOCKED"] = "1"
    with run_workspace(who, variables) as (engine, workspace):
        progress.to("look", "at the Docker host")
        try:
            plan = _plan(request, engine, workspace, targets, who, progress)
        except ApplianceError:
            engine.down()  # Compose has made networks to look with
            raise
        variables["NIXOS_IMAGE_SYSTEMS"] = " ".join(plan.register or targets)
        variables["NIXOS_IMAGE_MEMORY"] = f"{plan.memory}m"
        task = make_task(request, plan, who, workspace.shared)
        if request.dry_run:
            progress.end()
            progress.say(plan.describe())
            if isinstance(request, Demo):
                engine.down()
                return
            # An evaluation runs no foreign program.
            plan = dataclasses.replace(plan, services=("builder",), mode="native", boot=False)
            task = dataclasses.replace(task, leased=False, foreign=(), private=())
        else:
            progress.say(f"{', '.join(plan.systems)}, {plan.mode} emulation: {plan.reason}")
        if isinstance(task.work, DemoTask) and not task.work.authorized_keys:
            progress.say(
                "no SSH key was found: the image will let nobody in (--ssh-key FILE)",
                level="warning",
            )
        progress.to("look", "for what dead runs have left")
        forget_dead_runs(engine)

        def attempt(asked: Demo | Build) -> None:
            tag = _image_tag(asked.qemu)
            write_variables(workspace.variables, who, variables | {"NIXOS_IMAGE_QEMU": tag})
            logs = workspace.logs
            built = Images(engine, who.source, guest, logs, locked=asked.locked, qemu=tag)
            built.want(plan.images)
            built.want(("boot",) if plan.boot else ())
            try:
                appliance = Appliance(who, asked, plan, engine, built, progress, workspace)
                appliance.run(task, stream)
            finally:
                built.close()

        climb(request, plan.mode, attempt, progress)


def climb(
    request: Demo | Build,
    mode: Mode,
    attempt: Callable[[Demo | Build], None],
    progress: Progress,
) -> None:
    """Call `attempt` for `request`; where it crashes of its emulator, say which one to try next.

    With `AUTO` that is tried right away, once, in the time that is left.
    """
    began, rungs = time.monotonic(), ladder.rungs()
    used = request.qemu if request.qemu in rungs else rungs[0]
    # The host's own emulator is none of ours.
    other = rungs[0] if mode == "host" else ladder.next_rung(used)
    try:
        attempt(request)
    except EmulatorCrashError as error:
        if request.qemu != AUTO:
            error.hint = "; ".join(filter(None, [f"--qemu {other}", error.hint]))
            raise
        progress.say(f"{error}: once more with QEMU {other}", level="warning")
        left = max(1.0, request.timeout - (time.monotonic() - began))
        again = dataclasses.replace(request, qemu=other, timeout=left)
        climb(again, mode, attempt, progress)


def _plan(
    request: Demo | Build,
    engine: Engine,
    workspace: Workspace,
    targets: tuple[str, ...],
    who: Caller,
    progress: Progress,
) -> Plan:
    """Look at the host, and plan; what a dead run has registered does not count."""
    private = request.emulation in {"auto", "private"}
    facts = measure(engine, targets, who.out_kib, private=private)
    plan = make_plan(request, facts)
    # Because the host has it, or because a dead run left it? Then it goes first.
    if plan.mode == "host" and not request.dry_run and _repair(engine, workspace, who, progress):
        facts = measure(engine, targets, who.out_kib, private=private)
        plan = make_plan(request, facts)
    return plan


def _image_tag(qemu: str) -> str:
    """The rung for which `request.qemu` has an image of its own made; empty for the default's."""
    return "" if qemu in {AUTO, ladder.rungs()[0]} else qemu


def _repair(engine: Engine, workspace: Workspace, who: Caller, progress: Progress) -> bool:
    """Remove what dead runs have registered, with whichever image there is; False without one."""
    for qemu in ("", *ladder.rungs()[1:]):
        if engine.image_source(IMAGES["cleanup"].format(qemu=qemu or "latest")):
            write_variables(workspace.variables, who, {"NIXOS_IMAGE_QEMU": qemu})
            repair_if_harmless(engine, progress)
            return True
    return False


def boot(request: Boot, who: Caller, progress: Progress) -> None:
    """Boot an image that run.sh sent."""
    image = sources.received(who, request.image)
    facts = probe(image, image.parent / RESULT)
    system = request.system or facts.system
    firmware = request.firmware or next(iter(facts.firmware), "")
    needed(system, firmware, image.name)
    guest = system.partition("-")[0]
    variables = {"NIXOS_IMAGE_SYSTEMS": system, "NIXOS_IMAGE_GUEST": guest}
    with run_workspace(who, variables) as (engine, workspace):
        images = Images(engine, who.source, guest, workspace.logs)
        images.want(("boot",))
        images.wait(("boot",), progress)
        progress.end()
        inside = workspace.shared / "image"
        inside.mkdir()
        disk = inside / image.name
        shutil.move(image, disk)
        disk.chmod(0o644)
        name = f"{engine.project}-boot-1"
        arguments = ["--system", system, "--firmware", firmware]
        arguments += ["--disk-format", facts.disk_format, "--grow", str(request.grow)]
        if request.identity:
            key = sources.received(who, request.identity)
            key.chmod(0o600)
            os.chown(key, BUILDER_UID, BUILDER_UID)
            arguments += ["--identity", os.fspath(key)]
        if request.seed:
            seed = workspace.shared / "seed"
            shutil.move(sources.received(who, request.seed), seed)
            seed.chmod(0o444)
            arguments += ["--seed", os.fspath(seed)]
        open_to_agents(workspace.shared)
        kvm = system == this_system() and not request.identity  # another user's key is no key
        try:
            if not request.test:
                progress.close()
                if code := engine.run_on_terminal("boot", name, [os.fspath(disk), *arguments]):
                    raise BootError(f"QEMU or its container ended with exit code {code}")
                return
            deadline = time.monotonic() + request.boot_timeout + 60
            supervisor = Supervisor(engine, progress, deadline, workspace.logs)
            arguments += [
                "--test",
                *(f"--run={request.run}", f"--user={request.user}"),
                "--timeout",
                str(request.boot_timeout),
                *(["--try-kvm"] if kvm else []),
            ]
            progress.to("boot", f"starting {guest}")
            start_boot(engine, name, disk, arguments, kvm=kvm)
            supervisor.follow("boot", name)
            finish_boot(supervisor, progress)
            progress.end()
        finally:
            engine.down()


def print_command(request: Boot, who: Caller) -> str:
    """How an image that run.sh sent is booted elsewhere."""
    image = sources.received(who, request.image)
    facts = probe(image, image.parent / RESULT)
    system = request.system or facts.system
    firmware = (request.firmware,) if request.firmware else facts.firmware
    needed(system, "".join(firmware), image.name)
    seed = os.fspath(request.seed) if request.seed else ""
    return machine_commands.describe(
        system, firmware, os.fspath(request.image), facts.disk_format, seed
    )


def doctor(request: Doctor, who: Caller, progress: Progress) -> str:
    """What a run of the demo would find on this host, and with `privileges` what it would use."""
    targets = target_systems(request.demo, this_system())
    variables = {"NIXOS_IMAGE_GUEST": targets[0].partition("-")[0]}
    with run_workspace(who, variables) as (engine, workspace):
        private = request.demo.emulation in {"auto", "private"}
        try:
            with progress.stage("look", "at the Docker host"):
                facts = measure(engine, targets, None, private=private)
            plan = make_plan(request.demo, facts)
            memory = {"NIXOS_IMAGE_MEMORY": f"{plan.memory}m"}
            write_variables(workspace.variables, who, memory)
            text = f"{facts.describe()}\n{plan.describe()}\n"
            if request.privileges:
                config = engine.config()
                services = (*plan.services, "boot") if plan.boot else plan.services
                parts = [receipt.planned(service, config).describe() for service in services]
                text += "\n" + "\n\n".join(parts) + "\n"
            return text
        finally:
            engine.down()


def clean(request: Clean, who: Caller, progress: Progress) -> None:
    """Remove what dead runs left: entries of binfmt_misc, containers, networks, folders."""
    with run_workspace(who, {}) as (engine, workspace), progress.stage("clean"):
        if request.everything:
            for name, (run, running) in engine.containers().items():
                if run != who.run and running and name == f"{PROJECT}-{run}":
                    engine.remove(name)
        forget_dead_runs(engine)
        _repair(engine, workspace, who, progress)
        engine.down()


def pins(request: Pins, who: Caller) -> str:
    """What is pinned, or what images have installed that is not."""
    if not request.installed:
        return table(HOME)
    with run_workspace(who, {}) as (engine, _workspace):
        rows = [("image", "package", "version", "architecture"), *engine.packages()]
    return columns(rows)


def update_pins(who: Caller, progress: Progress, stream: int) -> None:
    """Renew the locks, show the difference, send the new ones to the checkout."""
    with run_workspace(who, {}) as (engine, workspace):
        images = Images(engine, who.source, "aarch64", workspace.logs)
        try:
            images.want(("builder", "pins"))
            images.wait(("builder", "pins"), progress)
            changed = renewal.renew(engine, who, progress)
        finally:
            images.close()
            engine.down()
        new = workspace.own / "new"
        new.mkdir()
        outgoing = Delivery(new, stream, sparse=False)
        for name in renewal.write(new, changed):
            outgoing.send(name)
        outgoing.finish()


def forget_everything() -> None:
    """Before `down`: end all runs, remove all of their entries, containers and networks."""
    who = cli.caller(os.environ)
    progress = make_progress("auto", who.columns)
    try:
        clean(Clean(everything=True, log_format="auto"), who, progress)
    finally:
        progress.close()


def compose_command(arguments: tuple[str, ...]) -> list[str]:
    """`docker compose` with this project's files.

    Every profile, so that `down` and `config` see all services. What only looks sees the one run
    that lives, if it is one.
    """
    nowhere = pathlib.Path("/nonexistent")
    engine = Engine("", nowhere)
    if arguments[0] in ABOUT_RUNS and len(runs := list(engine.serving_runs())) == 1:
        engine = engine if runs == [COMPOSE_RUN] else Engine(runs[0], nowhere)
    command = engine.compose_command()
    every = ["--profile", "*"] if arguments[0] in {"down", "config", "build", "images"} else []
    # Of what `compose run` has started, which boots images, Compose tells only when asked for all.
    everything = ["--all"] if arguments[0] == "ps" else []
    return [*command, *every, arguments[0], *everything, *arguments[1:]]


def test(request: Test, who: Caller, stream: int) -> int:
    """Run the suite in the test image, which is built if need be; returns pytest's exit code."""
    progress = make_progress("auto", who.columns)
    with run_workspace(who, {"NIXOS_IMAGE_SOCKET": who.socket}) as (engine, workspace):
        images = Images(engine, who.source, "aarch64", workspace.logs)
        try:
            for wanted in (("cleanup", "builder"), ("test",)):  # which takes files of the builder's
                images.want(wanted)
                images.wait(wanted, progress)
            progress.end()
        finally:
            images.close()
            progress.close()
        environment = {
            "NIXOS_IMAGE_SOURCE": who.source,
            "NIXOS_IMAGE_SOCKET": who.socket,
            "NIXOS_IMAGE_RUN": who.run,
        }
        options = [
            part for name, value in environment.items() for part in ("--env", f"{name}={value}")
        ]
        command = [
            *engine.compose_command(),
            "run",
            "--rm",
            "--no-TTY",
            "--no-deps",
            *options,
            "test",
            *request.arguments,
        ]
        try:
            return subprocess.run(command, stdout=stream, check=False).returncode
        finally:
            engine.down()


@contextlib.contextmanager
def run_workspace(who: Caller, variables: dict[str, str]) -> Iterator[tuple[Engine, Workspace]]:
    """The run's folders, with Compose's variables for it; gone afterwards."""
    with tempfile.TemporaryDirectory() as own:
        workspace = Workspace(make_shared(who.run), pathlib.Path(own))
        workspace.logs.mkdir()
        write_variables(workspace.variables, who, variables)
        try:
            yield Engine(who.run, workspace.variables), workspace
        finally:
            shutil.rmtree(workspace.shared, ignore_errors=True)


def write_variables(env_file: pathlib.Path, who: Caller, variables: dict[str, str]) -> None:
    """Write the run's variables where Compose reads them at each command.

    Raises `UsageError` for what its file format cannot hold.
    """
    document = {
        "NIXOS_IMAGE_RUN": who.run,
        "NIXOS_IMAGE_LOG": "json",
        "NIXOS_IMAGE_SOURCE": who.source,
        **variables,
    }
    for name, value in document.items():
        if {"'", "\\"}.intersection(value) or not value.isprintable():
            raise UsageError(f"{name}: {value!r} cannot be handed to Docker Compose")
    # Quoted so, nothing in a value is a comment, an escape or another variable's name.
    env_file.write_text("".join(f"{name}='{value}'\n" for name, value in document.items()))


def forget_dead_runs(engine: Engine) -> None:
    """Remove containers, networks and folders of runs that nobody looks after any more.

    What there is to remove is listed before who lives: a run that starts meanwhile is not among the
    former.
    """
    containers, runs, folders = engine.containers(), engine.runs(), old_folders()
    keep = engine.living_runs() | {engine.run, COMPOSE_RUN}
    for name, (run, running) in containers.items():
        if running and run not in keep and name.endswith("-cleanup-1"):
            engine.stop(name, CLEAN_SECONDS)  # SIGTERM is its order to clean
    for run in runs - keep:
        Engine(run, pathlib.Path("/nonexistent")).down()
    for folder in folders:
        if folder.name not in {*keep, "lost+found"}:
            shutil.rmtree(folder, ignore_errors=True)
