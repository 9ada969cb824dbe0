"""argv and environment -> Request: the only place that reads either.

run.sh calls twice: `prepare ARGS...` checks the arguments and prints, as shell commands, what
run.sh must do on the caller's side (it alone sees the caller's files); then the same arguments
again to do the work.
"""

import difflib
import os
import pathlib
import shlex
import typing

from orchestrator.agents.boot import qemu
from orchestrator.ask.build_arguments import build
from orchestrator.ask.image_arguments import add_image_options, image_options
from orchestrator.ask.parser import (
    Parser,
    add_log_format,
    add_run_arguments,
    add_times,
    caller_path,
    mebibytes,
    run_arguments,
)
from orchestrator.ask.request import (
    Boot,
    Build,
    Caller,
    Clean,
    Compose,
    Demo,
    Doctor,
    Emulation,
    Formats,
    Pins,
    Request,
    Test,
    Verify,
)
from orchestrator.ask.uploads import received
from orchestrator.shared.architectures import DEBIAN_ARCHITECTURES
from orchestrator.shared.artifact import BESIDE, RESULT
from orchestrator.shared.demo_formats import FORMATS
from orchestrator.shared.errors import UsageError
from orchestrator.shared.spec import REFUSED, Firmware, FsType

OURS = ("demo", "boot", "verify", "pins", "test", "clean", "doctor", "formats", "help")

#: Verbs of Docker Compose 2.26, which get the rest of the command line untouched.
COMPOSE = frozenset(
    "attach build config cp create down events exec images kill logs ls pause port ps pull push"
    " restart rm run scale start stats stop top unpause up version wait watch".split()
)


def caller(environment: typing.Mapping[str, str]) -> Caller:
    """What run.sh says of the caller's side."""

    def number(name: str) -> int:
        text = environment.get(name, "")
        return int(text) if text.isdigit() else 0

    return Caller(
        cwd=pathlib.PurePosixPath(environment.get("NIXOS_IMAGE_CWD") or "/"),
        home=pathlib.PurePosixPath(environment.get("NIXOS_IMAGE_HOME") or "/"),
        root=pathlib.PurePosixPath(environment.get("NIXOS_IMAGE_ROOT") or "/"),
        columns=number("NIXOS_IMAGE_COLUMNS"),
        out_kib=number("NIXOS_IMAGE_OUT_KIB") if environment.get("NIXOS_IMAGE_OUT_KIB") else None,
        socket=environment.get("NIXOS_IMAGE_SOCKET") or "/var/run/docker.sock",
        run=environment.get("NIXOS_IMAGE_RUN") or "manual",
        source=environment.get("NIXOS_IMAGE_SOURCE", ""),
        sparse=environment.get("NIXOS_IMAGE_SPARSE") != "0",
        ca_bundle=environment.get("NIXOS_IMAGE_CA_BUNDLE", ""),
    )


def parse(argv: list[str], who: Caller) -> Request:
    """The request of the command line `argv`; raises `UsageError`."""
    if not argv or argv[0].startswith("-"):
        return build(argv, who)
    verb, *rest = argv
    if verb == "help":
        raise SystemExit(usage())
    parsers = {
        "demo": _demo,
        "boot": _boot,
        "verify": _verify,
        "pins": _pins,
        "clean": _clean,
        "doctor": _doctor,
        "formats": _formats,
    }
    if verb in parsers:
        return typing.cast("Request", parsers[verb](rest, who))
    if verb == "test":
        return Test(tuple(rest))
    if verb in COMPOSE:
        return Compose(tuple(argv))
    near = difflib.get_close_matches(verb, [*OURS, *COMPOSE], n=1)
    raise UsageError(
        f"{verb}: no such command", hint=f"did you mean {near[0]}?" if near else "./run.sh help"
    )


def usage() -> str:
    """The first help that a person sees."""
    return """\
./run.sh [OPTIONS]              build NixOS images: config/sd-card.nix, or -c FILE, or --flake REF
./run.sh demo [OPTIONS]         build a small bootable system for another CPU, and boot it
./run.sh boot [--test] IMAGE    boot an image on this terminal, or check that it boots
./run.sh verify IMAGE           check an image against what its run has made beside it
./run.sh pins [--update]        what comes from outside, and its hashes
./run.sh formats [NAME ...]     the formats of NixOS images
./run.sh doctor [--privileges]  what this host can do, and what containers would be allowed
./run.sh clean                  remove what dead runs have left
./run.sh test [PYTEST ARGS]     run the test suite (--hosts: the demo on simulated Docker hosts)
./run.sh down --rmi all -v      remove every trace of this project
./run.sh up|ps|logs|config ...  docker compose with this project's files

Each of our verbs has --help, and so has the build. Exit codes: docs/exit-codes.md
"""


