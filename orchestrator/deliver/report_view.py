"""Prepares what a report shows: sizes, commands, the treemap, the time line."""

import dataclasses
import json
import pathlib
import shlex
import typing

from orchestrator.ask.request import Caller
from orchestrator.deliver import imager
from orchestrator.deliver.contents import LEFT_OUT, Changes, Contents, Item, chains
from orchestrator.deliver.provenance import About
from orchestrator.deliver.treemap import Box, squarify
from orchestrator.shared.artifact import IMAGER, Artifact
from orchestrator.shared.steps import Step, StepKind, Steps

#: Number of single areas in the treemap, and of steps in the time line.
AREAS, ROWS = 48, 40

#: The treemap's drawings: for wide pages and for narrow ones.
MAPS = (("wide", Box(0, 0, 1000, 460)), ("narrow", Box(0, 0, 380, 560)))

#: Width and height in the drawing's units that a letter of a label needs, and its margin.
LETTER, LINE, MARGIN = 7.3, 18, 6

#: Sign of negative numbers, as wide as the plus.
MINUS = "\N{MINUS SIGN}"

KIND_NAMES: dict[StepKind, str] = {
    "fetched": "fetched",
    "native": "built by this CPU",
    "emulated": "built by an emulator",
    "remote": "built on another machine",
}

#: How foreign programs ran, by the plan's mode.
MODES = {
    "native": "All programs ran on this CPU.",
    "builder": "Programs of the other CPU ran on builders, which have that CPU.",
    "private": "Programs of the other CPU ran in QEMU, which only the builder's container knew.",
    "host": "Programs of the other CPU ran in the emulator that the host had registered.",
    "shared": "Programs of the other CPU ran in QEMU, which the host knew during the build.",
}


def size(count: float) -> str:
    """Return a number of bytes for a person."""
    number = float(count)
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return (
                f"{number:.0f} {unit}" if number >= 100 or unit == "B" else f"{number:.1f} {unit}"
            )
        number /= 1024
    return f"{number:.2f} GiB"


def growth(count: int) -> str:
    """Return a difference of sizes with its sign; nothing for none."""
    return f"{'+' if count > 0 else MINUS}{size(abs(count))}" if count else ""


def duration(seconds: float) -> str:
    """Return a duration for a person."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


# --- commands and facts ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Use:
    """A command and what it is for."""

    title: str
    command: str


def uses(image: Artifact, out: pathlib.PurePosixPath, who: Caller) -> list[Use]:
    """Return commands that use `image` in the caller's folder `out`.

    They name run.sh by its path, unless it is in the folder that it was called from: a page is
    read anywhere.
    """
    run = "./run.sh" if who.root == who.cwd else shlex.quote(str(who.root / "run.sh"))
    path = shlex.quote(str(out / image.file_name))
    found = []
    if imager.is_for_cards(image):
        listing = shlex.quote(f"{out / image.file_name}{IMAGER}")
        found += [
            Use("Write it to a card or a disk, and read it back", f"{run} flash {path}"),
            Use("The same with Raspberry Pi Imager", f"rpi-imager --repo {listing}"),
        ]
    if image.firmware:
        found += [
            Use("Boot a throwaway copy here; Ctrl-A X ends it", f"{run} boot {path}"),
            Use("Print the commands for QEMU and libvirt", f"{run} boot --print-command {path}"),
        ]
    found.append(Use("Check that the files are as they were made", f"{run} verify {path}"))
    return found


def facts(image: Artifact, about: About) -> list[tuple[str, str]]:
    """Return what a person wants to know of `image`, with names."""
    rows = [
        ("System", image.system),
        ("Format", image.format),
        ("File", f"{image.disk_format}, {size(image.size)}"),
        ("Compression", image.compression),
        ("Disk", size(image.virtual_size)),
        ("Starts by", " or ".join(image.firmware)),
        ("Host name", image.host),
        ("Nix", about.nix),
        ("System's store path", image.toplevel),
        ("SHA-256", image.sha256),
    ]
    return [(name, value) for name, value in rows if value and value != "none"]


def how(about: About) -> str:
    """Say who ran the build's programs."""
    emulators = sorted(
        {f"{one.get('emulator', '')} {one.get('version', '')}".strip() for one in about.emulators}
    )
    named = f" ({', '.join(emulators)})" if emulators else ""
    return f"{MODES.get(about.emulation, about.emulation)}{named}"


def asked(parameters: dict[str, typing.Any]) -> list[tuple[str, str]]:
    """Return the provenance's parameters as texts."""
    return [(name, _shown(value)) for name, value in parameters.items() if value not in ({}, [])]


def _shown(value: object) -> str:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_shown(inner)}" for name, inner in value.items())
    return value if isinstance(value, str) else json.dumps(value)


@dataclasses.dataclass(frozen=True)
class Input:
    """What an image was made of; `uri` is empty if it has none."""

    name: str
    uri: str
    hashes: tuple[str, ...]


def inputs(dependencies: list[dict[str, typing.Any]]) -> list[Input]:
    """Return the provenance's resolved dependencies."""
    return [
        Input(
            one.get("name", ""),
            one.get("uri", ""),
            tuple(f"{kind} {digest}" for kind, digest in one.get("digest", {}).items()),
        )
        for one in dependencies
    ]


