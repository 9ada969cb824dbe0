"""The one door to other programs: how they are started, awaited, ended and told of.

Each program gets a process group of its own. Whatever ends the wait for it, a signal, a limit or
another error, ends the whole group: nothing that it has started goes on.
"""

import contextlib
import dataclasses
import math
import os
import pathlib
import shlex
import shutil
import signal
import subprocess  # noqa: TID251 - this is the door
import time
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence

#: What a stream of a program can be, beside an open file or its number.
PIPE = subprocess.PIPE
NOTHING = subprocess.DEVNULL
WITH_STDOUT = subprocess.STDOUT

#: A started program whose streams are bytes.
Process = subprocess.Popen[bytes]

type Word = str | os.PathLike[str]
type Stream = int | typing.IO[typing.Any]

#: In place of a secret.
REDACTED = "***"

#: How often (seconds) a program's `watch` is asked.
WATCH_SECONDS = 20.0


@dataclasses.dataclass(frozen=True)
class Done:
    """A program that has ended: `code` is its exit code, or minus the signal that killed it.

    `stdout` and `stderr` are what was kept of it (empty where they went elsewhere), `shown` is the
    command line quoted for a shell, without secrets, `seconds` is how long it took.
    """

    shown: str
    code: int
    stdout: bytes
    stderr: bytes
    seconds: float
    secrets: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """`stdout` as text."""
        return self.stdout.decode(errors="replace")

    @property
    def lines(self) -> list[str]:
        """Lines of `stderr`, or of `stdout` if it is empty; no empty lines, no secrets."""
        said = _redacted((self.stderr or self.stdout).decode(errors="replace"), self.secrets)
        return [line.strip() for line in said.splitlines() if line.strip()]

    @property
    def last(self) -> str:
        """The last of `lines`; the exit code where there is none."""
        return self.lines[-1] if self.lines else _ending(self.code)

    @property
    def reason(self) -> str:
        """The first of `lines` that is no warning: what follows only tells what stopped by it."""
        return next((line for line in self.lines if "arning" not in line), self.last)


class CommandError(Exception):
    """A program could not be started or has failed; `errno` says why it could not be started."""

    def __init__(self, message: str, errno: int = 0) -> None:
        """`message` is one line."""
        super().__init__(message)
        self.errno = errno


class SlowCommandError(CommandError):
    """A program was ended because it took too long."""


type Fails = Callable[[str], Exception]


def resolve(program: Word) -> str:
    """The absolute path of `program`, looked up in PATH; raises `CommandError` without one."""
    path = shutil.which(program)
    if not path:
        raise CommandError(f"{os.fspath(program)} is not installed here")
    return os.path.abspath(path)  # noqa: PTH100 - a link keeps its name, by which programs differ


def run(
    command: Sequence[Word],
    *,
    stdin: bytes | Stream = NOTHING,
    stdout: Stream = PIPE,
    stderr: Stream = PIPE,
    variables: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
    timeout: float = math.inf,
    check: bool = True,
    fails: Fails = CommandError,
    secrets: Sequence[str] = (),
    watch: Callable[[], None] | None = None,
    watch_seconds: float = WATCH_SECONDS,
) -> Done:
    """Run `command` to its end.

    `stdin` is what it reads, `variables` are added to its environment, open `descriptors` stay open
    in it. Raises `fails` (by itself a
    `CommandError`) for what cannot be started and, with `check`, for an exit code that is not 0, in
    the words of `Done.last`. After `timeout` seconds the program is killed: that is a
    `SlowCommandError`, or what `fails` makes of it. `watch` is called now and then meanwhile; what
    it raises ends the program. No word of `secrets` gets into an error.
    """
    given = stdin if isinstance(stdin, bytes) else None
    shown = quoted(command, secrets)
    began = time.monotonic()
    try:
        process = start(
            command,
            stdin=PIPE if given is not None else typing.cast("Stream", stdin),
            stdout=stdout,
            stderr=stderr,
            variables=variables,
            descriptors=descriptors,
        )
        with ending(process):
            out, err = _await(process, given, began + timeout, shown, watch, watch_seconds)
    except CommandError as error:
        if fails is CommandError:
            raise
        raise fails(str(error)) from error
    seconds = time.monotonic() - began
    done = Done(shown, process.returncode, out or b"", err or b"", seconds, tuple(secrets))
    if check and done.code != 0:
        if fails is CommandError:  # nobody tells it in words of theirs
            raise CommandError(f"{shown}: {done.last} ({_ending(done.code)}, {seconds:.1f} s)")
        name = _name(command)
        raise fails(f"{name}: {done.last.removeprefix(f'{name}: ')}")
    return done


