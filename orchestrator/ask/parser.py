"""Shared by the parsers of all verbs: options and types."""

import argparse
import difflib
import functools
import os
import pathlib
import re
import textwrap
import typing
from collections.abc import Sequence

from orchestrator.agents.emulation import ladder
from orchestrator.ask.request import AUTO, Caller, Emulation
from orchestrator.shared.display import Display, Style
from orchestrator.shared.errors import UsageError
from orchestrator.shared.json_reader import TOO_LARGE_MIB, UNUSABLE

if typing.TYPE_CHECKING:
    from _typeshed import SupportsWrite

#: Character that Docker substitutes for bytes that are not UTF-8.
LOST = "\N{REPLACEMENT CHARACTER}"

#: Beginning of an option; a number may be negative.
OPTION = re.compile("--?[A-Za-z]")

#: Attribute of a namespace while options are parsed: what was given already.
GIVEN = "given already"

#: Lines of a usage at most: a longer one says no more than the list of options below it.
USAGE_LINES = 6


#: Width of help texts: they are files (docs/help) and do not depend on the terminal.
HELP_COLUMNS = 80


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Breaks no name at its hyphens: names are copied from the help."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


class _Once(argparse.Action):
    """Stores an option's value; a second, other one is an error: the first would be dropped."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Store the value."""
        given: set[str] = vars(namespace).setdefault(GIVEN, set())
        if option_string and self.dest in given and getattr(namespace, self.dest) != values:
            parser.error(f"{'/'.join(self.option_strings)}: given twice, but only one value counts")
        given.add(self.dest)
        setattr(namespace, self.dest, values)


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises `UsageError`, with a suggestion for a misspelled option.

    Options cannot be abbreviated. One that takes a single value cannot be given twice. The parsed
    namespace has `help_of`, the command that prints the help.
    """

    def __init__(
        self,
        verb: str,
        description: str,
        epilog: str = "",
        examples: Sequence[tuple[str, str]] = (),
        often: Sequence[str] = (),
    ) -> None:
        """Make the parser of the arguments after `verb`.

        `examples` are pairs: arguments of ./run.sh, and what they do. They come last in the help,
        where a terminal shows them. `often` are the options on the one screen of `brief`.
        """
        self.examples = tuple(examples)
        self.often = frozenset(often)
        epilog = "\n\n".join(filter(None, [epilog, _examples(self.examples)]))
        super().__init__(
            prog=f"./run.sh {verb}",
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=functools.partial(_Formatter, width=HELP_COLUMNS),
        )
        for action in (None, "store"):
            self.register("action", action, _Once)
        self.set_defaults(help_of=f"{self.prog} --help")

    def format_help(self) -> str:
        """Return the help; of many options the usage is short, so that less scrolls by."""
        if not self.usage and len(self.format_usage().splitlines()) > USAGE_LINES:
            named = [str(one.metavar or one.dest) for one in self._get_positional_actions()]
            self.usage = " ".join(["%(prog)s [OPTIONS]", *named])
        return super().format_help()

    def brief(self) -> str:
        """Return help on one screen: of the options only those of `often`, if there are any."""
        if not self.often:
            return self.format_help()
        whole = self.format_help()  # sets the short usage
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, [], [])
        formatter.add_text(self.description)
        formatter.start_section("the options that are used most")
        formatter.add_arguments(
            [one for one in self._actions if self.often.intersection(one.option_strings)]
        )
        formatter.end_section()
        count = whole.count("\n  -")
        verb = self.prog.removeprefix("./run.sh ")
        formatter.add_text(f"All {count} options: ./run.sh help {verb}")
        formatter.add_text(self.epilog)
        return formatter.format_help()

    def print_help(self, file: "SupportsWrite[str] | None" = None) -> None:
        """Print what `--help` asks for."""
        self._print_message(self.brief(), file)

    def parse(self, words: list[str]) -> argparse.Namespace:
        """Parse `words`; raises `UsageError`.

        A misspelled option is told first: its value could count as a wrong argument.
        """
        try:
            found = self.parse_intermixed_args(words)
            vars(found).pop(GIVEN, None)
            return found
        except UsageError:
            for word in words[: words.index("--")] if "--" in words else words:
                name = word.partition("=")[0] if word.startswith("--") else word[:2]
                if OPTION.match(name) and name not in self._option_string_actions:
                    self.error(f"unrecognized arguments: {word}")
            raise

    def error(self, message: str) -> typing.NoReturn:
        """Raise a `UsageError` with argparse's `message`, where argparse would exit."""
        hint = f"{self.prog} --help"
        if message.startswith("unrecognized arguments: "):
            wrong = message.removeprefix("unrecognized arguments: ").split()[0]
            known = [option for action in self._actions for option in action.option_strings]
            near = difflib.get_close_matches(wrong.partition("=")[0], known, n=1)
            hint = f"did you mean {near[0]}?" if near else hint
            if not wrong.startswith("-"):
                hint += "; a name with blanks stands between quotes"
        raise UsageError(message, hint=hint)


def _examples(pairs: Sequence[tuple[str, str]]) -> str:
    """Return examples as aligned lines, or ""."""
    if not pairs:
        return ""
    width = max(len(words) for words, _ in pairs)
    lines = [f"  ./run.sh {words.ljust(width)}  {does}".rstrip() for words, does in pairs]
    return "\n".join(["examples:", *lines])


