"""`boot`: boot an image in QEMU, on the terminal or as a check."""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import shutil
import time
import typing

from orchestrator.agents.boot import qemu
from orchestrator.ask import uploads
from orchestrator.ask.orders import TERMINAL, Orders
from orchestrator.ask.parser import (
    Parser,
    add_display_options,
    add_times,
    caller_path,
    display,
    mebibytes,
)
from orchestrator.ask.request import Caller
from orchestrator.shared.architectures import this_system
from orchestrator.shared.artifact import IMAGE_RESULT
from orchestrator.shared.display import Display
from orchestrator.shared.errors import BootError, UsageError
from orchestrator.shared.spec import Firmware
from orchestrator.verbs.registry import Session, Verb

if typing.TYPE_CHECKING:
    from orchestrator.decide.image_facts import ImageFacts
    from orchestrator.docker.workspace import Workspace
    from orchestrator.shared.progress import Progress


@dataclasses.dataclass(frozen=True)
class Boot:
    """Boot `image` on the terminal, or with `test` as a check.

    An empty `system` or `firmware` is detected from the image. `identity` is a private key for the
    account of `user`; without it the check writes its own key into the copy. `seed` is a second raw
    disk with cloud-init's seed; `grow` the disk's size in MiB; `command` a command for the guest's
    shell. With `print_command` nothing is booted.
    """

    image: pathlib.PurePosixPath
    system: str
    firmware: str
    identity: pathlib.PurePosixPath | None
    user: str
    seed: pathlib.PurePosixPath | None
    grow: int
    command: str
    test: bool
    print_command: bool
    boot_timeout: float
    display: Display


def _parser() -> Parser:
    parser = Parser(
        "boot",
        "Boot a throwaway copy of an image in QEMU.",
        examples=(
            ("boot out/pi.img", "on this terminal; Ctrl-A X leaves it"),
            ("boot --test out/pi.img", "check that it boots and lets an SSH key in"),
            ("boot --test --run 'df -h' out/pi.img", "show the output of a command there"),
            ("boot --print-command out/pi.img", "for another computer with QEMU"),
        ),
    )
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument(
        "--test",
        action="store_true",
        help="boot check without a terminal: wait until ready, log in by SSH",
    )
    parser.add_argument(
        "--system",
        choices=sorted(qemu.GUESTS),
        help="system of the image (default: detected from it)",
    )
    parser.add_argument(
        "--firmware",
        choices=typing.get_args(Firmware),
        help="firmware of the machine (default: the image's)",
    )
    parser.add_argument(
        "--identity",
        metavar="FILE",
        help="private key that the image already trusts, instead of a new one",
    )
    parser.add_argument(
        "--user",
        default="root",
        metavar="NAME",
        help="user who logs in (default: root; others need --identity)",
    )
    parser.add_argument(
        "--seed",
        metavar="FILE",
        help="second disk, raw or ISO, with cloud-init's seed",
    )
    parser.add_argument(
        "--print-command",
        action="store_true",
        help="print QEMU and libvirt commands that boot the image, boot nothing",
    )
    parser.add_argument(
        "--run",
        dest="command",
        default="",
        metavar="COMMAND",
        help="with --test: run the command in the guest and print its output",
    )
    parser.add_argument(
        "--grow", type=mebibytes, metavar="SIZE", default=0, help="boot the copy on a larger disk"
    )
    add_times(parser, ("boot", 300, "the image is ready"))
    add_display_options(parser)
    return parser


def _request(found: argparse.Namespace, who: Caller) -> Boot:
    if found.user != "root" and not found.identity:
        raise UsageError(
            "--user needs --identity: the boot check can only give root a key",
            hint=found.help_of,
        )
    return Boot(
        image=caller_path(found.image, who),
        system=found.system or "",
        firmware=found.firmware or "",
        identity=caller_path(found.identity, who) if found.identity else None,
        user=found.user,
        seed=caller_path(found.seed, who) if found.seed else None,
        grow=found.grow,
        command=found.command,
        test=found.test,
        print_command=found.print_command,
        boot_timeout=found.boot_timeout,
        display=display(found),
    )


