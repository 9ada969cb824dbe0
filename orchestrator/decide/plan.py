"""Makes the plan of a run from the request and the host's facts.

The functions are pure: no Docker, no clock, no environment.
"""

import dataclasses
import typing

from orchestrator.agents.boot import qemu
from orchestrator.ask.request import Build, Demo
from orchestrator.decide.host import HostFacts
from orchestrator.shared import nixos_formats
from orchestrator.shared.architectures import SYSTEMS, foreign_system
from orchestrator.shared.constants import MIB
from orchestrator.shared.demo_formats import FORMATS, impossible
from orchestrator.shared.errors import EmulationError, HostError, UsageError

#: Disk space that a demo run needs for Docker's data (/nix, the image, the boot check's copy) and
#: in the output folder; measured on a cold start, with margin.
DEMO_DATA_BYTES = 1024 * MIB
DEMO_OUT_BYTES = 160 * MIB

#: Least disk space for a NixOS build: nixpkgs has 450 MiB, the smallest system built so far 430
#: MiB, and its image as much again.
BUILD_DATA_BYTES = 2048 * MIB
BUILD_OUT_BYTES = 256 * MIB

#: Default memory limit of a builder, as a share of the engine's memory.
MEMORY_SHARE = 0.9

#: What a format costs that nixpkgs makes in a virtual machine: the builder has no KVM.
IN_MACHINE = "made in a virtual machine that QEMU emulates, without KVM: minutes to an hour"

Mode = typing.Literal["native", "builder", "private", "host", "shared"]

#: Containers of a run by mode, in starting order.
SERVICES: dict[Mode, tuple[str, ...]] = {
    "native": ("builder",),
    "builder": ("builder",),
    "private": ("emulators", "builder"),
    "host": ("builder",),
    "shared": ("cleanup", "registrar", "builder"),
}

#: Services that use another service's image.
SAME_IMAGE = {"registrar": "cleanup", "emulators": "cleanup"}


@dataclasses.dataclass(frozen=True)
class Plan:
    """Plan of a run: target systems, mode of emulation with its reason, containers.

    `systems` are the target systems; the registrar registers emulators for those in `register`, the
    builder for those in `private` in its own binfmt_misc; those in `natively` need no emulator, nor
    do those in `remote`, which builders on other machines build;
    programs of those in `ran_before` ran on this host before the run. `memory` is the builder's
    limit in MiB. `boot` says whether the first image is booted, `kvm` whether KVM may be tried.
    `machines` are formats that nixpkgs makes in a virtual machine.
    """

    systems: tuple[str, ...]
    mode: Mode
    reason: str
    register: tuple[str, ...]
    private: tuple[str, ...]
    services: tuple[str, ...]
    memory: int
    boot: bool
    kvm: bool
    machines: tuple[str, ...]
    natively: frozenset[str]
    ran_before: frozenset[str]
    remote: tuple[str, ...] = ()

    @property
    def guest(self) -> str:
        """CPU of the first image's system, as in `uname -m`."""
        return self.systems[0].partition("-")[0]

    @property
    def foreign(self) -> tuple[str, ...]:
        """Target systems whose programs need an emulator."""
        without = {*self.natively, *self.remote}
        return tuple(system for system in self.systems if system not in without)

    @property
    def host(self) -> tuple[str, ...]:
        """Target systems for which the run uses the host's own emulator."""
        own = {*self.register, *self.private}
        return tuple(system for system in self.foreign if system not in own)

    @property
    def images(self) -> tuple[str, ...]:
        """Services whose container images must exist before the build."""
        return tuple(dict.fromkeys(SAME_IMAGE.get(name, name) for name in self.services))

    def describe(self) -> str:
        """Describe the plan for a person (`--dry-run`)."""
        lines = [f"system     {system}{self._how(system)}" for system in self.systems]
        lines += [f"emulation  {self.mode}: {self.reason}"]
        lines += [f"container  {name}" for name in self.services]
        lines += [f"machine    {name}: {IN_MACHINE}" for name in self.machines]
        lines += (
            [f"boot       {self.guest} ({'KVM if it works, else TCG' if self.kvm else 'TCG'})"]
            if self.boot
            else []
        )
        return "\n".join(lines)

    def _how(self, system: str) -> str:
        """Return how the programs of `system` run, where the run has builders."""
        if not self.remote:
            return ""
        if system in self.remote:
            return ": built by builders"
        return ": native" if system in self.natively else f": {self.mode} emulation"