def add_run_arguments(parser: Parser, *, timeout: float) -> None:
    """Add the options of all verbs that make images; `timeout` is the default in seconds."""
    parser.add_argument(
        "-o",
        "--out",
        "--out-link",
        metavar="DIR",
        default="out",
        help="output folder, no link into a Nix store (default: ./out)",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace files there that no run of this project made"
    )
    parser.add_argument("--emulation", choices=typing.get_args(Emulation), default="auto")
    parser.add_argument(
        "--qemu",
        choices=[*ladder.rungs(), AUTO],
        default="",
        metavar="VERSION|auto",
        help="version of the emulators, one of those that ./run.sh version prints (default: the"
        " first); auto: if an emulator crashes, try the next version once",
    )
    parser.add_argument(
        "--locked",
        action="store_true",
        help="fail if a pinned package is gone, do not use a newer version",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="fail if Nix' sandbox is not available, do not build without it",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and make nothing")
    parser.add_argument(
        "--json", action="store_true", help="with --dry-run: print the plan as JSON on stdout"
    )
    parser.add_argument(
        "--yes", action="store_true", help="do not ask before a build that takes long or much disk"
    )
    parser.add_argument(
        "--debug-shell",
        action="store_true",
        help="if a derivation fails, open a shell in its folder, with its variables",
    )
    parser.add_argument(
        "--memory",
        type=mebibytes,
        metavar="SIZE",
        default=0,
        help="memory limit of the builder (default: nine tenths of Docker's memory)",
    )
    parser.add_argument(
        "--sign", metavar="FILE", help="sign the images' checksums with this private SSH key"
    )
    add_times(
        parser,
        ("emulation", 60, "programs of another architecture run"),
        ("boot", 300, "the image is ready"),
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        default=timeout,
        help="time limit of the whole run",
    )


def run_arguments(found: argparse.Namespace, who: Caller) -> dict[str, typing.Any]:
    """Convert the options of `add_run_arguments` to fields of an `ImageRequest`."""
    if found.qemu and found.emulation in {"host", "native"}:
        raise UsageError(
            f"--qemu {found.qemu}: --emulation {found.emulation} has no use for it",
            hint="omit one of the two options",
        )
    if found.json and not found.dry_run:
        raise UsageError("--json: only with --dry-run", hint=found.help_of)
    names = (
        *(
            "force",
            "emulation",
            "qemu",
            "locked",
            "strict",
            "dry_run",
            "debug_shell",
            "yes",
            "memory",
        ),
        *("emulation_timeout", "boot_timeout", "timeout"),
    )
    fields = {name: getattr(found, name) for name in names}
    sign = caller_path(found.sign, who) if found.sign is not None else None
    return {
        **fields,
        "out": caller_path(found.out, who),
        "sign": sign,
        "as_json": found.json,
        "display": display(found),
    }


def add_times(parser: Parser, *times: tuple[str, float, str]) -> None:
    """Add timeout options; each of `times` is name, default in seconds, awaited event."""
    for name, default, until in times:
        text = f"how long to wait until {until} (default: {default:.0f})"
        parser.add_argument(
            f"--{name}-timeout", type=seconds, metavar="SECONDS", default=float(default), help=text
        )


def add_display_options(parser: Parser) -> None:
    """Add the options of `Display`, for verbs that show progress."""
    parser.add_argument(
        "--progress",
        "--log-format",
        dest="progress",
        choices=typing.get_args(Style),
        default="auto",
        help="how progress is shown (default: live on a terminal, else plain lines)",
    )
    detail = parser.add_mutually_exclusive_group()
    detail.add_argument(
        "-q", "--quiet", action="store_true", help="say only warnings, errors and results"
    )
    detail.add_argument(
        "-v", "--verbose", action="store_true", help="show the log lines of builds, too"
    )


def display(found: argparse.Namespace) -> Display:
    """Convert the options of `add_display_options`."""
    return Display(
        found.progress, "quiet" if found.quiet else "verbose" if found.verbose else "normal"
    )


def seconds(text: str) -> float:
    """Parse a positive, finite number of seconds."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return found


def mebibytes(text: str) -> int:
    """Parse a size as make-disk-image does, in MiB or with a suffix; returns MiB."""
    match = re.fullmatch(r"([0-9]{1,18})([KMGT]?)(?:i?B)?", text)
    if not match:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size: a whole number of MiB, or one with K, M, G or T (512M, 8G)"
        )
    # Round up, so that the given size fits.
    size = -(
        -int(match[1]) * {"K": 1, "": 1024, "M": 1024, "G": 1 << 20, "T": 1 << 30}[match[2]] // 1024
    )
    if not 0 < size < TOO_LARGE_MIB:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 1 MiB and 16 TiB")
    return size


def mebibytes_or_auto(text: str) -> int:
    """Parse a size as `mebibytes` does; `auto` is 0."""
    return 0 if text == "auto" else mebibytes(text)


def caller_path(text: str, who: Caller) -> pathlib.PurePosixPath:
    """Make an absolute path on the caller's host, without `..`: a valid name in a tar stream.

    Raises `UsageError` for control characters and for bytes that are not UTF-8.
    """
    if not text:
        raise UsageError("a path is empty", hint="name a file or folder")
    path = os.path.normpath(who.cwd / text)
    if UNUSABLE.search(path) or LOST in path:
        raise UsageError(
            f"{path!r}: the path has control characters or is not UTF-8",
            hint="rename the file or its folder",
        )
    return pathlib.PurePosixPath(f"/{path.lstrip('/')}")  # normpath keeps two leading slashes