def _orders(request: Boot) -> Orders:
    orders = [["send", "boot", os.fspath(request.image)]]
    orders.append(["send_result", "boot", f"{request.image}{IMAGE_RESULT}"])
    if request.identity:
        orders.append(["send", "--identity", os.fspath(request.identity)])
    if request.seed and not request.print_command:
        orders.append(["send", "--seed", os.fspath(request.seed)])
    return orders if request.test and not request.print_command else [*orders, TERMINAL]


def _work(request: Boot, session: Session) -> int:
    from orchestrator.shared.progress import make_progress

    if request.print_command:
        session.show(_printed(request, session.who))
        return 0
    with contextlib.closing(make_progress(request.display, session.who.terminal)) as progress:
        _boot(request, session.who, progress)
    return 0


def _printed(request: Boot, who: Caller) -> str:
    """Return QEMU and libvirt commands for an image that run.sh has sent."""
    from orchestrator.decide import machine_commands
    from orchestrator.decide.image_facts import needed, probe

    image = uploads.received(who, request.image)
    facts = probe(image)
    if facts.packed:
        raise UsageError(
            f"{image.name}: the image is compressed",
            hint=f"unpack it first ({facts.packed} -d), QEMU cannot",
        )
    system = request.system or facts.system
    firmware = (request.firmware,) if request.firmware else facts.firmware
    needed(system, "".join(firmware), image.name)
    seed = os.fspath(request.seed) if request.seed else ""
    return machine_commands.describe(
        system, firmware, os.fspath(request.image), facts.disk_format, seed
    )


def _boot(request: Boot, who: Caller, progress: "Progress") -> None:
    """Boot an image that run.sh has sent."""
    from orchestrator.decide.image_facts import needed, probe
    from orchestrator.docker.images import Images
    from orchestrator.docker.workspace import open_to_agents
    from orchestrator.run.bootcheck import finish_boot, start_boot
    from orchestrator.run.runs import run_workspace
    from orchestrator.run.supervisor import Supervisor

    image = uploads.received(who, request.image)
    facts = probe(image)
    system = request.system or facts.system
    firmware = request.firmware or next(iter(facts.firmware), "")
    needed(system, firmware, image.name)
    guest = system.partition("-")[0]
    variables = {"NIXOS_IMAGE_SYSTEMS": system, "NIXOS_IMAGE_GUEST": guest}
    with run_workspace(who, variables) as (engine, workspace):
        made = Images(engine, guest, workspace.logs, own=who.image)
        with contextlib.closing(made) as images:
            images.want(("boot",))
            images.wait(("boot",), progress)
        progress.end()
        disk = workspace.shared / "image" / image.name
        disk.parent.mkdir()
        shutil.move(image, disk)
        disk.chmod(0o644)
        name = f"{engine.project}-boot-1"
        arguments = ["--system", system, "--firmware", firmware]
        arguments += _machine(request, facts, who, workspace)
        open_to_agents(workspace.shared)
        # With a private key of the caller's, KVM is not tried: the service boot-kvm runs as another
        # user, who could not read the key.
        kvm = system == this_system() and not request.identity
        try:
            if not request.test:
                progress.close()
                if code := engine.run_on_terminal(
                    "boot", ["--name", name], [os.fspath(disk), *arguments]
                ):
                    raise BootError(f"QEMU or its container ended with exit code {code}")
                return
            deadline = time.monotonic() + request.boot_timeout + 60
            supervisor = Supervisor(engine, progress, deadline)
            arguments += ["--test", f"--run={request.command}", f"--user={request.user}"]
            arguments += ["--timeout", str(request.boot_timeout), *(["--try-kvm"] if kvm else [])]
            progress.to("boot", f"starting {guest}")
            start_boot(engine, name, disk, arguments, kvm=kvm)
            supervisor.follow("boot", name)
            finish_boot(supervisor, progress, request.boot_timeout)
            progress.end()
        finally:
            engine.down()


def _machine(request: Boot, facts: "ImageFacts", who: Caller, workspace: "Workspace") -> list[str]:
    """Return the boot agent's arguments for the disk; move sent files to where it reads them."""
    from orchestrator.docker.workspace import BUILDER_UID

    arguments = ["--disk-format", facts.disk_format, "--grow", str(request.grow)]
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
    return arguments


VERB = Verb(
    group="use images",
    shown=(("boot [--test] IMAGE", "boot an image on this terminal, or check that it boots"),),
    parser=_parser,
    request=_request,
    work=_work,
    orders=_orders,
)
