"""Tests plans made from requests and host facts."""

import dataclasses
import typing

import pytest

from orchestrator.ask.request import Build, Demo
from orchestrator.decide.host import HostFacts
from orchestrator.decide.plan import (
    BUILD_DATA_BYTES,
    BUILD_OUT_BYTES,
    DEMO_DATA_BYTES,
    DEMO_OUT_BYTES,
    SERVICES,
    check_space,
    make_plan,
    target_systems,
)
from orchestrator.shared.architectures import RUNS_TOO
from orchestrator.shared.constants import MIB
from orchestrator.shared.errors import EmulationError, HostError, UsageError
from orchestrator.shared.image_options import ImageOptions
from orchestrator.shared.spec import PartitionTable
from tests.unit.requests import BUILD, DEMO

X86, ARM, I686 = "x86_64-linux", "aarch64-linux", "i686-linux"
RISCV = "riscv64-linux"


def facts(
    system: str = X86,
    *also: str,
    no_private: str = "Linux is too old",
    no_shared: str = "",
    data_free: int = 1 << 40,
    out_free: int | None = None,
    lent: str = "",
) -> HostFacts:
    natively = frozenset({system, *RUNS_TOO.get(system, ())})
    return HostFacts(
        system,
        natively,
        "6.18",
        "28.0",
        natively | {*also},
        no_private,
        no_shared,
        16 << 30,
        data_free,
        out_free,
        frozenset({lent}),
    )


def request(**changes: typing.Any) -> Demo:  # noqa: ANN401 - any field
    return dataclasses.replace(DEMO, **changes)


@pytest.mark.parametrize(
    ("host", "system", "emulation", "expected"),
    [
        (facts(X86), "", "auto", (ARM, "shared")),
        (facts(ARM), "", "auto", (X86, "shared")),
        (facts(X86), X86, "auto", (X86, "native")),
        (facts(X86), I686, "auto", (I686, "native")),
        (facts(ARM), I686, "auto", (I686, "shared")),
        (facts(X86), RISCV, "auto", (RISCV, "shared")),
        (facts(ARM), RISCV, "auto", (RISCV, "shared")),
        (facts(X86, ARM), "", "auto", (ARM, "host")),
        (facts(X86, ARM, lent=ARM), "", "auto", (ARM, "shared")),
        (facts(X86, ARM, lent=RISCV), "", "auto", (ARM, "host")),
        (facts(X86), X86, "native", (X86, "native")),
        (facts(X86, ARM), ARM, "host", (ARM, "host")),
        (facts(X86), ARM, "shared", (ARM, "shared")),
        (facts(X86, ARM), ARM, "shared", (ARM, "shared")),
        (facts(X86, no_private=""), ARM, "auto", (ARM, "private")),
        (facts(ARM, no_private=""), I686, "auto", (I686, "private")),
        # --qemu selects a pinned emulator, not the host's.
        (facts(X86, ARM, no_private=""), ARM, "auto", (ARM, "private")),
        (facts(X86, no_private=""), X86, "auto", (X86, "native")),
        (facts(X86, no_private=""), ARM, "private", (ARM, "private")),
        (facts(X86, no_private=""), ARM, "shared", (ARM, "shared")),
        (facts(X86, ARM, no_private=""), ARM, "host", (ARM, "host")),
    ],
)
def test_modes(host: HostFacts, system: str, emulation: str, expected: tuple[str, str]) -> None:
    plan = make_plan(request(system=system, emulation=emulation, boot=False), host)
    assert (plan.systems, plan.mode) == ((expected[0],), expected[1])
    assert plan.services == SERVICES[plan.mode]
    assert plan.reason
    assert plan.kvm == (plan.systems == (host.system,))
    assert plan.guest == expected[0].removesuffix("-linux")
    assert plan.register == (plan.systems if plan.mode == "shared" else ())
    assert plan.private == (plan.systems if plan.mode == "private" else ())
    assert plan.foreign == (() if expected[0] in host.natively else plan.systems)


def test_an_emulator_that_is_asked_for_is_not_the_hosts() -> None:
    asked = request(qemu="7.2", boot=False)
    assert make_plan(asked, facts(X86, ARM)).mode == "shared"
    assert make_plan(asked, facts(X86, ARM, no_private="")).mode == "private"
    assert make_plan(dataclasses.replace(asked, system=X86), facts()).mode == "native"


