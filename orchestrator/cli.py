"""argv and environment -> Request: the only place that reads either.

run.sh calls twice: `prepare ARGS...` checks the arguments and prints, as shell commands, what
run.sh must do on the caller's side (it alone sees the caller's files); then the same arguments
again to do the work.
"""

import argparse
import difflib
import os
import pathlib
import shlex
import typing

from orchestrator.agents import qemu
from orchestrator.agents.formats import FORMATS
from orchestrator.agents.run import WORK
from orchestrator.agents.systems import DEBIAN_ARCHITECTURES
from orchestrator.delivery import RESULT
from orchestrator.errors import UsageError
from orchestrator.image.spec import REFUSED, Firmware, FsType
from orchestrator.image_arguments import (
    DEMO_HELP,
    add_image_options,
    caller_path,
    image_options,
    mebibytes,
)
from orchestrator.request import (
    Boot,
    Caller,
    Clean,
    Compose,
    Demo,
    Emulation,
    Formats,
    LogFormat,
    Request,
    Test,
)

OURS = ("demo", "boot", "test", "clean", "formats", "help")

#: Verbs of Docker Compose 2.26, which get the rest of the command line untouched.
COMPOSE = frozenset(
    "attach build config cp create down events exec images kill logs ls pause port ps pull push"
    " restart rm run scale start stats stop top unpause up version wait watch".split()
)


class _Parser(argparse.ArgumentParser):
    """argparse, but wrong arguments are an error of ours, with a did-you-mean.

    And options are not abbreviated.
    """

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> typing.NoReturn:
        hint = f"./run.sh {self.prog} --help"
        if message.startswith("unrecognized arguments: "):
            wrong = message.removeprefix("unrecognized arguments: ").split()[0]
            known = [option for action in self._actions for option in action.option_strings]
            near = difflib.get_close_matches(wrong.partition("=")[0], known, n=1)
            hint = f"did you mean {near[0]}?" if near else hint
        raise UsageError(message, hint=hint)


