"""Delivers a run's images, each when it is finished, or the build log after a failure."""

import contextlib
import functools
import os
import pathlib
import shutil
from collections.abc import Callable

from orchestrator.ask.request import AUTO
from orchestrator.ask.uploads import kept
from orchestrator.deliver import evidence
from orchestrator.deliver.stream import Delivery, as_announced, known_hosts, received_image
from orchestrator.docker.privileges import Receipt
from orchestrator.docker.workspace import TAKEN, take
from orchestrator.run.account import Account, Boot
from orchestrator.run.context import RunContext
from orchestrator.run.supervisor import Event, Supervisor
from orchestrator.shared.artifact import (
    BUILD_LOG,
    IMAGE_RESULT,
    KNOWN_HOSTS,
    LOG,
    LOG_TYPE,
    REPORT,
    RESULT,
    SERIAL_LOG,
    Artifact,
)
from orchestrator.shared.constants import MIB
from orchestrator.shared.errors import (
    ApplianceError,
    BuildError,
    DeliveryError,
    EmulatorCrashError,
)
from orchestrator.shared.json_reader import Natural
from orchestrator.shared.quantities import number
from orchestrator.shared.run import SENT
from orchestrator.shared.text import columns

#: Files with the guest's console output and Nix' log in the run's shared folder.
SERIAL = "serial.log"
NIX_LOG = "nix.log"

#: Folder in TAKEN with a link to the image of the boot check: its own name goes when it was sent.
TO_BOOT = ".boot"

#: Most images that are named in a line.
NAMED = 3

#: Errors for which Nix' log has more details.
IN_THE_BUILD = BuildError | EmulatorCrashError


def table(images: list[Artifact]) -> str:
    """Return a table of several images for a person."""
    head = ("image", "format", "system", "MiB")
    rows = [(one.file_name, one.format, one.system, f"{-(-one.size // MIB)}") for one in images]
    return columns([head, *rows]).rstrip("\n")


def _names(images: list[Artifact]) -> str:
    """Return the names of few images, the number of many."""
    many = number(len(images), "image")
    return many if len(images) > NAMED else ", ".join(one.file_name for one in images)


