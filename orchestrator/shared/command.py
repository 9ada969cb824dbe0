"""The only module that starts other programs: it starts, awaits, kills and logs them.

Each program gets its own process group. If the wait for it ends early (a signal, a time limit, an
exception), the whole group is killed, with everything that the program has started.
"""

import contextlib
import dataclasses
import math
import os
import pathlib
import shlex
import shutil
import signal
import subprocess  # noqa: TID251 - the only module that may
import time
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence

#: Values for a program's stream, besides an open file or a file descriptor.
PIPE = subprocess.PIPE
NOTHING = subprocess.DEVNULL
WITH_STDOUT = subprocess.STDOUT

#: A started program with binary streams.
Process = subprocess.Popen[bytes]

type Word = str | os.PathLike[str]
type Stream = int | typing.IO[typing.Any]

#: Text that replaces a secret in output.
REDACTED = "***"

#: Default interval in seconds between two calls of `watch`, an argument of `run`.
WATCH_SECONDS = 20.0


@dataclasses.dataclass(frozen=True)
class Done:
    """Result of a program: `code` is its exit code, or minus the signal that killed it.

    `stdout` and `stderr` are its captured output (empty if they were redirected), `shown` is the
    command line quoted for a shell, without secrets, `seconds` its duration.
    """

    shown: str
    code: int
    stdout: bytes
    stderr: bytes
    seconds: float
    secrets: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The program's stdout as text."""
        return self.stdout.decode(errors="replace")

    @property
    def lines(self) -> list[str]:
        """Lines of `stderr`, or of `stdout` if `stderr` is empty; no empty lines, no secrets."""
        said = _redacted((self.stderr or self.stdout).decode(errors="replace"), self.secrets)
        return [line.strip() for line in said.splitlines() if line.strip()]

    @property
    def last(self) -> str:
        """The last of `lines`, or the exit code if there are none."""
        return self.lines[-1] if self.lines else _ending(self.code)

    @property
    def reason(self) -> str:
        """The first of `lines` that is not a warning: later lines are usually its consequences."""
        return next((line for line in self.lines if "arning" not in line), self.last)


class CommandError(Exception):
    """A program failed (then `errno` is 0) or could not be started (then `errno` says why)."""

    def __init__(self, message: str, errno: int = 0) -> None:
        """`message` is one line."""
        super().__init__(message)
        self.errno = errno


class SlowCommandError(CommandError):
    """A program was killed at its time limit."""


type Fails = Callable[[str], Exception]


def resolve(program: Word) -> str:
    """Return the absolute path of `program` from PATH; raises `CommandError` if there is none."""
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
    """Run `command` and wait for its end.

    `stdin` is its input, `variables` are added to its environment, file `descriptors` are
    inherited. Raises `fails` (default: `CommandError`) if the program cannot be started and, with
    `check`, if its exit code is not 0; the message has `Done.last`. After `timeout` seconds the
    program is killed and `fails` (default: `SlowCommandError`) is raised. `watch` is called every
    `watch_seconds`; an exception from it kills the program. `secrets` are removed from error
    messages.
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
        if fails is CommandError:  # the caller does not add context: name the whole command
            raise CommandError(f"{shown}: {done.last} ({_ending(done.code)}, {seconds:.1f} s)")
        name = _name(command)
        raise fails(f"{name}: {done.last.removeprefix(f'{name}: ')}")
    return done


def run_attached(command: Sequence[Word], *, stdout: Stream | None = None) -> int:
    """Run `command` with this process' terminal and streams; returns its exit code.

    The program stays in this process group, because only the terminal's foreground group gets
    Ctrl-C.
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
    """Start `command` in its own process group and return while it runs.

    With `stderr` None the program inherits stderr; file `descriptors` are inherited. Raises
    `CommandError` if the program cannot be started. The caller must use `ending` or `kill`.
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
    """After the `with` block, close the streams of `process` and wait for its end.

    If the block raises, the process group is killed.
    """
    try:
        yield process
        _close(process)  # an open pipe could block the program for ever
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
    """Close the stdin of `process`, wait for its end, and return its stderr.

    Returns None if the process still runs after `seconds`.
    """
    try:
        return process.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        return None


def kill(process: Process) -> None:
    """Kill the process group of `process` and wait for its end."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def quoted(command: Sequence[Word], secrets: Sequence[str] = ()) -> str:
    """Quote `command` for a shell, on one line, without `secrets`."""
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