def caller(environment: typing.Mapping[str, str]) -> Caller:
    """What run.sh says of the caller's side."""

    def number(name: str) -> int:
        text = environment.get(name, "")
        return int(text) if text.isdigit() else 0

    return Caller(
        cwd=pathlib.PurePosixPath(environment.get("NIXOS_IMAGE_CWD") or "/"),
        home=pathlib.PurePosixPath(environment.get("NIXOS_IMAGE_HOME") or "/"),
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
    if not argv:
        argv = ["help"]
    verb, *rest = argv
    if verb in {"help", "-h", "--help"}:
        raise SystemExit(usage())
    parsers = {"demo": _demo, "boot": _boot, "clean": _clean, "formats": _formats}
    if verb in parsers:
        return typing.cast("Request", parsers[verb](rest, who))
    if verb == "test":
        return Test(tuple(rest))
    if verb in COMPOSE or verb.startswith("-"):
        return Compose(tuple(argv))
    near = difflib.get_close_matches(verb, [*OURS, *COMPOSE], n=1)
    raise UsageError(
        f"{verb}: no such command", hint=f"did you mean {near[0]}?" if near else "./run.sh help"
    )


def usage() -> str:
    """The first help that a person sees."""
    return """\
./run.sh demo [OPTIONS]         build a small bootable system for another CPU, and boot it
./run.sh boot [--test] IMAGE    boot an image on this terminal, or check that it boots
./run.sh formats [NAME ...]     the formats of NixOS images
./run.sh clean                  remove what dead runs have left
./run.sh test [PYTEST ARGS]     run the test suite
./run.sh down --rmi all -v      remove every trace of this project
./run.sh up|ps|logs|config ...  docker compose with this project's files

Each of our verbs has --help. Exit codes: docs/exit-codes.md
"""


def script(request: Request, who: Caller) -> str:
    """What run.sh must do on the caller's side, as calls of its own functions.

    Quoted for a POSIX shell.
    """
    calls: list[list[str]] = []
    match request:
        case Demo():
            calls += [] if request.dry_run else [["out_dir", os.fspath(request.out)]]
            calls.append(
                ["send", "--ssh-key", os.fspath(request.ssh_key)]
                if request.ssh_key
                else ["send_keys"]
            )
            calls += [["send", "--inject", one.source] for one in request.image.injections]
            named = {"--stamp": request.image.stamp}
            named["--wifi-password-file"] = request.image.wifi_password_file
            calls += [["send", option, path] for option, path in named.items() if path]
        case Boot():
            calls.append(["send", "boot", os.fspath(request.image)])
            calls.append(["send_result", os.fspath(request.image.parent / RESULT)])
            if request.identity:
                calls.append(["send", "--identity", os.fspath(request.identity)])
            calls += [] if request.test else [["terminal"]]
        case Compose() | Formats() | Test():
            calls.append(["terminal"])
        case Clean():
            pass
    if who.ca_bundle:
        calls.append(["send", "SSL_CERT_FILE", who.ca_bundle])
    return "".join(f"{shlex.join(call)}\n" for call in calls)


def received(who: Caller, path: pathlib.PurePosixPath) -> pathlib.Path:
    """Where the caller's file `path` is, once run.sh has sent it."""
    return input_folder(who) / path.relative_to("/")


def input_folder(who: Caller) -> pathlib.Path:
    """Where the caller's files are, under their own paths."""
    return WORK / who.run / "input"


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
    parser = _Parser(
        prog="demo", description="Build a small bootable system, deliver it to ./out, and boot it."
    )
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
    parser.add_argument(
        "-o", "--out", metavar="DIR", default="out", help="where the image goes (default: ./out)"
    )
    parser.add_argument("--no-boot", action="store_true", help="do not boot the image afterwards")
    parser.add_argument("--emulation", choices=typing.get_args(Emulation), default="auto")
    parser.add_argument(
        "--locked",
        action="store_true",
        help="fail where a pinned package is gone, take no successor",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan, do nothing")
    _add_times(
        parser, ("emulation", 60, "foreign programs run"), ("boot", 300, "the image is ready")
    )
    parser.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS", default=6 * 3600.0, help="for the whole run"
    )
    add_image_options(parser)
    _add_log_format(parser)
    found = parser.parse_args(argv)
    if found.root_fs in REFUSED:
        raise UsageError(f"--root-fs {found.root_fs}: {REFUSED[found.root_fs]}", hint=DEMO_HELP)
    return Demo(
        system=found.system or "",
        format=found.format,
        root_fs=found.root_fs,
        ssh_key=None if found.ssh_key is None else caller_path(found.ssh_key, who),
        out=caller_path(found.out, who),
        boot=not found.no_boot,
        emulation=found.emulation,
        locked=found.locked,
        emulation_timeout=found.emulation_timeout,
        boot_timeout=found.boot_timeout,
        timeout=found.timeout,
        dry_run=found.dry_run,
        log_format=found.log_format,
        image=image_options(found, who),
    )


def _boot(argv: list[str], who: Caller) -> Boot:
    parser = _Parser(prog="boot", description="Boot a throwaway copy of an image in QEMU.")
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
        "--identity", metavar="FILE", help="private key of root's, instead of one for this check"
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
    _add_times(parser, ("boot", 300, "the image is ready"))
    _add_log_format(parser)
    found = parser.parse_args(argv)
    return Boot(
        caller_path(found.image, who),
        found.system or "",
        found.firmware or "",
        caller_path(found.identity, who) if found.identity else None,
        found.grow,
        found.run,
        found.test,
        found.boot_timeout,
        found.log_format,
    )


def _clean(argv: list[str], _who: Caller) -> Clean:
    parser = _Parser(
        prog="clean", description="Remove binfmt entries, containers and networks of dead runs."
    )
    parser.add_argument("--all", action="store_true", help="those of living runs, too")
    _add_log_format(parser)
    found = parser.parse_args(argv)
    return Clean(found.all, found.log_format)


def _formats(argv: list[str], _who: Caller) -> Formats:
    parser = _Parser(
        prog="formats", description="Print the formats that NixOS images can have, or some of them."
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    return Formats(tuple(parser.parse_args(argv).names))


def _add_times(parser: argparse.ArgumentParser, *times: tuple[str, float, str]) -> None:
    for name, default, until in times:
        text = f"how long to wait until {until} (default: {default:.0f})"
        parser.add_argument(
            f"--{name}-timeout", type=_seconds, metavar="SECONDS", default=float(default), help=text
        )


def _add_log_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log-format", choices=typing.get_args(LogFormat), default="auto")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError
    return seconds
