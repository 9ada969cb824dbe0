"""Makes a kit of this engine's images and store, and puts a kit's store paths into the store."""

import contextlib
import dataclasses
import hashlib
import math
import os
import pathlib
import typing
from collections.abc import Callable, Iterator

from orchestrator.ask.request import Caller
from orchestrator.deliver.kit import KitImage, KitWriter, image_line
from orchestrator.docker.answers import read
from orchestrator.docker.engine import Engine
from orchestrator.docker.images import Images
from orchestrator.docker.workspace import Workspace, give_keys, open_to_agents, take
from orchestrator.run.once import run_once
from orchestrator.run.push import Pusher
from orchestrator.run.reports import Inputs
from orchestrator.run.runs import write_variables
from orchestrator.run.supervisor import Event
from orchestrator.shared.errors import DeliveryError, VerificationError
from orchestrator.shared.kit import SOURCES, STORE, KitOrder
from orchestrator.shared.progress import Progress
from orchestrator.shared.push import public_key
from orchestrator.shared.text import columns, whole
from orchestrator.shared.version import product_version

AGENT = "orchestrator.agents.builder.kit"

#: Images of run.sh's own that a kit has; caller/kit.sh knows them, too.
OWN = ("nixos-image-base", "nixos-image-runtime", "nixos-image-orchestrator")

#: Services whose images each kit has, too.
SERVICES = ("builder", "cleanup", "boot")

CHUNK_BYTES = 1 << 20

#: Longest first line of the stream of `kit import`, in bytes.
HEAD_BYTES = 1000


@dataclasses.dataclass(frozen=True)
class KitWork:
    """One call of `kit` at work."""

    who: Caller
    engine: Engine
    workspace: Workspace
    progress: Progress

    def order(self, service: str, order: KitOrder) -> Event:
        """Have the agent do `order` in a container of `service`."""
        return run_once(self.engine, self.progress, math.inf, service, AGENT, order)


def export(
    work: KitWork,
    wanted: KitOrder,
    services: tuple[str, ...],
    place: pathlib.Path,
    sign: Callable[[bytes], bytes] | None,
    sources: pathlib.Path | None = None,
) -> None:
    """Write a kit to the new file `place`: images, inputs of the demo, store paths, and results.

    `wanted` has the systems of demos, store paths, and the names of results; `services` are those
    whose images are wanted. `sign` makes the manifest's signature, `sources` is the archive of a
    configuration's. Raises `DeliveryError`, or an agent's error.
    """
    if wanted.results:  # a name that is wrong is told before all images are made
        _make(work, "aarch64", ("builder",))
        open_to_agents(work.workspace.shared)
        work.order("restock", KitOrder("inputs", results=wanted.results))
    with _images(work, wanted.systems, services) as names:
        work.progress.to("kit", "fetching the demo's packages")
        told = work.order("restock", dataclasses.replace(wanted, action="inputs"))
        paths = tuple(read(Inputs, told, "kit").get("paths", ()))
        work.progress.to("kit", "packing the store's paths")
        pusher = Pusher(work.engine, work.workspace, work.progress, math.inf)
        key = public_key(pusher.own_key())
        give_keys(work.workspace.keys, work.workspace.shared)
        work.order("push", dataclasses.replace(wanted, paths=(*wanted.paths, *paths)))
        store = take(work.workspace.shared, STORE, STORE)
        work.progress.to("kit", "packing the images")
        images = [_image(work.engine, name) for name in names]
        ids = [f"sha256:{image.config}" for image in images]
        heads = [
            f"version {product_version()}",
            f"architecture {work.engine.info().architecture}",
            f"source {work.who.source}",
            f"key {key}",
            *map(image_line, images),
        ]
        with place.open("xb") as file:
            writer = KitWriter(file)
            writer.add_images(images, work.engine.save_images(ids))
            with store.open("rb") as content:
                writer.add(STORE, content)
            if sources:
                with sources.open("rb") as content:
                    writer.add(SOURCES, content)
            writer.finish(heads, sign)
        store.unlink()
        rows: list[tuple[str, ...]] = [(image.name, image.config[:12]) for image in images]
        work.progress.say(columns(rows).rstrip())


@contextlib.contextmanager
def _images(
    work: KitWork, systems: tuple[str, ...], services: tuple[str, ...]
) -> Iterator[list[str]]:
    """Have the images that a demo for each of `systems` needs; yield the names of all."""
    names = list(OWN)
    for guest in sorted({system.partition("-")[0] for system in systems}):
        write_variables(work.workspace.variables, work.who, {"NIXOS_IMAGE_GUEST": guest})
        images = _make(work, guest, services)
        found = [images.name(service) for service in services]
        names += [name for name in found if name and name not in names]
    open_to_agents(work.workspace.shared)
    yield names


def _make(work: KitWork, guest: str, services: tuple[str, ...]) -> Images:
    """Have the images of `services` made."""
    images = Images(work.engine, guest, work.workspace.logs, own=work.who.image)
    try:
        images.want(services)
        images.wait(services, work.progress)
    finally:
        images.close()
    return images


def _image(engine: Engine, name: str) -> KitImage:
    found, layers = engine.layers(name)
    digests = tuple(one.removeprefix("sha256:") for one in layers)
    return KitImage(name, found.removeprefix("sha256:"), digests)


def restore(work: KitWork, stream: typing.BinaryIO) -> None:
    """Put the store paths of a kit into the store; run.sh has checked the kit, and sends them.

    `stream` begins with a line: SHA-256, size in bytes, the key that has signed them. Raises
    `VerificationError` if something else arrives than run.sh has checked.
    """
    digest, size, key = _head(stream)
    _make(work, "aarch64", ("builder",))
    open_to_agents(work.workspace.shared)
    place = work.workspace.shared / STORE
    total, left = hashlib.sha256(), size
    with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
        while left and (chunk := stream.read(min(left, CHUNK_BYTES))):
            total.update(chunk)
            file.write(chunk)
            left -= len(chunk)
    if left or total.hexdigest() != digest:
        raise VerificationError("the kit has changed while it was read", hint="import it once more")
    work.progress.to("kit", "putting its paths into the store")
    work.order("unpack", KitOrder("unpack", key=key))


def _head(stream: typing.BinaryIO) -> tuple[str, int, str]:
    words = stream.readline(HEAD_BYTES).decode("ascii", errors="replace").split()
    if len(words) != 3 or (size := whole(words[1])) is None:
        raise DeliveryError("not all of the kit that run.sh sent has arrived")
    return words[0], size, words[2]
