"""From what was asked and what the host is to what will be done.

Pure: no Docker, no clock, no environment.
"""

import dataclasses
import typing

from orchestrator.agents.formats import FORMATS, impossible
from orchestrator.agents.systems import RUNS_TOO, foreign_system
from orchestrator.errors import EmulationError, HostError, UsageError
from orchestrator.host import HostFacts
from orchestrator.request import Demo

MIB = 1 << 20

#: What a run of the demo writes at most, measured on a cold start with margin: /nix, the image, the
#: boot check's copy.
DEMO_DATA_BYTES = 1024 * MIB
DEMO_OUT_BYTES = 160 * MIB

Mode = typing.Literal["native", "host", "shared"]

#: The three containers of a shared run, in the order in which they start.
SHARED_SERVICES = ("cleanup", "registrar", "builder")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What will happen: containers in starting order, which emulation and why.

    `ran_before` says that the target's programs ran on this host before anything was registered.
    """

    system: str
    mode: Mode
    reason: str
    services: tuple[str, ...]
    guest: str
    boot: bool
    kvm: bool
    ran_before: bool

    @property
    def images(self) -> tuple[str, ...]:
        """Services whose images the build needs; `boot` is built meanwhile."""
        return tuple(name for name in self.services if name != "registrar")  # it shares cleanup's

    def describe(self) -> str:
        """The plan for a person (`--dry-run`)."""
        lines = [f"system     {self.system}", f"emulation  {self.mode}: {self.reason}"]
        lines += [f"container  {name}" for name in self.services]
        lines += (
            [f"boot       {self.guest} ({'KVM if it works, else TCG' if self.kvm else 'TCG'})"]
            if self.boot
            else []
        )
        return "\n".join(lines)


def make_plan(request: Demo, facts: HostFacts) -> Plan:
    """Decide what to do.

    Raises `HostError` for too little disk, `EmulationError` for a mode that this host cannot have.
    """
    system = target_system(request, facts.system)
    check_space(facts)
    mode, reason = _emulation(request, facts, system)
    return Plan(
        system=system,
        mode=mode,
        reason=reason,
        services=SHARED_SERVICES if mode == "shared" else ("builder",),
        guest=system.partition("-")[0],
        boot=request.boot,
        kvm=system == facts.system,
        ran_before=system in facts.runs,
    )


def target_system(request: Demo, native: str) -> str:
    """What is built for.

    Where none is asked for, the format's own system, or the one foreign to `native` if that can
    have it. Raises `UsageError` for a format that the system cannot have.
    """
    form = FORMATS[request.format]
    table = request.image.partition_table or form.partition_table
    asked = request.system or form.system
    why = ""
    for system in [asked] if asked else [foreign_system(native), native]:
        if not (why := impossible(system, form, table)):
            return system
    raise UsageError(f"--format {request.format}: {why}")


def check_space(facts: HostFacts) -> None:
    """Refuse to start what cannot end: both disks, each with its numbers."""
    places = (
        ("Docker's data", facts.data_free, DEMO_DATA_BYTES, "free some (docker system df)"),
        (
            "the output folder",
            facts.out_free,
            DEMO_OUT_BYTES,
            "free some, or choose another with -o",
        ),
    )
    for name, free, needed, hint in places:
        if free is not None and free < needed:
            message = (
                f"the disk of {name} has {free // MIB} MiB free, the demo needs {needed // MIB} MiB"
            )
            raise HostError(message, hint=hint)


def _emulation(request: Demo, facts: HostFacts, system: str) -> tuple[Mode, str]:
    native = system == facts.system or system in RUNS_TOO.get(facts.system, frozenset())
    runs = system in facts.runs
    match request.emulation:
        case "auto" if native:
            return "native", f"{facts.system} runs {system} programs by itself"
        case "auto" if runs:
            return "host", f"the host runs {system} programs already"
        case "auto":
            return "shared", f"{system} programs do not run here yet"
        case "native" if native:
            return "native", "asked for"
        case "native":
            raise EmulationError(
                f"--emulation native: this host is {facts.system}, the target {system}"
            )
        case "host" if runs:
            return "host", "asked for"
        case "host":
            raise EmulationError(f"--emulation host: {system} programs do not run on this host")
        case "shared" if native:
            raise EmulationError(
                f"--emulation shared: {facts.system} runs {system} programs by itself"
            )
    return "shared", "asked for"