# --- what is in the image -------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Row:
    """A store path in a table; `kind` is new or same, compared with the earlier image."""

    anchor: str
    name: str
    size: int
    share: str
    why: str
    kind: str


@dataclasses.dataclass(frozen=True)
class Area:
    """A store path's rectangle, in the drawing's units; empty texts have no room."""

    anchor: str
    name: str
    size: int
    kind: str
    x: float
    y: float
    width: float
    height: float
    label: str
    note: str

    @property
    def text_x(self) -> float:
        """Left end of the texts."""
        return round(self.x + MARGIN, 1)

    @property
    def text_y(self) -> float:
        """Base line of the first text."""
        return round(self.y + LINE, 1)


@dataclasses.dataclass(frozen=True)
class Others:
    """All paths that are too small for an area of their own."""

    count: int
    size: int
    share: str


def treemap(contents: Contents, before: Contents | None) -> dict[str, typing.Any]:
    """Return the template's values about the store paths: drawings and tables."""
    ranked = sorted(contents.paths, key=lambda item: (-item.size, item.ref))
    known = {item.ref for item in (before or contents).paths}
    names = {LEFT_OUT: "…"} | {item.ref: item.name for item in contents.paths}
    why, whole = chains(contents), contents.size
    rows = [
        Row(
            anchor=f"path-{number}",
            name=item.name,
            size=item.size,
            share=_share(item.size, whole),
            why=_why(item, [names[ref] for ref in why.get(item.ref, ())], contents),
            kind="same" if item.ref in known else "new",
        )
        for number, item in enumerate(ranked, 1)
    ]
    biggest, small = rows[:AREAS], rows[AREAS:]
    rest = sum(row.size for row in small)
    return {
        "biggest": biggest,
        "small": small,
        "others": Others(len(small), rest, _share(rest, whole)) if small else None,
        "maps": [_map(name, box, biggest, rest, len(small)) for name, box in MAPS],
    }


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


def _why(item: Item, chain: list[str], contents: Contents) -> str:
    """Tell the references from a root to the path; `chain` are names, its own the last."""
    if item.ref in contents.roots:
        return "the system itself" if item.ref == contents.roots[0] else "put into the image"
    return " → ".join(chain[:-1])


def _map(name: str, box: Box, rows: list[Row], rest: int, count: int) -> dict[str, typing.Any]:
    drawn = [(row.anchor, row.name, row.size, row.kind) for row in rows if row.size]
    if rest:
        drawn.append(("others", f"{count} smaller paths", rest, "rest"))
    drawn.sort(key=lambda one: -one[2])
    boxes = squarify([one[2] for one in drawn], box)
    areas = [_area(*one, place) for one, place in zip(drawn, boxes, strict=True)]
    return {"name": name, "width": box.width, "height": box.height, "boxes": areas}


def _area(anchor: str, name: str, count: int, kind: str, box: Box) -> Area:
    letters = int((box.width - 2 * MARGIN) / LETTER)
    label = name if len(name) <= letters else f"{name[: letters - 1]}…"
    fits = letters >= 4 and box.height >= LINE + MARGIN
    note = size(count)
    return Area(
        anchor=anchor,
        name=name,
        size=count,
        kind=kind,
        x=round(box.x, 1),
        y=round(box.y, 1),
        width=round(box.width, 1),
        height=round(box.height, 1),
        label=label if fits else "",
        note=note if fits and len(note) <= letters and box.height >= 2 * LINE + MARGIN else "",
    )


def nothing_changed(changes: Changes) -> bool:
    """Whether two images hold the same."""
    return not (
        changes.added or changes.removed or changes.updated or changes.files or changes.rebuilt
    )


def change_tables(changes: Changes | None) -> list[tuple[str, tuple[typing.Any, ...]]]:
    """Return the tables of changes, with captions."""
    if not changes:
        return []
    return [
        ("Other versions", changes.updated),
        ("Added", changes.added),
        ("Removed", changes.removed),
    ]


# --- the time line --------------------------------------------------------------------------------


def timeline(seconds: dict[str, float], steps: Steps) -> dict[str, typing.Any]:
    """Return the template's values about the run: stages, sums, the longest steps."""
    whole = sum(seconds.values())
    stages, at = [], 0.0
    for name, took in seconds.items():
        if took > 0:
            stages.append({"name": name, "seconds": took, **_bar(at, took, whole)})
            at += took
    longest = sorted(steps.longest, key=lambda one: (-one.seconds, one.began, one.name))[:ROWS]
    longest.sort(key=lambda one: (one.began, one.name))
    first = min((one.began for one in longest), default=0.0)
    span = max((one.began + one.seconds for one in longest), default=0.0) - first
    return {
        "stages": stages,
        "sums": steps.sums,
        "steps": [_step(one, first, span) for one in longest],
        "span": span,
    }


def _step(one: Step, first: float, span: float) -> dict[str, typing.Any]:
    bar = _bar(one.began - first, one.seconds, span)
    return {"name": one.name, "kind": one.kind, "seconds": one.seconds, **bar}


def _bar(at: float, took: float, whole: float) -> dict[str, float]:
    """Return the place of a bar in percent; each can be seen."""
    if whole <= 0:
        return {"x": 0.0, "width": 100.0}
    width = min(max(100 * took / whole, 0.3), 100.0)
    return {"x": round(min(100 * at / whole, 100 - width), 2), "width": round(width, 2)}
