"""All errors of the appliance, with exit codes.

Each class has its own exit code. A message says what failed; `hint` says what to do; `code` is a
row of errors.toml (`codes.py`).

`python3 -m orchestrator.shared.errors` prints the table of docs/exit-codes.md from these classes.
"""

import re
from typing import ClassVar


class ToldError(Exception):
    """An error with what its reader is told; agents raise it as `AgentError`."""

    #: The fields beside the message. Each is a text, "" if there is nothing to tell.
    FIELDS: ClassVar = ("hint", "detail", "code", "excerpt", "trace")

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        detail: str = "",
        code: str = "",
        excerpt: str = "",
        trace: str = "",
    ) -> None:
        """`message` is one line that says what failed; `hint` says what to do.

        `detail` has further lines, such as the end of a log. `code` is a row of errors.toml.
        `excerpt` are lines of the caller's file that the message is about, `trace` is Nix' own
        message.
        """
        super().__init__(message)
        self.hint = hint
        self.detail = detail
        self.code = code
        self.excerpt = excerpt
        self.trace = trace

    def told(self) -> dict[str, str]:
        """Return the fields that are not empty."""
        found = {name: str(getattr(self, name)) for name in self.FIELDS}
        return {name: text for name, text in found.items() if text}


class ApplianceError(ToldError):
    """Base class of all errors that are shown as one line; only subclasses are raised.

    `code` is by default that of the class. `stage` and `log` are set where they are known: the
    stage of the run that failed, and the path of the log on the caller's computer.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, code: str = "", **told: str) -> None:
        """Take the fields of `ToldError`."""
        super().__init__(message, code=code or self.general(), **told)
        self.stage = ""
        self.log = ""

    @classmethod
    def general(cls) -> str:
        """Return the code of the class: `EmulatorCrashError` -> `emulator-crash`.

        A class that refines another one has the other's.
        """
        name = cls.__mro__[cls.__mro__.index(ApplianceError) - 1].__name__.removesuffix("Error")
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


class UsageError(ApplianceError):
    """The command line or an input file is wrong; nothing was built."""

    exit_code = 2


class DockerError(ApplianceError):
    """Docker is missing, not running, not permitted, or a Docker command failed."""

    exit_code = 3


class HostError(ApplianceError):
    """The host is not sufficient: too little disk or memory, wrong architecture, no sandbox."""

    exit_code = 4


class EmulationError(ApplianceError):
    """Programs of another architecture cannot be run on this host."""

    exit_code = 5


class BuildError(ApplianceError):
    """Nix failed: a derivation, the evaluation, or the builder itself."""

    exit_code = 6


class AssemblyError(ApplianceError):
    """The image could not be assembled."""

    exit_code = 7


class DeliveryError(ApplianceError):
    """The image could not be delivered: disk full, connection lost, another file in its place."""

    exit_code = 8


class BootError(ApplianceError):
    """The image was delivered, but the boot check failed: no boot or no SSH login."""

    exit_code = 9


class CleanupError(ApplianceError):
    """It is not known whether the host is again as it was before the run."""

    exit_code = 10


class NetworkError(ApplianceError):
    """A server could not be reached."""

    exit_code = 11


class TimeLimitError(ApplianceError):
    """A time limit was exceeded."""

    exit_code = 12


class EmulatorCrashError(ApplianceError):
    """The emulator crashed or lacks a system call; try another version (`--qemu`)."""

    exit_code = 13


class VerificationError(ApplianceError):
    """A file beside the image does not match it: checksum, SBOM, provenance or signature."""

    exit_code = 14


class StoreError(ApplianceError):
    """Files in the builder's store were changed, and Nix cannot rebuild them."""

    exit_code = 15


class AdvisoryError(ApplianceError):
    """Packages of the appliance's images have vulnerabilities that newer versions fix."""

    exit_code = 16


class FlashError(ApplianceError):
    """The disk was not written to its end, or does not hold what was written."""

    exit_code = 17


class PushError(ApplianceError):
    """The image was delivered, but what was built is not in the binary cache of `--push`."""

    exit_code = 18


class BuilderError(ApplianceError):
    """No builder on another machine is left for a system, and nothing else builds for it."""

    exit_code = 19


class BugError(ApplianceError):
    """A bug in the appliance: a traceback is in the log."""

    exit_code = 70


class InterruptedRunError(ApplianceError):
    """Stopped by SIGINT (Ctrl-C), or by the answer no to the plan."""

    exit_code = 130


class TerminatedRunError(ApplianceError):
    """Stopped by SIGTERM."""

    exit_code = 143


#: Errors of a stop by a signal: code that continues after other errors must re-raise these.
STOPPED = (InterruptedRunError, TerminatedRunError)

#: Error class for each `kind` in an agent's `failed` event.
KINDS: dict[str, type[ApplianceError]] = {
    "assembly": AssemblyError,
    "boot": BootError,
    "build": BuildError,
    "builder": BuilderError,
    "cleanup": CleanupError,
    "disk": HostError,
    "emulation": EmulationError,
    "emulator": EmulatorCrashError,
    "failed": BuildError,
    "host": HostError,
    "memory": HostError,
    "network": NetworkError,
    "push": PushError,
    "store": StoreError,
    "usage": UsageError,
    "verification": VerificationError,
}


def failure(kind: type[ApplianceError], event: dict[str, object]) -> ApplianceError:
    """Make an error of the class `kind` from an agent's `failed` event."""
    told = {name: str(event.get(name, "")) for name in ToldError.FIELDS}
    return kind(str(event.get("message", "")), **told)


def leaves() -> list[type[ApplianceError]]:
    """All error classes, sorted by exit code."""
    return sorted(ApplianceError.__subclasses__(), key=lambda kind: kind.exit_code)


def table() -> str:
    """Return the exit codes as a Markdown table."""
    rows = [f"| {kind.exit_code} | `{kind.__name__}` | {kind.__doc__} |" for kind in leaves()]
    success = "| 0 | | the image was delivered and, unless `--no-boot`, booted |"
    head = ["| code | error | meaning |", "| --- | --- | --- |", success]
    return "\n".join([*head, *rows]) + "\n"


if __name__ == "__main__":
    print(table(), end="")