def builders_memory(engines: int) -> int:
    """Return the default memory limit of a builder in MiB; `engines` is the engine's in bytes."""
    return int(engines * MEMORY_SHARE) // MIB


def make_plan(request: Demo | Build, facts: HostFacts, *, alone: bool = False) -> Plan:
    """Decide a run's target systems, modes of emulation, containers and memory limit.

    What builders on other machines build for is not emulated, unless the host is `alone`: they were
    lost.
    Raises `HostError` if disk space is too small, `EmulationError` if the host does not support the
    requested mode.
    """
    systems = target_systems(request, facts.system)
    if request.boot and systems[0] not in qemu.GUESTS:
        raise UsageError(
            f"--boot: the boot check has no machine for {systems[0]}",
            hint=f"--boot supports {', '.join(qemu.GUESTS)}",
        )
    check_space(request, facts)
    modes = {system: _mode(request, facts, system, alone=alone) for system in systems}
    # A run has one emulation mode, the most demanding one that any of its systems needs. From the
    # most demanding one on, these are: shared, private, host, builder, native.
    order = ("shared", "private", "host", "builder", "native")
    first = sorted(systems, key=lambda system: order.index(modes[system][0]))
    mode, reason = modes[first[0]]
    return Plan(
        systems=systems,
        mode=mode,
        reason=reason,
        register=tuple(system for system in systems if modes[system][0] == "shared"),
        private=tuple(system for system in systems if modes[system][0] == "private"),
        services=SERVICES[mode],
        memory=request.memory or builders_memory(facts.memory),
        boot=request.boot,
        kvm=systems[0] == facts.system,
        machines=_in_machines(request),
        natively=facts.natively,
        ran_before=facts.runs,
        remote=tuple(system for system in systems if modes[system][0] == "builder"),
    )


def target_systems(request: Demo | Build, native: str) -> tuple[str, ...]:
    """Return the target systems; if the user names none, one that supports the format.

    Default of the demo: the format's own system, else the one foreign to `native`. Default of a
    build: `native` if possible. Raises `UsageError` if the system does not support the format.
    """
    if isinstance(request, Build):
        if not request.appliance:
            return machine_systems(request.formats, request.systems, native)
        found = [
            machine_systems(one.formats, one.systems, native) for one in request.appliance.machines
        ]
        return tuple(dict.fromkeys(system for systems in found for system in systems))
    form = FORMATS[request.format]
    table = request.image.partition_table or form.partition_table
    asked = request.system or form.system
    why = ""
    for system in [asked] if asked else [foreign_system(native), native]:
        if not (why := impossible(system, form, table)):
            return (system,)
    raise UsageError(
        f"--format {request.format}: {why}", hint="choose another --format or --system"
    )


def _in_machines(request: Demo | Build) -> tuple[str, ...]:
    """Return the requested formats that nixpkgs makes in a virtual machine."""
    if isinstance(request, Demo):
        return ()
    appliance = request.appliance.machines if request.appliance else ()
    names = (*request.formats, *(name for one in appliance for name in one.formats))
    formats = nixos_formats.chosen(names, nixos_formats.read_formats()) if names else ()
    return tuple(dict.fromkeys(one.name for one in formats if one.assembler == "vm"))


