"""The orchestrator's entry: one request, one exit code; the one place that tells an error."""

import os
import shutil
import signal
import sys
import time
import traceback
import types
import typing

from orchestrator.ask import cli, uploads
from orchestrator.ask.request import (
    Boot,
    Build,
    Caller,
    Clean,
    Compose,
    Demo,
    Doctor,
    Formats,
    Pins,
    Request,
    Test,
    Verify,
)
from orchestrator.deliver import stream
from orchestrator.docker.workspace import make_shared
from orchestrator.shared.errors import (
    ApplianceError,
    BugError,
    InterruptedRunError,
    TerminatedRunError,
)
from orchestrator.shared.text import plain

if typing.TYPE_CHECKING:
    from orchestrator.shared.progress import Progress


def main() -> int:
    """Handle one command line; returns the exit code."""
    # Whatever prints must not get into the stream that carries the image: that gets a descriptor of
    # its own.
    stream = os.dup(1)
    os.dup2(2, 1)
    began = time.monotonic()
    who = cli.caller(os.environ)
    argv = sys.argv[1:]
    preparing = argv[:1] == ["prepare"]
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if argv == ["receive"]:
            _receive(who)
            return 0
        request = cli.parse(argv[1:] if preparing else argv, who)
        if preparing:
            os.write(stream, cli.script(request, who).encode())
            return 0
        return _work(request, who, stream, began)
    except SystemExit as end:  # --help, which is told once
        if preparing:
            os.write(stream, b"exit 0\n")
        if isinstance(end.code, str):
            sys.stderr.write(end.code)
            return 0
        return end.code or 0
    except ApplianceError as error:
        tell(error)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the last place that can tell it
        tell(
            BugError(
                f"a bug: {error!r}",
                detail=traceback.format_exc(),
                hint="please report it with the lines above",
            )
        )
        return BugError.exit_code


def tell(error: ApplianceError) -> None:
    """Detail first, so that the line that counts is the last one but the hint.

    What others have said may be in it: none of it steers the terminal.
    """
    if error.detail:
        sys.stderr.write(f"{plain(error.detail)}\n")
    sys.stderr.write(f"error: {plain(str(error))}\n")
    if error.hint:
        sys.stderr.write(f"try: {plain(error.hint)}\n")


def _work(request: Request, who: Caller, stream: int, began: float) -> int:
    """Do what was asked. The heavy imports are here: `prepare` must be quick."""
    sent = os.environ.get("NIXOS_IMAGE_INPUT") == "1"
    if sent and not isinstance(request, Build | Verify):
        _receive(who)
    match request:
        case Compose():
            _compose(request, stream)
        case Formats():
            from orchestrator.shared import nixos_formats

            table = nixos_formats.read_formats()
            table = nixos_formats.chosen(request.names, table)
            text = nixos_formats.names(table) if request.brief else nixos_formats.describe(table)
            os.write(stream, text.encode())
            return 0
        case Test():
            return _test(request, who, stream)
        case Verify():
            from orchestrator.deliver.verify import verify

            sys.stderr.write(verify(request, sys.stdin.buffer))
            return 0
        case Pins(update=False):
            from orchestrator.verbs import verbs

            os.write(stream, verbs.pins(request, who).encode())
            return 0
        case Boot(print_command=True):
            from orchestrator.verbs import verbs

            os.write(stream, verbs.print_command(request, who).encode())
            return 0
    from orchestrator.shared.progress import make_progress

    progress = make_progress(request.log_format, who.columns)
    try:
        if sent and isinstance(request, Build):  # folders may be large
            with progress.stage("receive", "what is sent"):
                _receive(who)
        match request:
            case Demo() | Build():
                _images(request, who, progress, stream, began)
            case Boot():
                from orchestrator.verbs.verbs import boot

                boot(request, who, progress)
            case Doctor():
                from orchestrator.verbs.verbs import doctor

                os.write(stream, doctor(request, who, progress).encode())
            case Pins():
                from orchestrator.verbs.verbs import update_pins

                update_pins(who, progress, stream)
            case Clean():
                from orchestrator.verbs.verbs import clean

                clean(request, who, progress)
    finally:
        progress.close()
    return 0


def _receive(who: Caller) -> None:
    """Unpack what run.sh sends into the run's folder, which nobody else can look into yet."""
    folder = make_shared(who.run)
    try:
        stream.receive(uploads.input_folder(who))
        uploads.trees(who)  # comes last: nothing is missing
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _images(
    request: Demo | Build, who: Caller, progress: "Progress", stream: int, began: float
) -> None:
    from orchestrator.run.make_images import images

    try:
        images(request, who, progress, stream)
    finally:
        if progress.seconds:
            times = ", ".join(f"{name} {seconds:.1f}" for name, seconds in progress.seconds.items())
            progress.say(
                f"seconds: {times}; total {time.monotonic() - began:.1f}",
                fields={"seconds": progress.seconds},
            )


def _compose(request: Compose, stream: int) -> typing.NoReturn:
    """Become `docker compose`; before `down`, nothing of ours may be alive or registered."""
    from orchestrator.verbs import verbs

    if request.arguments[0] == "down":
        verbs.forget_everything()
    _become(verbs.compose_command(request.arguments), stream)


def _test(request: Test, who: Caller, stream: int) -> int:
    from orchestrator.verbs import verbs

    return verbs.test(request, who, stream)


def _become(command: list[str], stream: int) -> typing.NoReturn:
    """Replace this process, so that signals and the exit code are those of `command`."""
    os.dup2(stream, 1)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_DFL)
    # The run's name is this container's; what Compose starts here is not part of it.
    environment = {name: value for name, value in os.environ.items() if name != "NIXOS_IMAGE_RUN"}
    os.execve(command[0], command, environment)  # noqa: S606 - a command of our own


def _interrupt(number: int, _frame: types.FrameType | None) -> None:
    """A signal takes the error's path: everything is taken down. A second one changes nothing."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise InterruptedRunError("interrupted")
    raise TerminatedRunError("terminated")


if __name__ == "__main__":
    try:
        code = main()
        sys.stderr.flush()
    except ApplianceError as error:  # a signal while another error was told
        code = error.exit_code
    # Not sys.exit: a `docker build` in a background thread would be waited for. It ends with this
    # container.
    os._exit(code)
