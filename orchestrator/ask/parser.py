"""What the parsers of our verbs share."""

import argparse
import difflib
import functools
import os
import pathlib
import re
import typing

from orchestrator.agents.emulation import ladder
from orchestrator.ask.request import AUTO, Caller, Emulation, LogFormat
from orchestrator.shared.errors import UsageError
from orchestrator.shared.json_reader import UNUSABLE

#: What Docker makes of bytes that are no UTF-8.
LOST = "\N{REPLACEMENT CHARACTER}"


#: Width of the help: it is a file (docs/help), which is the same on each terminal.
HELP_COLUMNS = 80


class Parser(argparse.ArgumentParser):
    """argparse, but wrong arguments are an error of ours, with a did-you-mean.

    And options are not abbreviated. What it finds has `help_of`: the command that prints its help.
    """

    def __init__(self, verb: str, description: str, epilog: str = "") -> None:
        """The parser of the words after `verb`."""
        super().__init__(
            prog=f"./run.sh {verb}",
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=functools.partial(
                argparse.RawDescriptionHelpFormatter, width=HELP_COLUMNS
            ),
        )
        self.set_defaults(help_of=f"{self.prog} --help")

    def error(self, message: str) -> typing.NoReturn:
        """Raise a `UsageError`."""
        hint = f"{self.prog} --help"
        if message.startswith("unrecognized arguments: "):
            wrong = message.removeprefix("unrecognized arguments: ").split()[0]
            known = [option for action in self._actions for option in action.option_strings]
            near = difflib.get_close_matches(wrong.partition("=")[0], known, n=1)
            hint = f"did you mean {near[0]}?" if near else hint
        raise UsageError(message, hint=hint)


def add_run_arguments(parser: Parser, *, timeout: float) -> None:
    """What can be said of any run that makes images; `timeout` is its default in seconds."""
    parser.add_argument(
        "-o", "--out", metavar="DIR", default="out", help="where images go (default: ./out)"
    )
    parser.add_argument("--emulation", choices=typing.get_args(Emulation), default="auto")
    parser.add_argument(
        "--qemu",
        choices=[*ladder.rungs(), AUTO],
        default="",
        metavar="VERSION|auto",
        help="emulators of another version of those that ./run.sh version prints (default: the"
        " first); auto: where a build crashes, try the next version once",
    )
    parser.add_argument(
        "--locked",
        action="store_true",
        help="fail where a pinned package is gone, take no successor",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="fail where Nix' sandbox is not to be had, do not build without",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan, make nothing")
    parser.add_argument(
        "--memory",
        type=mebibytes,
        metavar="SIZE",
        default=0,
        help="the builder's limit (default: nine tenths of what Docker has)",
    )
    parser.add_argument(
        "--sign", metavar="FILE", help="sign the images' checksums with this private SSH key"
    )
    add_times(
        parser,
        ("emulation", 60, "foreign programs run"),
        ("boot", 300, "the image is ready"),
    )
    parser.add_argument(
        "--timeout", type=seconds, metavar="SECONDS", default=timeout, help="for the whole run"
    )


def run_arguments(found: argparse.Namespace, who: Caller) -> dict[str, typing.Any]:
    """What `add_run_arguments` has found, as fields of an `ImageRequest`."""
    if found.qemu and found.emulation in {"host", "native"}:
        raise UsageError(
            f"--qemu {found.qemu}: --emulation {found.emulation} uses none of these",
            hint="leave out one of them",
        )
    names = (
        *("emulation", "qemu", "locked", "strict", "dry_run", "memory"),
        *("emulation_timeout", "boot_timeout", "timeout"),
    )
    fields = {name: getattr(found, name) for name in names}
    sign = caller_path(found.sign, who) if found.sign is not None else None
    return {
        **fields,
        "out": caller_path(found.out, who),
        "sign": sign,
        "log_format": found.log_format,
    }


def add_times(parser: Parser, *times: tuple[str, float, str]) -> None:
    """Options for how long to wait: name, default in seconds, for what."""
    for name, default, until in times:
        text = f"how long to wait until {until} (default: {default:.0f})"
        parser.add_argument(
            f"--{name}-timeout", type=seconds, metavar="SECONDS", default=float(default), help=text
        )


def add_log_format(parser: Parser) -> None:
    """The option that every verb has which says what it does."""
    parser.add_argument("--log-format", choices=typing.get_args(LogFormat), default="auto")


def seconds(text: str) -> float:
    """A time that is a time."""
    found = float(text)
    if not 0 < found < float("inf"):
        raise ValueError
    return found


def mebibytes(text: str) -> int:
    """A size as make-disk-image takes it: MiB, or with a suffix."""
    match = re.fullmatch(r"([0-9]+)([KMGT]?)(?:i?B)?", text)
    if not match:
        raise ValueError
    # Rounded up: what was asked for must fit.
    size = -(
        -int(match[1]) * {"K": 1, "": 1024, "M": 1024, "G": 1 << 20, "T": 1 << 30}[match[2]] // 1024
    )
    if not 0 < size < 1 << 24:
        raise ValueError
    return size


def caller_path(text: str, who: Caller) -> pathlib.PurePosixPath:
    """An absolute path on the caller's host, without `..`: it becomes a name in a tar stream.

    Raises `UsageError` for one that would not arrive as it is, or not stay in one line.
    """
    if not text:
        raise UsageError("an empty path", hint="name a file or folder")
    path = os.path.normpath(who.cwd / text)
    if UNUSABLE.search(path) or LOST in path:
        raise UsageError(
            f"{path!r}: a path with control characters, or not in UTF-8",
            hint="rename it, or its folder",
        )
    return pathlib.PurePosixPath(f"/{path.lstrip('/')}")  # two slashes at the start stay two