def machine_systems(
    names: tuple[str, ...], systems: tuple[str, ...], native: str
) -> tuple[str, ...]:
    """Return the systems of images of the formats `names`: `systems`, if the user names any.

    Raises `UsageError` if there is none for all of these formats, or if a format cannot be made for
    one of them on a builder of the system `native`.
    """
    formats = nixos_formats.chosen(names, nixos_formats.read_formats())
    formats = formats if names else ()
    if not systems:
        possible = set(SYSTEMS).intersection(*(one.systems for one in formats))
        if not possible:
            raise UsageError(
                f"no system supports all of {', '.join(names)}",
                hint="./run.sh formats lists the formats' systems",
            )
        systems = (next(one for one in (native, *SYSTEMS) if one in possible),)
    for one in formats:
        for system in systems:
            one.check_builder(system, native)
    return systems


def check_space(request: Demo | Build, facts: HostFacts) -> None:
    """Raise `HostError` if Docker's data or the output folder has too little free space."""
    build = isinstance(request, Build)
    places = (
        (
            "Docker's data",
            facts.data_free,
            BUILD_DATA_BYTES if build else DEMO_DATA_BYTES,
            "free disk space (docker system df)",
        ),
        (
            "the output folder",
            facts.out_free,
            BUILD_OUT_BYTES if build else DEMO_OUT_BYTES,
            "free disk space, or choose another folder with -o",
        ),
    )
    what = "an image" if build else "the demo"
    for name, free, needed, hint in places:
        if free is not None and free < needed:
            raise HostError(
                f"the disk of {name} has {free // MIB} MiB free, {what} needs {needed // MIB} MiB",
                hint=hint,
            )


def _mode(request: Demo | Build, facts: HostFacts, system: str, *, alone: bool) -> tuple[Mode, str]:
    """Return how programs of `system` run, and why."""
    able = [one.uri for one in request.builders if system in one.systems]
    if able and not alone and system not in facts.natively:
        return (
            "builder",
            f"{', '.join(able)} {'builds' if len(able) == 1 else 'build'} for {system}",
        )
    return _emulation(request, facts, system)


def _emulation(request: Demo | Build, facts: HostFacts, system: str) -> tuple[Mode, str]:
    native = system in facts.natively
    runs = system in facts.runs
    match request.emulation:
        case "auto" if native:
            return "native", f"{facts.system} runs {system} programs without an emulator"
        case "auto" if not facts.no_private:
            return "private", "the builder can have its own binfmt_misc"
        case "auto" if runs and system not in facts.lent and not request.qemu:
            return "host", f"the host runs {system} programs already"
        case "auto" if facts.no_shared:
            raise EmulationError(
                f"private emulation is not possible: {facts.no_private}; nor is shared:"
                f" {facts.no_shared}",
                hint="docs/hosts.md lists engines that support emulation",
            )
        case "auto":
            return "shared", f"private emulation is not possible: {facts.no_private}"
        case "native" if native:
            return "native", "asked for"
        case "native":
            raise EmulationError(
                f"--emulation native: this host is {facts.system}, the target {system}"
            )
        case "private" | "shared" if native and len(target_systems(request, facts.system)) > 1:
            return "native", f"{facts.system} runs {system} programs without an emulator"
        case "private" | "shared" if native:
            raise EmulationError(
                f"--emulation {request.emulation}: not needed,"
                f" {facts.system} runs {system} programs"
            )
        case "private" if facts.no_private:
            raise EmulationError(
                f"--emulation private: {facts.no_private}", hint="use --emulation shared"
            )
        case "private":
            return "private", "asked for"
        case "host" if runs:
            return "host", "asked for"
        case "host":
            raise EmulationError(f"--emulation host: {system} programs do not run on this host")
        case "shared" if facts.no_shared:
            raise EmulationError(
                f"--emulation shared: {facts.no_shared}", hint="use --emulation auto"
            )
    return "shared", "asked for"