def script(request: Request, who: Caller) -> str:
    """What run.sh must do on the caller's side, as calls of its own functions.

    Quoted for a POSIX shell.
    """
    calls: list[list[str]] = []
    if isinstance(request, Demo | Build):
        calls += [] if request.dry_run else [["out_dir", os.fspath(request.out)]]
        calls += [["send", "--inject", one.source] for one in request.image.injections]
        named = {"--stamp": request.image.stamp}
        named["--wifi-password-file"] = request.image.wifi_password_file
        calls += [["send", option, path] for option, path in named.items() if path]
        calls += [["send", "--sign", os.fspath(request.sign)]] if request.sign else []
    match request:
        case Demo(ssh_key=key):
            calls.append(["send", "--ssh-key", os.fspath(key)] if key else ["send_keys"])
        case Build():
            calls += [["send_tree", option, os.fspath(path)] for option, path in request.trees]
            if request.nix_conf:
                calls.append(["send", "--nix-conf", os.fspath(request.nix_conf)])
            calls += [["then_boot"]] if request.run else []
        case Boot():
            calls.append(["send", "boot", os.fspath(request.image)])
            calls.append(["send_result", os.fspath(request.image.parent / RESULT)])
            if request.identity:
                calls.append(["send", "--identity", os.fspath(request.identity)])
            if request.seed and not request.print_command:
                calls.append(["send", "--seed", os.fspath(request.seed)])
            calls += [] if request.test and not request.print_command else [["terminal"]]
        case Verify(image=image):
            calls.append(["send", "verify", os.fspath(image)])
            calls += [["send_result", f"{image}{suffix}"] for suffix in BESIDE]
            signers = {"--key": request.key, "--allowed-signers": request.allowed_signers}
            calls += [["send", option, os.fspath(path)] for option, path in signers.items() if path]
        case Pins(update=True):
            calls.append(["out_locks"])
        case Compose() | Doctor() | Formats() | Pins() | Test():
            calls.append(["terminal"])
        case Clean():
            pass
    if who.ca_bundle:
        calls.append(["send", "SSL_CERT_FILE", who.ca_bundle])
    return "".join(f"{shlex.join(call)}\n" for call in calls)


def ssh_keys(request: Demo, who: Caller) -> tuple[str, ...]:
    """The public keys that run.sh sent: those of --ssh-key, else all of the caller's ~/.ssh."""
    folder = received(who, who.home) / ".ssh"
    files = [received(who, request.ssh_key)] if request.ssh_key else sorted(folder.glob("*.pub"))
    keys = []
    for file in files:
        lines = [line.strip() for line in file.read_text(errors="replace").splitlines()]
        found = [line for line in lines if line and not line.startswith("#")]
        bad = [line for line in found if not line.startswith(("ssh-", "ecdsa-", "sk-"))]
        if request.ssh_key and (bad or not found):
            raise UsageError(
                f"--ssh-key {request.ssh_key}: not a public key file", hint="name the .pub file"
            )
        keys += [line for line in found if line not in bad]
    return tuple(dict.fromkeys(keys))


def _demo(argv: list[str], who: Caller) -> Demo:
    parser = Parser("demo", "Build a small bootable system, deliver it to ./out, and boot it.")
    parser.add_argument(
        "--system",
        choices=sorted(DEBIAN_ARCHITECTURES),
        help="default: the one foreign to this host",
    )
    parser.add_argument("-f", "--format", choices=sorted(FORMATS), default="raw-efi")
    parser.add_argument("--root-fs", choices=typing.get_args(FsType), default="ext4")
    parser.add_argument(
        "--ssh-key", metavar="FILE", help="public key to let in (default: ~/.ssh/*.pub)"
    )
    parser.add_argument("--no-boot", action="store_true", help="do not boot the image afterwards")
    add_run_arguments(parser, timeout=6 * 3600.0)
    add_image_options(parser)
    add_log_format(parser)
    found = parser.parse_args(argv)
    if found.root_fs in REFUSED:
        raise UsageError(
            f"--root-fs {found.root_fs}: {REFUSED[found.root_fs]}", hint=f"{parser.prog} --help"
        )
    return Demo(
        system=found.system or "",
        format=found.format,
        root_fs=found.root_fs,
        ssh_key=None if found.ssh_key is None else caller_path(found.ssh_key, who),
        boot=not found.no_boot,
        image=image_options(parser, found, who),
        **run_arguments(found, who),
    )


