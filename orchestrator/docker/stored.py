"""Images, networks and volumes of an engine."""

import dataclasses
import pathlib
import typing
from collections.abc import Callable, Collection, Iterable

from orchestrator.docker.answers import (
    Image,
    ImageRow,
    ImageSpace,
    Network,
    Told,
    Usage,
    Volume,
    Volumes,
    one_line,
    read,
)
from orchestrator.docker.api import (
    HEAVY,
    LONG_SECONDS,
    Api,
    Client,
    NotThereError,
    RefusedError,
    forgiven,
)
from orchestrator.docker.containers import signals_wait
from orchestrator.docker.labels import LABEL, LOCKED, PROJECT, SOURCE_LABEL
from orchestrator.shared import retry
from orchestrator.shared.errors import DockerError
from orchestrator.shared.paths import ROOT

#: Longest wait in seconds until a network has no endpoints after a container's end.
ENDPOINT_SECONDS = 10

#: Size of the pieces in which saved images are read, in bytes.
SAVED_BYTES = 1 << 20

#: Number of lines of a failed image build that an error has.
BUILD_LINES = 25


@dataclasses.dataclass(frozen=True)
class Used:
    """Disk space of an image or a volume in bytes; None if the engine does not know it."""

    kind: typing.Literal["image", "volume"]
    name: str
    size: int | None

    @property
    def nameless(self) -> bool:
        """Whether this is an image without a tag: `name` is its id."""
        return self.name.startswith("sha256:")


class BuildError(DockerError):
    """An image build has failed; the message has the build's last lines."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How an image is built: Dockerfile in the checkout, values of its ARGs, labels."""

    dockerfile: str
    arguments: dict[str, str]
    labels: dict[str, str]


def source(image: Image) -> str:
    """Return the checksum of what an inspected image is made of, from its label, or ""."""
    return _made_of(_labels(image))[0]


def _labels(image: Image) -> dict[str, str]:
    return (image.get("Config") or {}).get("Labels") or {}


def _made_of(labels: dict[str, str]) -> tuple[str, str]:
    """Return the words of SOURCE_LABEL, or "" for each: a checksum, and the parent's id."""
    checksum, _, parent = str(labels.get(SOURCE_LABEL, "")).partition(" ")
    return checksum, parent