def run_attached(command: Sequence[Word], *, stdout: Stream | None = None) -> int:
    """Run `command` on this process' own terminal and streams; returns its exit code.

    It stays in this process group, which is the terminal's.
    """
    path = resolve(command[0])
    return subprocess.run(list(command), executable=path, stdout=stdout, check=False).returncode


def start(
    command: Sequence[Word],
    *,
    stdin: Stream = NOTHING,
    stdout: Stream = NOTHING,
    stderr: Stream | None = PIPE,
    variables: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
) -> Process:
    """Start `command` in a process group of its own; the caller uses its streams meanwhile.

    A `stderr` of None is this process' own, open `descriptors` stay open in it. Raises
    `CommandError` if the program cannot be started. Goes with `ending` or `kill`.
    """
    path = command[0] if os.sep in os.fspath(command[0]) else resolve(command[0])
    try:
        return subprocess.Popen(
            list(command),
            executable=path,
            bufsize=0 if stdin == PIPE else -1,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, **(variables or {})},
            start_new_session=True,
            pass_fds=descriptors,
        )
    except OSError as error:
        cause = f"{_name(command)} cannot be started: {error.strerror}"
        raise CommandError(cause, error.errno or 0) from error


@contextlib.contextmanager
def ending(process: Process) -> Iterator[Process]:
    """`process`, whose streams are closed and whose end is awaited after a `with` block.

    It is killed with its group if the block raises.
    """
    try:
        yield process
        _close(process)  # or it might wait for somebody to read
        process.wait()
    except BaseException:
        kill(process)
        raise
    finally:
        _close(process)


def _close(process: Process) -> None:
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def rest(process: Process, seconds: float) -> bytes | None:
    """Close the stdin of `process`, then return what it says on stderr until its end.

    None if it has not ended after `seconds`.
    """
    try:
        return process.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        return None


def kill(process: Process) -> None:
    """End `process` and all that it has started, and wait for its end."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def quoted(command: Sequence[Word], secrets: Sequence[str] = ()) -> str:
    """`command` as a shell would take it, on one line, without `secrets`."""
    return " ".join(
        shlex.quote(_redacted(os.fspath(word), secrets)).replace("\n", "\\n") for word in command
    )


def _await(
    process: Process,
    given: bytes | None,
    until: float,
    shown: str,
    watch: Callable[[], None] | None,
    watch_seconds: float,
) -> tuple[bytes | None, bytes | None]:
    began = time.monotonic()
    while True:
        left = until - time.monotonic()
        step = min(left, watch_seconds) if watch else left
        try:
            return process.communicate(given, timeout=None if step == math.inf else max(step, 0))
        except subprocess.TimeoutExpired:
            if time.monotonic() >= until:
                took = f"{shown} did not end within {until - began:.0f} s"
                raise SlowCommandError(took) from None
            if watch:
                watch()


def _name(command: Sequence[Word]) -> str:
    return pathlib.PurePath(command[0]).name


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by signal {-code}"


def _redacted(text: str, secrets: Sequence[str]) -> str:
    for secret in filter(None, secrets):
        text = text.replace(secret, REDACTED)
    return text