class Handover:
    """Delivery of one run's images: `send` and `keep`, then `finish`, `break_off` or `abandon`.

    After a failed build, `send_log`.
    """

    def __init__(
        self,
        run: RunContext,
        supervisor: Supervisor,
        stream: int,
        receipts: Callable[[], list[Receipt]],
    ) -> None:
        """Deliver from the run's shared folder to the file descriptor `stream`.

        `receipts` returns the privileges of the run's containers.
        """
        self._run = run
        self._account = Account(run, supervisor)
        self._folder = run.workspace.shared
        self._taken = self._folder / TAKEN
        self._stream = stream
        self._receipts = receipts
        #: Images by their positions; of these the first one made, those that are whole at the
        #: caller's, and those still on the way.
        self._images: dict[int, Artifact] = {}
        self._made: Artifact | None = None
        self._whole: set[str] = set()
        self._leaving: list[str] = []
        self._outgoing: Delivery | None = None
        self._report = ""

    @property
    def images(self) -> list[Artifact]:
        """All images so far, in the order of the request."""
        return [self._images[position] for position in sorted(self._images)]

    @property
    def to_boot(self) -> pathlib.Path:
        """The first image, for the boot check."""
        return self._taken / TO_BOOT / self._images[0].file_name

    def check_whole(self) -> None:
        """Raise `BuildError` unless there are images, and none is missing between them."""
        if not self._images or sorted(self._images) != list(range(len(self._images))):
            raise BuildError("the builder has not announced all images")

    def send(self, event: Event) -> None:
        """Take over the image that the builder has announced, and deliver it.

        That of the boot check, or of a run that makes no other, is sent now, and complete when the
        run has ended: the files beside it tell of that.
        """
        names = [one.file_name for one in self._images.values()]
        image = received_image(event.get("image"), self._folder, names, self._run.hosts)
        first = self._place(image, event) == 0
        if first and self._run.plan.boot:
            self.to_boot.parent.mkdir()
            self.to_boot.hardlink_to(self._taken / image.file_name)
        self._made = self._made or image
        self._begun().send(image.file_name, image.sha256)
        if not first or (self._run.request.fleet and not self._run.plan.boot):
            self._complete(image, self._receipts(), None, None)
        self._leaving.append(image.file_name)

    def keep(self, event: Event) -> None:
        """Note that the caller has an image already, made from the same."""
        there = {one.file_name: one for one in self._run.delivered}
        image = there.get(as_announced(str, event.get("name"), "name"))
        if not image:
            raise BuildError(
                "the builder says that an image stays as it is, but the caller has no such image"
            )
        if image.file_name in {one.file_name for one in self._images.values()}:
            raise BuildError(f"{image.file_name}: the builder has announced this image already")
        if self._place(image, event) == 0 and self._run.plan.boot:
            raise BuildError(f"{image.file_name}: the image of the boot check must be made anew")
        self._whole.add(image.file_name)
        place = self._run.request.out / image.file_name
        self._run.progress.say(f"{place}: is whole, and made from the same: it stays")

    def tell_left(self) -> None:
        """Tell the builder which images have left the work volume."""
        for name in self._leaving.copy():
            if self._outgoing and self._outgoing.has_left(name):
                (self._folder / SENT / name).touch()
                self._leaving.remove(name)

    def finish(self, boot: Boot, receipts: list[Receipt], problem: ApplianceError | None) -> None:
        """Send the files of the whole run, and the manifest that ends the delivery.

        `boot` is the boot check's result, or None; `problem` is the error after which the images
        are delivered nevertheless.
        """
        outgoing, images = self._begun(), self.images
        with self._run.progress.stage("deliver", _names(images)):
            if images[0].file_name not in self._whole:
                self._complete(images[0], receipts, boot, problem)
            if self._made and self._said(NIX_LOG):
                outgoing.send(take(self._folder, NIX_LOG, f"{self._made.file_name}{LOG}").name)
            whole = self._account.result(images, boot, receipts)
            outgoing.send(whole.write(self._taken / RESULT))
            if known := known_hosts(images):
                with (self._taken / KNOWN_HOSTS).open("x") as file:
                    file.write(known)
                outgoing.send(KNOWN_HOSTS)
            for image in images:
                outgoing.there(image.file_name, image.sha256)
            outgoing.finish()
        if self._report:
            self._run.progress.say(f"report: {self._run.request.out / self._report}")
        if len(images) > 1:
            self._run.progress.say(table(images))

    def break_off(self) -> None:
        """End the delivery of a run that fails: what is complete still arrives."""
        if self._outgoing:
            # The run's own error matters.
            with contextlib.suppress(DeliveryError):
                self._outgoing.close()
        if self._whole:
            count, out = number(len(self._whole), "image"), self._run.request.out
            self._run.progress.say(f"{count} in {out} stay: the same command makes the rest")

    def abandon(self) -> None:
        """End the delivery at once: run.sh keeps what is complete there."""
        if self._outgoing:
            self._outgoing.abandon()

    def send_log(self, problem: ApplianceError) -> None:
        """Deliver Nix' log if it has details of `problem`, and name it in the error."""
        failed = isinstance(problem, IN_THE_BUILD) and not self._run.request.dry_run
        again = isinstance(problem, EmulatorCrashError) and self._run.request.qemu == AUTO
        if self._outgoing or not failed or again or not self._said(NIX_LOG):
            return
        # A failure here is ignored: the original error matters.
        with contextlib.suppress(OSError, ApplianceError):
            said = take(self._folder, NIX_LOG, NIX_LOG)
            there = kept(self._run.caller)
            name = BUILD_LOG if BUILD_LOG not in there else f"build-{self._run.caller.run}.log"
            with said.open("rb") as source, said.with_name(name).open("xb") as log:
                log.write(f"# {LOG_TYPE}: run {self._run.caller.run}\n".encode())
                shutil.copyfileobj(source, log)
            outgoing = Delivery(said.parent, self._stream, sparse=False)
            outgoing.send(name)
            outgoing.finish()
            problem.log = os.fspath(self._run.request.out / name)

    def _begun(self) -> Delivery:
        """Return the delivery, which begins with the first image."""
        if not self._outgoing:
            self._run.word.settle()
            self._outgoing = Delivery(
                self._taken,
                self._stream,
                sparse=self._run.caller.sparse,
                private=self._run.request.image.secret,
            )
        return self._outgoing

    def _place(self, image: Artifact, event: Event) -> int:
        """Note the position of `image` in the request, and return it."""
        position = as_announced(Natural, event.get("position"), "position")
        if position in self._images:
            raise BuildError(f"{image.file_name}: another image has its position")
        self._images[position] = image
        return position

    def _complete(
        self,
        image: Artifact,
        receipts: list[Receipt],
        boot: Boot,
        problem: ApplianceError | None,
    ) -> None:
        """Send the files beside `image`, and a manifest: then the caller may have it."""
        outgoing = self._begun()
        own = self._account.result([image], boot, receipts)
        names = [own.write(self._taken / f"{image.file_name}{IMAGE_RESULT}")]
        if self._run.plan.boot and self._said(SERIAL):
            log = take(self._folder, SERIAL, f"{image.file_name}{SERIAL_LOG}")
            names.append(log.name)
        story = self._account.story(image, boot, problem)
        warn = functools.partial(self._run.progress.say, level="warning")
        about = self._account.about(receipts)
        names += [pathlib.PurePosixPath(extra).name for extra in image.extras]
        names += evidence.write(self._taken, image, about, story, warn)
        self._report = self._report or next((one for one in names if one.endswith(REPORT)), "")
        for name in names:
            outgoing.send(name)
        outgoing.complete([image.file_name, *names])
        self._whole.add(image.file_name)

    def _said(self, name: str) -> bool:
        """Return whether an agent has written the file `name`; a link does not count."""
        return (self._folder / name).is_file(follow_symlinks=False)