@pytest.mark.parametrize(
    ("host", "system", "emulation"),
    [
        (facts(X86), ARM, "native"),
        (facts(X86), ARM, "host"),
        (facts(X86), X86, "shared"),
        (facts(X86), I686, "shared"),
        (facts(X86, no_private=""), X86, "private"),
    ],
)
def test_modes_that_the_host_cannot_have(host: HostFacts, system: str, emulation: str) -> None:
    with pytest.raises(EmulationError, match=f"--emulation {emulation}: .*{system}"):
        make_plan(request(system=system, emulation=emulation, boot=False), host)


def test_private_emulation_where_it_is_forbidden_is_refused_with_the_cause() -> None:
    with pytest.raises(EmulationError, match="--emulation private: Linux is too old") as caught:
        make_plan(request(system=ARM, emulation="private"), facts())
    assert caught.value.hint == "use --emulation shared"


@pytest.mark.parametrize("emulation", ["auto", "shared"])
def test_shared_emulation_that_would_not_serve_is_refused_with_the_cause(emulation: str) -> None:
    with pytest.raises(EmulationError, match=r"shared: userns-remap$") as caught:
        make_plan(request(system=ARM, emulation=emulation), facts(no_shared="userns-remap"))
    assert caught.value.hint
    private = facts(no_private="", no_shared="userns-remap")
    assert make_plan(request(system=ARM), private).mode == "private"
    host = facts(X86, ARM, no_shared="the machine's own")
    assert make_plan(request(system=ARM), host).mode == "host"


@pytest.mark.parametrize(
    ("form", "table", "expected"),
    [
        ("raw-efi", None, ARM),
        ("raw", None, X86),
        ("raw-efi", "hybrid", X86),
        ("qcow", "efi", ARM),
        ("sd-aarch64", None, ARM),
        ("sd-riscv64", None, RISCV),
        ("sd-riscv64", "efi", RISCV),
    ],
)
def test_without_a_system_one_is_taken_that_can_have_the_format(
    form: str, table: PartitionTable | None, expected: str
) -> None:
    asked = request(format=form, image=ImageOptions(partition_table=table))
    assert target_systems(asked, X86) == (expected,)


def test_a_format_that_the_system_cannot_have_is_refused_with_the_reason() -> None:
    message = "--format raw: partition table legacy is booted by bios, which aarch64-linux"
    with pytest.raises(UsageError, match=message):
        make_plan(request(format="raw", system=ARM), facts())
    with pytest.raises(UsageError, match="booted by u-boot"):
        make_plan(request(format="sd-aarch64", system=X86), facts())
    legacy = request(format="sd-riscv64", image=ImageOptions(partition_table="legacy"))
    with pytest.raises(UsageError, match="booted by bios, which riscv64-linux"):
        make_plan(legacy, facts())


@pytest.mark.parametrize(
    ("form", "system", "own"), [("sd-aarch64", RISCV, ARM), ("sd-riscv64", ARM, RISCV)]
)
def test_a_format_that_is_named_after_a_system_is_for_no_other(
    form: str, system: str, own: str
) -> None:
    with pytest.raises(UsageError, match=f"^--format {form}: this format is for {own}$"):
        make_plan(request(format=form, system=system), facts())


def test_cleanup_starts_first_and_its_image_is_asked_for_once() -> None:
    plan = make_plan(request(), facts())
    assert plan.services == ("cleanup", "registrar", "builder")
    assert plan.images == ("cleanup", "builder")
    private = make_plan(request(), facts(no_private=""))
    assert private.services == ("emulators", "builder")
    assert private.images == ("cleanup", "builder")


@pytest.mark.parametrize(
    ("host", "message", "hint"),
    [
        (
            facts(data_free=DEMO_DATA_BYTES - 1),
            f"Docker's data has 1023 MiB free, the demo needs {DEMO_DATA_BYTES // MIB} MiB",
            "df",
        ),
        (facts(out_free=0), "output folder has 0 MiB free", "-o"),
        (facts(data_free=0), "data has 0 MiB free", "docker system df"),
        (
            facts(out_free=5 * MIB),
            f"output folder has 5 MiB free, the demo needs {DEMO_OUT_BYTES // MIB} MiB",
            "-o",
        ),
    ],
)
def test_too_little_disk_is_refused_with_both_numbers(
    host: HostFacts, message: str, hint: str
) -> None:
    with pytest.raises(HostError, match=message) as caught:
        make_plan(request(), host)
    assert hint in caught.value.hint


