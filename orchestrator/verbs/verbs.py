"""What each of our verbs does, from its request to its end."""

import os
import pathlib
import shutil
import subprocess
import time

from orchestrator.ask import cli, uploads
from orchestrator.ask.request import Boot, Caller, Clean, Doctor, Pins, Test
from orchestrator.ask.uploads import BUILDER_UID
from orchestrator.decide import machine_commands
from orchestrator.decide.host import measure
from orchestrator.decide.image_facts import needed, probe
from orchestrator.decide.pins import table
from orchestrator.decide.plan import make_plan, target_systems
from orchestrator.deliver.stream import Delivery
from orchestrator.docker import census, privileges
from orchestrator.docker.census import COMPOSE_RUN
from orchestrator.docker.engine import PROJECT, Engine
from orchestrator.docker.images import Images
from orchestrator.docker.workspace import open_to_agents
from orchestrator.run import renewal
from orchestrator.run.bootcheck import finish_boot, start_boot
from orchestrator.run.runs import forget_dead_runs, repair_entries, run_workspace, write_variables
from orchestrator.run.supervisor import Supervisor
from orchestrator.shared.architectures import this_system
from orchestrator.shared.artifact import RESULT
from orchestrator.shared.errors import BootError
from orchestrator.shared.paths import ROOT
from orchestrator.shared.progress import Progress, make_progress
from orchestrator.shared.text import columns

#: Verbs of Docker Compose that look at what runs.
ABOUT_RUNS = frozenset({"events", "logs", "ps", "stats", "top"})


def boot(request: Boot, who: Caller, progress: Progress) -> None:
    """Boot an image that run.sh sent."""
    image = uploads.received(who, request.image)
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
            key = uploads.received(who, request.identity)
            key.chmod(0o600)
            os.chown(key, BUILDER_UID, BUILDER_UID)
            arguments += ["--identity", os.fspath(key)]
        if request.seed:
            seed = workspace.shared / "seed"
            shutil.move(uploads.received(who, request.seed), seed)
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
            supervisor = Supervisor(engine, progress, deadline)
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
            finish_boot(supervisor, progress, request.boot_timeout)
            progress.end()
        finally:
            engine.down()


def print_command(request: Boot, who: Caller) -> str:
    """How an image that run.sh sent is booted elsewhere."""
    image = uploads.received(who, request.image)
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
                services = [*plan.services]
                services += ["boot-kvm" if plan.kvm else "boot"] if plan.boot else []
                # This very command has had it look.
                services += ["probe"] if private and plan.foreign else []
                parts = [privileges.planned(service, config).describe() for service in services]
                text += "\n" + "\n\n".join(parts) + "\n"
            return text
        finally:
            engine.down()


def clean(request: Clean, who: Caller, progress: Progress) -> None:
    """Remove what dead runs left: entries of binfmt_misc, containers, networks, folders."""
    with run_workspace(who, {}) as (engine, workspace), progress.stage("clean"):
        if request.everything:
            for name, (run, running) in census.containers(engine).items():
                if run != who.run and running and name == f"{PROJECT}-{run}":
                    engine.remove(name)
        forget_dead_runs(engine)
        repair_entries(engine, workspace, who, progress)
        engine.down()


def pins(request: Pins, who: Caller) -> str:
    """What is pinned, or what images have installed that is not."""
    if not request.installed:
        return table(ROOT)
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
    if arguments[0] in ABOUT_RUNS and len(runs := list(census.serving_runs(engine))) == 1:
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
