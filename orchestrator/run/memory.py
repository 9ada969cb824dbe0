"""Keeps the history of past runs in a volume that only orchestrators mount."""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import stat
import time
from collections.abc import Mapping

from orchestrator.decide.history import History, remember
from orchestrator.shared.json_reader import JsonError, from_json, read_json
from orchestrator.shared.steps import Steps

#: Mount point of the volume (caller/runs.sh), and the file in it.
FOLDER = pathlib.Path("/var/lib/nixos-image")
HISTORY = "history.json"
LOCK = "history.lock"

#: A larger file is not ours (bytes).
LARGEST = 4 << 20

#: Version of the file's format: a file of another version is replaced.
VERSION = 1

DAY_SECONDS = 86400


def recall(folder: pathlib.Path = FOLDER) -> History:
    """Return the history; an empty one if there is none, or one that cannot be read."""
    try:
        document = read_json(_text(folder / HISTORY), HISTORY)
        if not isinstance(document, dict) or document.pop("version", None) != VERSION:
            return History()
        return from_json(History, document, HISTORY)
    except (OSError, ValueError, JsonError):
        return History()


def keep(
    steps: Steps, stages: Mapping[str, float], verb: str, folder: pathlib.Path = FOLDER
) -> None:
    """Add a run to the history; other orchestrators may do so at the same time.

    Raises `OSError` if the file cannot be written. Without the volume, nothing is kept.
    """
    if not folder.is_dir():
        return
    with (folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        day = int(time.time() // DAY_SECONDS)
        new = remember(recall(folder), steps, stages, verb, day)
        fresh = folder / f"{HISTORY}.new"
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()  # a killed run's
        fresh.write_text(json.dumps({"version": VERSION, **dataclasses.asdict(new)}))
        fresh.rename(folder / HISTORY)


def _text(path: pathlib.Path) -> str:
    """Return the text of a file of reasonable size; raises `OSError` or `ValueError`."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:
            raise ValueError(f"{path.name} is no file of this project")
        return file.read().decode()
