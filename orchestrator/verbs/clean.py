"""`clean`: remove binfmt_misc entries, containers, networks and volumes of dead runs."""

import argparse
import contextlib
import dataclasses
import math
import shutil
import time
import typing

from orchestrator.ask.parser import Parser, add_display_options, display
from orchestrator.ask.request import Caller
from orchestrator.shared.constants import MIB
from orchestrator.shared.display import Display
from orchestrator.verbs.registry import Session, Verb

if typing.TYPE_CHECKING:
    from orchestrator.docker.engine import Engine

#: Agents that work on the store's volume.
SWEEP, STOCK = "orchestrator.agents.builder.sweep", "orchestrator.agents.builder.stock"


@dataclasses.dataclass(frozen=True)
class Clean:
    """What `clean` is asked for.

    With `everything`, living runs are removed, too; with `store`, the store's garbage.
    """

    everything: bool
    store: bool
    display: Display


def work(request: Clean, session: Session) -> int:
    """Remove what dead runs have left: binfmt_misc entries, containers, networks, volumes, folders.

    Also removes old images. Reports what was removed, and how much space that freed.
    """
    from orchestrator.docker import census
    from orchestrator.docker.labels import OLD_WORK_VOLUME, PROJECT
    from orchestrator.run import tree_records
    from orchestrator.run.once import run_once
    from orchestrator.run.repair import repair_if_harmless
    from orchestrator.run.runs import forget_dead_runs, run_workspace
    from orchestrator.shared.progress import make_progress
    from orchestrator.shared.run import WORK
    from orchestrator.shared.store import Sweep, Wish

    who = session.who
    with (
        contextlib.closing(make_progress(request.display, who.terminal)) as progress,
        run_workspace(who, {}) as (engine, _),
        progress.stage("clean"),
    ):
        free = shutil.disk_usage(WORK).free
        if request.everything:
            for name, (run, _running) in census.containers(engine).items():
                if run != who.run and name == f"{PROJECT}-{run}":
                    engine.remove(name)
        engine.remove_volume(OLD_WORK_VOLUME)
        dead = forget_dead_runs(engine)
        others = census.living_runs(engine) - {engine.run}
        run_once(engine, progress, math.inf, "sweep", SWEEP, Sweep(everything=not others))
        if request.store and (collector := _collector(engine, who)):
            engine.use("builder", collector)
            run_once(engine, progress, math.inf, "stock", STOCK, Wish("gc"))
        elif request.store:
            progress.say(
                "the store is kept: no builder of this checkout has run here, or its image is old",
                "warning",
            )
        repair_if_harmless(engine, progress)
        for copy in tree_records.forget(engine):
            progress.say(f"removed the copy of a sent folder: {copy.path}")
        # A living run may be about to use an image.
        until = math.inf if request.everything else time.time() - census.BUILD_SECONDS
        if not others and (images := engine.remove_old_images(_current(engine, who), until)):
            names = ", ".join(name.removeprefix("sha256:")[:40] for name in images)
            progress.say(f"removed old images: {names}")
        # A run whose run.sh was killed may have come to its end meanwhile.
        dead |= forget_dead_runs(engine)
        if dead:
            names = ", ".join(sorted(dead))
            progress.say(f"removed containers, networks and volumes of dead runs: {names}")
        engine.down()
        if (gained := (shutil.disk_usage(WORK).free - free) // MIB) > 0:
            progress.say(f"{gained} MiB more are free on the disk of Docker's data")
        left, copies = engine.image_tags(), len(tree_records.copies(engine))
        progress.say(
            f"kept: the Nix store (./run.sh store tells what it has), {len(left)} images,"
            f" copies of {copies} sent folders"
            " (./run.sh down --rmi all -v removes both)"
        )
    return 0


def _collector(engine: "Engine", who: Caller) -> str:
    """Return the id of this checkout's builder's image, or "" if its name is another image's."""
    from orchestrator.docker.images import IMAGES, state
    from orchestrator.docker.labels import LOCKED
    from orchestrator.docker.stored import source

    image = IMAGES["builder"]
    found = engine.image(image.name)
    wanted = state(image.dockerfile, engine.parent(who.image))
    return found["Id"] if found and source(found).removesuffix(LOCKED) == wanted else ""


def _current(engine: "Engine", who: Caller) -> set[str]:
    """Return the checksum labels of images that are up to date, and the id of their parent."""
    from orchestrator.docker.images import IMAGES, state

    runtime = engine.parent(who.image)
    return {who.source, runtime} | {state(image.dockerfile, runtime) for image in IMAGES.values()}


def _parser() -> Parser:
    parser = Parser(
        "clean",
        "Remove what dead runs have left on this Docker host, and old images of the appliance.",
        examples=(
            ("clean", "what killed runs have left"),
            ("clean --store", "also what no recent image needs of the store"),
        ),
    )
    parser.add_argument(
        "--all", action="store_true", help="end living runs, too, and remove what they have"
    )
    parser.add_argument(
        "--store",
        action="store_true",
        help="also remove from the Nix store what no recent image needs",
    )
    add_display_options(parser)
    return parser


def _request(found: argparse.Namespace, _who: Caller) -> Clean:
    return Clean(found.all, found.store, display(found))


VERB = Verb(
    group="keep house",
    shown=(("clean [--store]", "remove leftovers of dead runs, or of the store"),),
    parser=_parser,
    request=_request,
    work=work,
    orders=lambda _: [],
)