class Stored:
    """Images, networks and volumes of an engine."""

    def __init__(self, api: Api) -> None:
        """`api` is the engine's API."""
        self.api = api

    def image(self, name: str) -> Image | None:
        """Return `docker image inspect`; None if the image does not exist."""
        what = f"docker image inspect {name}"
        try:
            return self.api.answer(what, Image, lambda client: client.inspect_image(name))
        except NotThereError:
            return None

    def image_source(self, image: str) -> str:
        """Return the checksum of the inputs of `image`, from its label, or "" if there is none."""
        found = self.image(image)
        return source(found) if found else ""

    def parent(self, own: str) -> str:
        """Return the id of the image that all others are made of; `own` is the orchestrator's.

        Raises `DockerError` if it does not exist. Its name may be another checkout's image.
        """
        inspected = self.image(own)
        found = _made_of(_labels(inspected))[1] if inspected else ""
        if not found or not self.image(found):
            raise DockerError(
                "the image that all others are made of is missing",
                hint="run ./run.sh down --rmi all, then the command again: it builds all images",
            )
        return found

    def build_image(self, name: str, recipe: Recipe, log: pathlib.Path) -> None:
        """Build the image `name` from the checkout with the classic builder; output goes to `log`.

        The engine ends the build if this process ends. Raises `BuildError`.
        """
        what = f"docker build {name}"

        def build(client: Client) -> Iterable[Told]:
            events = client.build(
                path=str(ROOT),
                dockerfile=recipe.dockerfile,
                tag=name,
                buildargs=recipe.arguments,
                labels=recipe.labels,
                rm=True,
                forcerm=True,
                decode=True,
            )
            return (read(Told, event, what) for event in events)

        failure = ""
        with log.open("w", errors="replace") as file:
            for event in self.api.stream(what, build, LONG_SECONDS, whole=True):
                failure = event.get("error") or failure
                file.write(event.get("stream") or event.get("error") or "")
        if failure:
            lines = log.read_text(errors="replace").splitlines()
            raise BuildError("\n".join(lines[-BUILD_LINES:]))

    def layers(self, image: str) -> tuple[str, tuple[str, ...]]:
        """Return the id of `image`, and its layers' SHA-256; raises `DockerError` without it."""
        found = self.image(image)
        if not found:
            raise DockerError(f"the image {image} is missing", hint="run ./run.sh again")
        return found["Id"], tuple((found.get("RootFS") or {}).get("Layers") or [])

    def save_images(self, images: Collection[str]) -> Iterable[bytes]:
        """Yield the archive of `docker save` with all `images`, which share layers."""

        def save(client: Client) -> Iterable[bytes]:
            # docker-py's own call takes one image, and the layers would come once for each.
            url = client._url("/images/get")
            answer = client._get(url, params={"names": list(images)}, stream=True)
            client._raise_for_status(answer)
            chunks: Iterable[bytes] = answer.iter_content(SAVED_BYTES)
            return chunks

        return self.api.stream("docker save", save, LONG_SECONDS, whole=True)

    def image_tags(self) -> list[str]:
        """Return the tags of this project's images, sorted."""
        return sorted({tag for one in self._own_images() for tag in _tags(one)})

    def usage(self) -> list[Used]:
        """Return this project's images and volumes with their sizes; images share layers."""
        found = self.api.answer("docker system df", Usage, lambda client: client.df(), times=HEAVY)
        images = [
            Used("image", ", ".join(_tags(one)) or one["Id"], one.get("Size"))
            for one in found.get("Images") or []
            if LABEL in (one.get("Labels") or {})
        ]
        volumes = [
            Used("volume", one["Name"], size if size >= 0 else None)
            for one in found.get("Volumes") or []
            if one["Name"].startswith(f"{PROJECT}-")
            for size in [(one.get("UsageData") or {}).get("Size", -1)]
        ]
        return [*sorted(images, key=lambda one: one.name), *volumes]

    def remove_old_images(self, current: Collection[str], made_before: float) -> list[str]:
        """Remove this project's old images; return their tags, or the ids of those without a tag.

        Old images have no tag (earlier versions, stages of builds), or a checksum label that is not
        in `current`. `current` also has the ids of images that are not old, whatever their names.
        Images created after `made_before` (seconds since 1970) may be part of a running build and
        are kept, as are images of containers.
        """
        removed: list[str] = []
        while True:
            names = [
                name
                for one in self._own_images()
                if one["Created"] < made_before
                for name in _old_names(one, current)
                if self._removed_image(name)
            ]
            if not names:  # an image with children can only be removed after its children
                return removed
            removed += names

    def _own_images(self) -> list[ImageRow]:
        return self.api.answer(
            "docker images",
            list[ImageRow],
            lambda client: client.images(filters={"label": f"{LABEL}=true"}),
        )

    def _removed_image(self, name: str) -> bool:
        with forgiven():
            self.api.call(f"removing {name}", lambda client: client.remove_image(name), times=HEAVY)
            return True
        return False

    def pull_digest(self, image: str) -> str:
        """Pull `image` and return its digest in the registry.

        If `image` was not here before, its name is removed again: the appliance's own name of its
        base image is another one.
        """
        known = self.image(image)
        name, _, tag = image.partition(":")
        what = f"pulling {image}"

        def pull(client: Client) -> Iterable[Told]:
            events = client.pull(name, tag or "latest", stream=True, decode=True)
            return (read(Told, event, what) for event in events)

        for said in self.api.stream(what, pull, LONG_SECONDS, whole=True):
            if error := said.get("error"):
                raise DockerError(f"{what}: {one_line(error)}")
        pulled = self.image(image)
        found = (pulled.get("RepoDigests") if pulled else None) or []
        if not known:
            self.api.call(what, lambda client: client.remove_image(image), times=HEAVY)
        digests = [one.partition("@")[2] for one in found if name in one]
        if not digests:
            raise DockerError(f"{what}: Docker has no digest of the image")
        return str(digests[0])

    def networks(self, label: str) -> list[Network]:
        """List networks with `label`."""
        return self._networks(lambda client: client.networks(filters={"label": label}))

    def networks_named(self, name: str) -> list[Network]:
        """List networks whose name begins with `name`."""
        return self._networks(lambda client: client.networks(names=[name]))

    def _networks(self, ask: Callable[[Client], object]) -> list[Network]:
        return self.api.answer("docker network ls", list[Network], ask)

    def volumes(self, label: str) -> list[Volume]:
        """List volumes with `label`."""
        return self._volumes({"label": label})

    def volume_names(self) -> list[str]:
        """Return the names of this project's volumes: the store's and all runs'."""
        return [one["Name"] for one in self._volumes({"name": f"{PROJECT}-"})]

    def _volumes(self, filters: dict[str, str]) -> list[Volume]:
        found = self.api.answer(
            "docker volume ls", Volumes, lambda client: client.volumes(filters=filters)
        )
        return found["Volumes"] or []

    def _volume(self, name: str) -> Volume | None:
        what = f"docker volume inspect {name}"
        try:
            return self.api.answer(what, Volume, lambda client: client.inspect_volume(name))
        except NotThereError:
            return None

    def volume_labels(self, name: str) -> dict[str, str]:
        """Return the labels of a volume; empty if it does not exist."""
        found = self._volume(name)
        return (found.get("Labels") if found else None) or {}

    def volume_made(self, name: str) -> str:
        """Return when a volume was made, in the engine's words; "" if it does not exist."""
        found = self._volume(name)
        return (found.get("CreatedAt") if found else None) or ""

    def make_volume(self, name: str, labels: dict[str, str]) -> None:
        """Create a volume; an existing one is not changed."""
        with signals_wait():
            self.api.call(
                f"docker volume create {name}",
                lambda client: client.create_volume(name, labels=labels),
            )

    def remove_volume(self, name: str) -> None:
        """Remove a volume; ignore a missing one, and one that a container uses."""
        with forgiven():
            self._remove_volume(name)

    def remove_stored(self, label: str, keep: Collection[str]) -> None:
        """Remove networks and volumes with `label`, except those named in `keep`.

        Another process may do the same at the same time.
        """

        def remove() -> None:
            for network in self.networks(label):
                if network["Name"] not in keep:
                    self._remove_network(network["Name"], network["Id"])
            for volume in self.volumes(label):
                if volume["Name"] not in keep:
                    self._remove_volume(volume["Name"])

        retry.without(RefusedError, remove, ENDPOINT_SECONDS, pause=0.2)

    def _remove_volume(self, name: str) -> None:
        self._remove(f"removing {name}", lambda client: client.remove_volume(name))

    def _remove_network(self, name: str, place: str) -> None:
        self._remove(f"{name} cannot be removed", lambda client: client.remove_network(place))

    def _remove(self, what: str, ask: Callable[[Client], object]) -> None:
        try:
            self.api.call(what, ask, times=HEAVY)
        except NotThereError:
            return


def _tags(image: "ImageRow | ImageSpace") -> list[str]:
    return [tag for tag in image.get("RepoTags") or [] if tag != "<none>:<none>"]


def _old_names(image: ImageRow, current: Collection[str]) -> list[str]:
    """Return the names to remove if `image` is old: its tags of this project, or its id."""
    tags = _tags(image)
    labels = image.get("Labels") or {}
    if image["Id"] in current:
        return []
    if not tags:
        return [image["Id"]]
    if SOURCE_LABEL not in labels or _made_of(labels)[0].removesuffix(LOCKED) in current:
        return []
    return [tag for tag in tags if tag.startswith(f"{PROJECT}-")]
