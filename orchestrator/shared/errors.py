"""One tree of errors.

Each class has its exit code, each message says what failed, `hint` what to do.

`python3 -m orchestrator.shared.errors` prints the table of docs/exit-codes.md from these classes.
"""

from typing import ClassVar


class ApplianceError(Exception):
    """The base of all failures that are told in one line; never raised itself."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", detail: str = "") -> None:
        """`message` is one line, `hint` the way out.

        `detail` more lines where they help (the end of a log).
        """
        super().__init__(message)
        self.hint = hint
        self.detail = detail


class UsageError(ApplianceError):
    """The command line or an input file is wrong; nothing was built."""

    exit_code = 2


class DockerError(ApplianceError):
    """Docker is missing, not running, not permitted, or failed at a command."""

    exit_code = 3


class HostError(ApplianceError):
    """The host cannot do it: too little disk or memory, an unsupported architecture, no sandbox."""

    exit_code = 4


class EmulationError(ApplianceError):
    """Foreign programs could not be made to run."""

    exit_code = 5


class BuildError(ApplianceError):
    """Nix failed: a derivation, the evaluation, or the builder itself."""

    exit_code = 6


class AssemblyError(ApplianceError):
    """The image could not be put together."""

    exit_code = 7


class DeliveryError(ApplianceError):
    """The image could not be handed over: disk full, connection lost, checksum wrong."""

    exit_code = 8


class BootError(ApplianceError):
    """The image was delivered, but did not boot or let its key in, or could not be tried."""

    exit_code = 9


class CleanupError(ApplianceError):
    """The host could not be proved to be as it was."""

    exit_code = 10


class NetworkError(ApplianceError):
    """Something outside could not be reached."""

    exit_code = 11


class TimeLimitError(ApplianceError):
    """A deadline passed."""

    exit_code = 12


class EmulatorCrashError(ApplianceError):
    """A build's emulator crashed or lacks a system call; another version may do (`--qemu`)."""

    exit_code = 13


class VerificationError(ApplianceError):
    """What lies beside an image is not of it: checksum, SBOM, provenance or signature."""

    exit_code = 14


class StoreError(ApplianceError):
    """Something has changed what the builder's store holds, and Nix cannot make it again."""

    exit_code = 15


class BugError(ApplianceError):
    """A fault of the appliance itself: a traceback is in the log."""

    exit_code = 70


class InterruptedRunError(ApplianceError):
    """Stopped by SIGINT (Ctrl-C)."""

    exit_code = 130


class TerminatedRunError(ApplianceError):
    """Stopped by SIGTERM."""

    exit_code = 143


#: A signal is told once: what goes on after other failures has to let these through.
STOPPED = (InterruptedRunError, TerminatedRunError)

#: What agents call a failure (`kind` of their `failed` event), and the error that it becomes.
KINDS: dict[str, type[ApplianceError]] = {
    "assembly": AssemblyError,
    "boot": BootError,
    "build": BuildError,
    "cleanup": CleanupError,
    "disk": HostError,
    "emulation": EmulationError,
    "emulator": EmulatorCrashError,
    "failed": BuildError,
    "host": HostError,
    "memory": HostError,
    "network": NetworkError,
    "store": StoreError,
    "usage": UsageError,
}


def failure(kind: type[ApplianceError], event: dict[str, object]) -> ApplianceError:
    """An error of `kind` from an agent's `failed` event."""
    return kind(
        str(event.get("message", "")),
        hint=str(event.get("hint", "")),
        detail=str(event.get("detail", "")),
    )


def leaves() -> list[type[ApplianceError]]:
    """All error classes that are raised, by exit code."""
    return sorted(ApplianceError.__subclasses__(), key=lambda kind: kind.exit_code)


def table() -> str:
    """The exit codes as a Markdown table."""
    rows = [f"| {kind.exit_code} | `{kind.__name__}` | {kind.__doc__} |" for kind in leaves()]
    success = "| 0 | | the image was delivered and, unless `--no-boot`, booted |"
    head = ["| code | error | meaning |", "| --- | --- | --- |", success]
    return "\n".join([*head, *rows]) + "\n"


if __name__ == "__main__":
    print(table(), end="")
