"""What is known of the copies of large folders, on the volume that only orchestrators mount."""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import re
import time
from collections.abc import Iterator

from orchestrator.docker.labels import tree_volume
from orchestrator.docker.stored import Stored
from orchestrator.run.memory import FOLDER
from orchestrator.run.tree_facts import UnkeptError
from orchestrator.shared.json_reader import JsonError, from_json, read_json

#: Folder of the records.
RECORDS = FOLDER / "trees"

#: A copy that no run has used for so many seconds is removed.
UNUSED_SECONDS = 30 * 86400.0

#: Key of a copy: digits of a checksum that run.sh makes of computer, user and path.
KEY = re.compile("[0-9a-f]{32}")


@dataclasses.dataclass(frozen=True)
class Record:
    """What is known of a copy: the caller's `path`, and when its volume was made (Docker's words).

    `generation` changes with the copy. `size` is in bytes, `used` in seconds since 1970. `nar_hash`
    and `modified` are those of `Hashed`, "" until a flake has asked. `facts` is the SHA-256 of the
    list that the copy is like (`tree_facts.sum_of`), which was made at the time `found`; it is ""
    if a file in the list counts as changed. `mount` is the list's `tree_facts.mount_of`.
    """

    path: str
    volume: str
    generation: str
    files: int
    size: int
    used: float
    nar_hash: str = ""
    modified: int = 0
    facts: str = ""
    found: float = 0.0
    mount: str = ""


def read_record(key: str, engine: Stored, records: pathlib.Path = RECORDS) -> Record | None:
    """Return what is known of a copy; None if it or its volume is gone, or another one."""
    try:
        text = (records / f"{key}.json").read_text()
        record = from_json(Record, read_json(text, key), key)
    except (OSError, ValueError, JsonError):
        return None
    return record if engine.volume_made(tree_volume(key)) == record.volume else None


def copies(engine: Stored, records: pathlib.Path = RECORDS) -> dict[str, Record]:
    """Return all copies by their keys."""
    found = {
        place.stem: read_record(place.stem, engine, records) for place in records.glob("*.json")
    }
    return {key: record for key, record in found.items() if record}


def forget(
    engine: Stored, seconds: float = UNUSED_SECONDS, records: pathlib.Path = RECORDS
) -> list[Record]:
    """Remove copies that no run has used for `seconds`, and return them; remove remains, too."""
    gone, known, top = [], copies(engine, records), tree_volume("")
    there = {one.removeprefix(top) for one in engine.volume_names() if one.startswith(top)}
    for key in known.keys() | set(filter(KEY.fullmatch, there)):
        record = known.get(key)
        if record and record.used > time.time() - seconds:
            continue
        with contextlib.suppress(UnkeptError), locked(key, fcntl.LOCK_EX, records):
            engine.remove_volume(tree_volume(key))
            for ending in ("json", "lines", "new"):
                (records / f"{key}.{ending}").unlink(missing_ok=True)
            gone += [record] if record else []
    return gone


def read_lines(key: str, record: Record | None, mount: str, records: pathlib.Path) -> set[str]:
    """Return the lines of the files that a copy has.

    There are none without a record, or if the folder is on another `mount` now: what has written
    to its disk meanwhile may have set all times.
    """
    if not record or record.mount != mount:
        return set()
    try:
        return set(read_text(records / f"{key}.lines").split("\n")[:-1])
    except FileNotFoundError:
        return set()


def read_text(place: pathlib.Path) -> str:
    """Return a file's text byte by byte: names may have letters that other readers end lines at."""
    return os.fsdecode(place.read_bytes())


def write_record(place: pathlib.Path, record: Record) -> None:
    """Write a record so that a process that reads `place` meanwhile finds all or nothing of it."""
    fresh = place.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(dataclasses.asdict(record)))
    fresh.rename(place)


@contextlib.contextmanager
def locked(key: str, how: int, records: pathlib.Path) -> Iterator[None]:
    """Hold the copy's lock; raises `UnkeptError` if another process has it."""
    descriptor = lock(key, how, records)
    try:
        yield
    finally:
        os.close(descriptor)


def lock(key: str, how: int, records: pathlib.Path) -> int:
    """Take the copy's lock, until the descriptor that is returned is closed.

    `how` is `fcntl.LOCK_SH` or `fcntl.LOCK_EX`. Raises `UnkeptError` if another process has it.
    """
    records.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(records / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UnkeptError("another run uses the copy") from None
    return descriptor
