"""Hands finished images to the orchestrator one by one; leaves out what the caller has already."""

import dataclasses
import hashlib
import json
import os
import pathlib
import threading
import time

from orchestrator.agents import events
from orchestrator.agents.builder.imaging import Wanted
from orchestrator.agents.failure import AgentError
from orchestrator.image.tree import Entry
from orchestrator.shared.artifact import Artifact, sha256_of
from orchestrator.shared.cost import UNSENT
from orchestrator.shared.run import SENT, Run
from orchestrator.shared.task import Task

#: Cost of scrypt: 8 MiB of memory and about 20 ms for each guess of an image's late values.
COST, BLOCK, PARALLEL, SIZE = 1 << 13, 8, 1, 32

#: Seconds between two looks whether an image has left.
LOOK_SECONDS = 0.05


class Post:
    """Announces images by the event `image`, those that the caller has by `kept`.

    `task` says which those are.
    """

    def __init__(self, run: Run, task: Task) -> None:
        """Announce nothing yet."""
        self._run, self._task = run, task
        self._delivered = {one.file_name: one for one in task.delivered}
        self._announced = 0
        self._lock = threading.Lock()

    def has(self, wanted: Wanted, position: int) -> bool:
        """Return whether the caller has the image, made from the same; if so, announce that."""
        name = wanted.spec.file_name
        there = self._delivered.get(name)
        if position == 0 and self._task.first_anew:
            return False
        if not there or self._mark(wanted, there.sha256) != there.made:
            return False
        events.emit("kept", message=None, name=name, position=position)
        return True

    def hand(self, image: Artifact, position: int, wanted: Wanted | None = None) -> None:
        """Announce `image`, number `position` of the run; return when another may be made.

        Raises `AgentError` at the run's time limit.
        """
        if wanted and self._task.tools:
            image = dataclasses.replace(image, made=self._mark(wanted, image.sha256))
        with self._lock:
            self._announced += 1
            announced = self._announced
        events.emit(
            "image",
            message=f"{image.file_name}: done",
            image=dataclasses.asdict(image),
            position=position,
        )
        until = time.monotonic() + self._run.deadline_seconds
        while announced - self._sent() > UNSENT:
            if time.monotonic() > until:
                raise AgentError("the orchestrator takes no more images", kind="host")
            time.sleep(LOOK_SECONDS)

    def _sent(self) -> int:
        """Return how many images have left; without an orchestrator all stay, and none waits."""
        try:
            return len(os.listdir(self._run.folder / SENT))  # noqa: PTH208 - names are enough
        except FileNotFoundError:
            return self._announced

    def _mark(self, wanted: Wanted, image: str) -> str:
        """Return `Artifact.made` of the image with the SHA-256 `image`: a hash of what made it.

        The hash is slow, and differs for each image, because late values may be short passwords.
        """
        options = self._task.options
        keys = [options.secure_boot_key, options.secure_boot_cert]
        asked = [
            self._task.tools,
            dataclasses.asdict(wanted.spec),
            [_entry(one) for one in wanted.late],
            options.bmap,
            [sha256_of(pathlib.Path(one)) if one else "" for one in keys],
        ]
        text = json.dumps(asked, sort_keys=True).encode()
        salt = bytes.fromhex(image)
        return hashlib.scrypt(text, salt=salt, n=COST, r=BLOCK, p=PARALLEL, dklen=SIZE).hex()


def _entry(one: Entry) -> list[object]:
    content = sha256_of(one.source) if one.source else hashlib.sha256(one.data).hexdigest()
    return [one.path, one.kind, one.mode, content, one.target, one.user, one.group]
