"""Copies what runs have built to a binary cache, by the agent `push`."""

import contextlib
import dataclasses
import os
import pathlib
import secrets
import shutil

from orchestrator.docker.answers import LostEngineError
from orchestrator.docker.engine import Engine
from orchestrator.docker.workspace import ROOTS_OWN, Workspace, give_keys, take
from orchestrator.run.context import RunContext
from orchestrator.run.memory import FOLDER
from orchestrator.run.once import run_once
from orchestrator.run.supervisor import Event
from orchestrator.shared.errors import DockerError, PushError
from orchestrator.shared.progress import Progress
from orchestrator.shared.push import KEYS, OWN, SIGN_KEY, Order
from orchestrator.shared.text import public

#: Key of this engine's own cache, on the volume that only orchestrators mount.
OWN_KEY = FOLDER / "cache.key"


@dataclasses.dataclass(frozen=True)
class Pusher:
    """Starts the agent for one run; `deadline` is a time of the monotonic clock."""

    engine: Engine
    workspace: Workspace
    progress: Progress
    deadline: float

    def copy(self, url: str, paths: tuple[str, ...]) -> None:
        """Copy the closures of store `paths`, by default all recent results; raises `PushError`.

        No container in which a build ran may be left: it could read the keys.
        """
        if url == OWN:
            self.own_key()
        give_keys(self.workspace.keys, self.workspace.shared)
        self.order(Order("copy", url, paths))

    def own_key(self) -> bytes:
        """Return the secret key of this engine's own cache, which is made if there is none."""
        if not OWN_KEY.exists():
            give_keys(self.workspace.keys, self.workspace.shared)
            self.order(Order("key"))
            # Root's own folder: an image may have any name among the files that are taken.
            made = take(self.workspace.shared, f"{KEYS}/{SIGN_KEY}", OWN_KEY.name, ROOTS_OWN)
            _adopt(made)
        self.workspace.keys.mkdir(exist_ok=True)
        shutil.copyfile(OWN_KEY, self.workspace.keys / SIGN_KEY)
        return OWN_KEY.read_bytes()

    def order(self, order: Order) -> Event:
        """Have the agent do `order`; return its last event. Raises `PushError`."""
        agent = "orchestrator.agents.builder.push"
        try:
            return run_once(self.engine, self.progress, self.deadline, "push", agent, order)
        except LostEngineError:
            raise
        except DockerError as error:
            raise PushError(str(error), hint=error.hint, detail=error.detail) from error


def _adopt(made: pathlib.Path) -> None:
    """Make the file `made` the key, whole or not at all, unless another run has made one meanwhile.

    Nobody would take what is signed with a key that was replaced.
    """
    new = OWN_KEY.with_name(f"{OWN_KEY.name}.{secrets.token_hex(8)}")
    new.touch(mode=0o600)
    try:
        with new.open("wb") as file:
            file.write(made.read_bytes())
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(new, OWN_KEY)
    finally:
        new.unlink()
    made.unlink()


def push(run: RunContext, url: str, paths: tuple[str, ...]) -> None:
    """Copy what a run has built to the cache `url`; raises `PushError`."""
    run.progress.to("push", public(url))
    Pusher(run.engine, run.workspace, run.progress, run.deadline).copy(url, paths)
