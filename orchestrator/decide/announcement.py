"""Says what a build will cost: lines for a person, JSON for programs, reasons to ask."""

import collections
import dataclasses
import typing
from collections.abc import Iterable

from orchestrator.decide.estimate import Estimate
from orchestrator.decide.plan import Plan
from orchestrator.shared.constants import GIB
from orchestrator.shared.cost import AT_ONCE, Cost, Work, WorkKind
from orchestrator.shared.quantities import duration, number, size

#: A build that takes longer (seconds), or fetches or needs more on a disk (bytes), is asked about;
#: so is each kernel that an emulator builds.
LIMIT_SECONDS = 30 * 60
LIMIT_BYTES = 20 * GIB

#: Marks the JSON document of `--dry-run --json`.
TYPE = "nixos-image-appliance plan"
SCHEMA = 1

#: Number of names that a line lists; of others only the number.
NAMES = 3


def reasons(cost: Cost, estimate: Estimate) -> list[str]:
    """Return why a person should be asked before the build; empty if it is below the limits."""
    found = []
    if estimate.seconds is not None and estimate.seconds > LIMIT_SECONDS:
        found.append(f"it takes {_about(estimate)}")
    if cost.download > LIMIT_BYTES:
        found.append(f"it fetches {size(cost.download)}")
    for place, needed, _free in disks(cost, None):
        if needed > LIMIT_BYTES:
            found.append(f"it needs up to {size(needed)} for {place}")
    if kernels := cost.emulated_kernels:
        found.append(f"an emulator builds the kernel {_some(kernels)}, which takes hours")
    return found


def disks(cost: Cost, out_free: int | None) -> list[tuple[str, int, int | None]]:
    """Return for each place what is needed, as far as it is known, and what is free, in bytes."""
    store = ("the store", cost.unpacked, cost.store_free)
    work = ("the run's files", cost.work_needed, cost.work_free)
    docker = ("Docker's data", cost.unpacked + cost.work_needed, cost.store_free)
    return [
        *([docker] if cost.one_disk else [store, work]),
        ("the output folder", cost.out_needed, out_free),
    ]


def shortages(cost: Cost, out_free: int | None) -> list[str]:
    """Return a sentence for each disk that may be too small."""
    return [
        f"{place} may need {size(needed)}, but its disk has {size(free)} free"
        for place, needed, free in disks(cost, out_free)
        if free is not None and needed > free
    ]


#: Verb and place of the lines that count builds.
BUILDS: tuple[tuple[str, str, WorkKind], ...] = (
    ("build", " here", "native"),
    ("build", " here or on builders", "either"),
    ("emulate", "", "emulated"),
    ("elsewhere", " on builders", "remote"),
)


def describe(cost: Cost, estimate: Estimate, out_free: int | None) -> str:
    """Describe a build's cost for a person, one fact a line."""
    lines = [f"image      {one.format} for {one.system}" for one in cost.images]
    if cost.devices > 1:
        lines.append(f"devices    {cost.devices}, of each image one for each")
    if cost.paths:
        lines.append(
            f"fetch      {number(cost.paths, 'path')}, {size(cost.download)},"
            f" {size(cost.unpacked)} unpacked"
        )
    lines += [
        f"           {number(one.paths, 'path')}, {size(one.download)} from"
        f" {one.substituter or 'another substituter'}"
        for one in cost.fetches
    ]
    if sources := cost.works_of("source"):
        lines.append(f"download   {number(len(sources), 'source')} from {_servers(sources)}")
    for word, where, kind in BUILDS:
        if works := cost.works_of(kind):
            count = number(len(works), "derivation")
            lines.append(f"{word:<10} {count}{where}{_kernels(works)}")
    if not cost.paths and not cost.works:
        lines.append("build      nothing: the store has it all")
    # The size of what derivations make is not known in advance.
    more = " and what is downloaded" if sources else ""
    more = " and what is built" if len(cost.works) > len(sources) else more
    for place, needed, free in disks(cost, out_free):
        room = "" if free is None else f", {size(free)} free"
        lines.append(f"disk       {place}: up to {size(needed)}{more}{room}")
    if cost.files > AT_ONCE:
        lines.append(f"           at most {AT_ONCE} of {cost.files} images are there at a time")
    return "\n".join([*lines, f"time       {_time(estimate)}"])


def document(
    cost: Cost, estimate: Estimate, out_free: int | None, plan: Plan
) -> dict[str, typing.Any]:
    """Return the JSON document of `--dry-run --json`; docs/plan.md describes it."""
    return {
        "type": TYPE,
        "schema": SCHEMA,
        "systems": list(plan.systems),
        "emulation": {"mode": plan.mode, "reason": plan.reason},
        "machines": list(plan.machines),
        "images": [dataclasses.asdict(one) for one in cost.images],
        "devices": cost.devices,
        "fetch": {
            "paths": cost.paths,
            "download": cost.download,
            "unpacked": cost.unpacked,
            "from": [
                {
                    "substituter": one.substituter or None,
                    "paths": one.paths,
                    "download": one.download,
                    "unpacked": one.unpacked,
                }
                for one in cost.fetches
            ],
        },
        "sources": [
            {"host": host or None, "count": count}
            for host, count in _hosts(cost.works_of("source"))
        ],
        "build": {
            kind: [{"name": one.name, "kernel": one.kernel} for one in cost.works_of(kind)]
            for _word, _where, kind in BUILDS
        },
        "disk": [
            {"place": place, "needed": needed, "free": free}
            for place, needed, free in disks(cost, out_free)
        ],
        "time": {
            "seconds": estimate.seconds,
            "whole": estimate.whole,
            "known": estimate.known,
            "unknown": estimate.unknown,
        },
        "asks": reasons(cost, estimate),
    }


def _about(estimate: Estimate) -> str:
    word = "about" if estimate.whole else "more than"
    return f"{word} {duration(estimate.seconds or 0)}"


def _time(estimate: Estimate) -> str:
    if estimate.seconds is None:
        return "not known: no run of this engine has ended yet"
    text = f"{_about(estimate)}, by past runs on this engine"
    if estimate.unknown:
        text += f"; {number(estimate.unknown, 'derivation')} were never built here"
    return text


def _kernels(works: list[Work]) -> str:
    kernels = [one.name for one in works if one.kernel]
    return f", with a kernel: {_some(kernels)}" if kernels else ""


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return f"{', '.join(names[:NAMES])}{more}"


def _servers(sources: list[Work]) -> str:
    named = [f"{host or 'unknown servers'} ({count})" for host, count in _hosts(sources)]
    return f"{_some(named)}; their sizes are not known"


def _hosts(sources: Iterable[Work]) -> list[tuple[str, int]]:
    """Return each server's number of sources, the greatest first."""
    counted = collections.Counter(one.host for one in sources)
    return sorted(counted.items(), key=lambda item: (-item[1], item[0]))