def test_enough_or_unknown_disk_is_taken() -> None:
    check_space(request(), facts(data_free=DEMO_DATA_BYTES, out_free=DEMO_OUT_BYTES))
    check_space(request(), facts(out_free=None))
    check_space(build(), facts(data_free=BUILD_DATA_BYTES, out_free=BUILD_OUT_BYTES))


def test_a_plan_is_told() -> None:
    assert make_plan(request(), facts()).describe() == (
        "system     aarch64-linux\n"
        "emulation  shared: private emulation is not possible: Linux is too old\n"
        "container  cleanup\n"
        "container  registrar\n"
        "container  builder\n"
        "boot       aarch64 (TCG)"
    )
    assert make_plan(request(system=X86), facts()).describe() == (
        "system     x86_64-linux\n"
        "emulation  native: x86_64-linux runs x86_64-linux programs without an emulator\n"
        "container  builder\n"
        "boot       x86_64 (KVM if it works, else TCG)"
    )
    assert "boot " not in make_plan(request(boot=False), facts()).describe()


def test_what_a_virtual_machine_costs_is_told_before_the_build() -> None:
    told = make_plan(build(formats=("raw-efi", "vm-bootloader")), facts()).describe()
    assert told.count("\nmachine ") == 1
    assert "\nmachine    vm-bootloader: made in a virtual machine that QEMU emulates" in told


@pytest.mark.parametrize(("system", "builder"), [(ARM, X86), (X86, ARM)])
def test_a_virtual_machine_is_of_the_builders_system(system: str, builder: str) -> None:
    asked = build(formats=("openstack-zfs",), systems=(system,))
    with pytest.raises(UsageError, match=f"not for {system}, because this computer is {builder}"):
        make_plan(asked, facts(builder))
    unasked = build(formats=("openstack-zfs",), systems=())
    assert make_plan(unasked, facts(builder)).systems == (builder,)


# --- NixOS images ---------------------------------------------------------------------------------

RISCV = "riscv64-linux"


def build(**changes: typing.Any) -> Build:  # noqa: ANN401 - any field
    return dataclasses.replace(BUILD, **changes)


@pytest.mark.parametrize(
    ("formats", "systems", "expected"),
    [
        (("sd-aarch64",), (), (ARM,)),
        (("raw-efi",), (), (X86,)),
        (("raw-efi", "sd-aarch64"), (), (ARM,)),
        (("sd-riscv64",), (), (RISCV,)),
        ((), (), (X86,)),
        (("raw-efi",), (RISCV, ARM), (RISCV, ARM)),
    ],
)
def test_without_a_system_it_is_the_hosts_or_one_that_can_have_all_formats(
    formats: tuple[str, ...], systems: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert target_systems(build(formats=formats, systems=systems), X86) == expected


def test_formats_that_no_system_can_have_all_of_are_refused() -> None:
    with pytest.raises(UsageError, match="no system supports all of sd-aarch64, sd-x86_64"):
        make_plan(build(formats=("sd-aarch64", "sd-x86_64")), facts())


def test_several_systems_share_one_run_and_only_those_that_need_it_are_registered() -> None:
    asked = build(formats=("raw-efi",), systems=(X86, ARM, RISCV))
    plan = make_plan(asked, facts(X86, RISCV))
    assert (plan.mode, plan.register, plan.foreign) == ("shared", (ARM,), (ARM, RISCV))
    assert plan.services == SERVICES["shared"]
    assert make_plan(asked, facts(X86, RISCV, ARM)).mode == "host"
    forced = make_plan(dataclasses.replace(asked, emulation="shared"), facts(X86, RISCV))
    assert forced.register == (ARM, RISCV)
    private = make_plan(asked, facts(X86, RISCV, no_private=""))
    assert (private.mode, private.private, private.register) == ("private", (ARM, RISCV), ())
    forced = make_plan(dataclasses.replace(asked, emulation="private"), facts(no_private=""))
    assert (forced.mode, forced.private) == ("private", (ARM, RISCV))


def test_what_no_machine_here_boots_is_not_promised_to() -> None:
    asked = build(formats=("sd-armv7l",), boot=True)
    with pytest.raises(UsageError, match="no machine for armv7l-linux"):
        make_plan(asked, facts())
    assert make_plan(dataclasses.replace(asked, boot=False), facts()).systems == ("armv7l-linux",)


def test_too_little_disk_for_an_image_is_refused() -> None:
    with pytest.raises(HostError, match=f"an image needs {BUILD_DATA_BYTES // MIB} MiB"):
        make_plan(build(), facts(data_free=BUILD_DATA_BYTES - 1))