def _boot(argv: list[str], who: Caller) -> Boot:
    parser = Parser("boot", "Boot a throwaway copy of an image in QEMU.")
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument(
        "--test", action="store_true", help="no terminal: see it get ready, log in over SSH"
    )
    parser.add_argument(
        "--system", choices=sorted(qemu.GUESTS), help="default: what the image's boot loader is for"
    )
    parser.add_argument(
        "--firmware", choices=typing.get_args(Firmware), help="default: what the image is made for"
    )
    parser.add_argument(
        "--identity", metavar="FILE", help="private key of its, instead of one for this check"
    )
    parser.add_argument(
        "--user",
        default="root",
        metavar="NAME",
        help="who logs in (default: root; needs --identity)",
    )
    parser.add_argument(
        "--seed",
        metavar="FILE",
        help="a second disk, raw or ISO, which cloud-init reads its seed from",
    )
    parser.add_argument(
        "--print-command",
        action="store_true",
        help="print how QEMU and libvirt boot it on a computer that has them, and do nothing",
    )
    parser.add_argument(
        "--run",
        default="",
        metavar="COMMAND",
        help="with --test: run it there, show its output",
    )
    parser.add_argument(
        "--grow", type=mebibytes, metavar="SIZE", default=0, help="boot it on a larger disk"
    )
    add_times(parser, ("boot", 300, "the image is ready"))
    add_log_format(parser)
    found = parser.parse_args(argv)
    if found.user != "root" and not found.identity:
        raise UsageError(
            "--user needs --identity: the check can give a key to root only",
            hint=f"{parser.prog} --help",
        )
    return Boot(
        caller_path(found.image, who),
        found.system or "",
        found.firmware or "",
        caller_path(found.identity, who) if found.identity else None,
        found.user,
        caller_path(found.seed, who) if found.seed else None,
        found.grow,
        found.run,
        found.test,
        found.print_command,
        found.boot_timeout,
        found.log_format,
    )


def _verify(argv: list[str], who: Caller) -> Verify:
    parser = Parser(
        "verify", "Check an image against its checksums, SBOM, provenance and signature beside it."
    )
    parser.add_argument("image", metavar="IMAGE")
    signer = parser.add_mutually_exclusive_group()
    signer.add_argument("--key", metavar="FILE", help="the public SSH key that has signed it")
    signer.add_argument(
        "--allowed-signers", metavar="FILE", help="those who may have, as ssh-keygen(1) lists them"
    )
    found = parser.parse_args(argv)

    def path(text: str | None) -> pathlib.PurePosixPath | None:
        return caller_path(text, who) if text is not None else None

    return Verify(caller_path(found.image, who), path(found.key), path(found.allowed_signers))


def _pins(argv: list[str], _who: Caller) -> Pins:
    parser = Parser("pins", "Print what comes from outside: versions and hashes of locks/.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--update",
        action="store_true",
        help="renew the locks of this checkout, show the difference",
    )
    what.add_argument(
        "--installed",
        action="store_true",
        help="print the Debian packages of this project's container images instead",
    )
    add_log_format(parser)
    found = parser.parse_args(argv)
    return Pins(found.update, found.installed, found.log_format)


def _clean(argv: list[str], _who: Caller) -> Clean:
    parser = Parser("clean", "Remove binfmt entries, containers and networks of dead runs.")
    parser.add_argument("--all", action="store_true", help="those of living runs, too")
    add_log_format(parser)
    found = parser.parse_args(argv)
    return Clean(found.all, found.log_format)


def _doctor(argv: list[str], who: Caller) -> Doctor:
    parser = Parser("doctor", "Tell what a run would find on this Docker host. Nothing is built.")
    parser.add_argument("--privileges", action="store_true", help="what each container may do")
    parser.add_argument("--system", choices=sorted(DEBIAN_ARCHITECTURES), help="what to build for")
    parser.add_argument("--emulation", choices=typing.get_args(Emulation), default="auto")
    add_log_format(parser)
    found = parser.parse_args(argv)
    demo = ["--emulation", found.emulation, *(["--system", found.system] if found.system else [])]
    return Doctor(_demo(demo, who), found.privileges, found.log_format)


def _formats(argv: list[str], _who: Caller) -> Formats:
    parser = Parser("formats", "Print the formats that NixOS images can have, or some of them.")
    parser.add_argument("names", nargs="*", metavar="NAME")
    return Formats(tuple(parser.parse_args(argv).names))
