"""Keeps large folders that the caller sends, so that only changes are sent again.

Each folder has a volume of its own, named after the caller's computer, user and path
(caller/trees.sh). Only runs of that caller mount it, read-only. What the caller's files were like
is recorded on the volume that only orchestrators mount: a line for each, with its inode, its size,
and the times of its content and of itself. The second time is the kernel's: a folder cannot lie by
setting times. And a line counts for the same computer, user and path only.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import re
import secrets
import stat
import sys
import time
from collections.abc import Iterator

from orchestrator.ask.request import Caller
from orchestrator.ask.uploads import Mounted, mounted, received
from orchestrator.docker.labels import tree_volume
from orchestrator.docker.stored import Stored
from orchestrator.docker.workspace import BUILDER_UID, mount_points
from orchestrator.run.memory import FOLDER
from orchestrator.shared import command
from orchestrator.shared.errors import DeliveryError, UsageError
from orchestrator.shared.json_reader import JsonError, from_json, read_json
from orchestrator.shared.nar import Hashed, hash_folder

#: Folder of the records, and mount point of a copy that is brought up to date.
RECORDS = FOLDER / "trees"
PLACE = pathlib.Path("/tree")

#: A copy that no run has used for so many seconds is removed.
UNUSED_SECONDS = 30 * 86400.0

#: A file that has changed within so many seconds before it was looked at counts as changed the next
#: time: its times may be too coarse to tell a later change.
RACY_SECONDS = 2.0

#: Mark of a recorded line that no file is equal to.
CHANGED = "?"

#: Key of a copy: digits of a checksum that run.sh makes of computer, user and path.
KEY = re.compile("[0-9a-f]{32}")

#: Kinds of files by the type in their mode (stat(2)); others are not kept.
KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}


class UnkeptError(Exception):
    """The folder is not kept: run.sh sends it whole."""


@dataclasses.dataclass(frozen=True)
class Record:
    """What is known of a copy: the caller's `path`, and when its volume was made (Docker's words).

    `generation` changes with the copy. `size` is in bytes, `used` in seconds since 1970. `nar_hash`
    and `modified` are those of `Hashed`, "" until a flake has asked. `facts` is the SHA-256 of the
    list that the copy is like (`_sum`), which was made at the time `found`; it is "" if a file in
    the list counts as changed.
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


@dataclasses.dataclass(frozen=True)
class Entry:
    """One of the caller's files: its line, kind, size in bytes, path in the folder.

    `changed` is the time of its content in seconds since 1970; `racy`: the line may be equal to
    that of another content.
    """

    line: str
    kind: str
    size: int
    racy: bool
    name: str
    changed: float

    @property
    def kept(self) -> str:
        """The line as it is recorded; a folder's without times, which say nothing of its files."""
        if self.kind == "folder":
            return f"{self.kind} {self.name}"
        return CHANGED + self.line if self.racy else self.line


def read_facts(text: str) -> tuple[str, list[Entry]]:
    """Read what run.sh has found: the folder's path, and its files. Raises `UnkeptError`."""
    now, tree, *lines = text.removesuffix("\n").split("\n")
    return tree, [_entry(line, f".{tree}", float(now) - RACY_SECONDS) for line in lines]


def _found(text: str) -> float:
    """Return the time of a list of run.sh's; raises `UnkeptError`."""
    try:
        return float(text.partition("\n")[0])
    except ValueError:
        raise UnkeptError("the list of files has no time") from None


def _sum(text: str) -> str:
    """Return the SHA-256 of a list without its time."""
    return hashlib.sha256(os.fsencode(text.partition("\n")[2])).hexdigest()


def _entry(line: str, top: str, since: float) -> Entry:
    try:
        _inode, size, content, itself, mode, place = line.split(" ", 5)
        kind = KINDS.get(stat.S_IFMT(int(mode, 16)), "")
        racy = max(float(content), float(itself)) >= since
        name = "." if place == top else place.removeprefix(f"{top}/")
        good = kind and (place == top or place.startswith(f"{top}/"))
        if good and ".." not in pathlib.PurePosixPath(name).parts:
            return Entry(line, kind, int(size), racy, name, float(content))
    except ValueError:
        pass
    raise UnkeptError(f"{line!r} is no file that can be kept")


# --- what has changed -----------------------------------------------------------------------------


def compare(key: str, text: str, engine: Stored, records: pathlib.Path = RECORDS) -> str:
    """Return the answer to run.sh: `same GENERATION`, or `changed` or `new` and the lines to send.

    Lines are told by their numbers, from 1. Raises `UnkeptError`.
    """
    listed = _sum(text)
    with _locked(key, fcntl.LOCK_SH, records):
        record = read_record(key, engine, records)
        # Reading 90,000 lines takes longer than the rest: they need not be read if none is new.
        same = record and record.facts == listed and record.found <= _found(text)
        if not same:
            _tree, entries = read_facts(text)
            known = _lines(key, records) if record else set()
            new = {entry.kept for entry in entries}
            same = record and known == new and not any(entry.racy for entry in entries)
        if record and same:
            now = dataclasses.replace(record, used=time.time(), facts=listed, found=_found(text))
            _write(records / f"{key}.json", now)
            return f"same {record.generation}\n"
    with _locked(key, fcntl.LOCK_EX, records):  # no run may use the copy that is going to change
        pass
    (records / f"{key}.new").write_text(text)
    numbers = [
        str(number)
        for number, entry in enumerate(entries, 1)
        if entry.kind != "folder" and (entry.racy or entry.line not in known)
    ]
    return "".join(f"{one}\n" for one in ["changed" if record else "new", *numbers])


def update(
    key: str,
    digest: str,
    engine: Stored,
    stdin: int,
    place: pathlib.Path = PLACE,
    records: pathlib.Path = RECORDS,
) -> str:
    """Bring the copy at `place` up to date by the tar stream; return its new generation.

    `digest` is the SHA-256 of the list that was compared: another run's may have come since.
    Raises `UnkeptError`.
    """
    with _locked(key, fcntl.LOCK_EX, records):
        data = (records / f"{key}.new").read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise UnkeptError("another run has had the folder compared since")
        text = os.fsdecode(data)
        tree, entries = read_facts(text)
        record = read_record(key, engine, records)
        known = _lines(key, records) if record else set()
        (records / f"{key}.json").unlink(missing_ok=True)  # until all has arrived
        fresh = [entry for entry in entries if entry.kept not in known or entry.racy]
        _remove_others(place, entries, {entry.name for entry in fresh})
        for entry in entries:
            if entry.kind == "folder":
                (place / entry.name).mkdir(parents=True, exist_ok=True)
        _extract(stdin, place, len(pathlib.PurePosixPath(tree).parts))
        kept = {entry.kept for entry in entries}
        for entry in fresh:
            if not _arrived(entry, place):
                kept = kept - {entry.kept} | {CHANGED + entry.line}
        for entry in entries:
            if entry.kind == "link":
                _check_link(entry.name, place)
        os.chown(place, BUILDER_UID, BUILDER_UID)
        for entry in entries:  # Nix tells a flake the time of the newest
            if entry.kind == "folder":
                os.utime(place / entry.name, (entry.changed, entry.changed))
        (records / f"{key}.lines").write_text("".join(f"{line}\n" for line in sorted(kept)))
        files = [entry for entry in entries if entry.kind == "file"]
        made = Record(
            tree,
            engine.volume_made(tree_volume(key)),
            secrets.token_hex(16),
            len(files),
            sum(entry.size for entry in files),
            time.time(),
            facts="" if any(line.startswith(CHANGED) for line in kept) else _sum(text),
            found=_found(text),
        )
        _write(records / f"{key}.json", made)
        (records / f"{key}.new").unlink()
        return made.generation


def _remove_others(place: pathlib.Path, entries: list[Entry], fresh: set[str]) -> None:
    """Remove what is in the copy but not in `entries`, and what is sent anew."""
    folders = {"."}
    for entry in entries:
        path = pathlib.PurePosixPath(entry.name)
        folders.update(map(str, path.parents))
        if entry.kind == "folder":
            folders.add(entry.name)
    stay = {entry.name for entry in entries if entry.kind != "folder"} - fresh
    for folder, names, files, descriptor in os.fwalk(place, topdown=False):
        inside = pathlib.PurePosixPath(folder).relative_to(place)
        for name in (*files, *names):
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                if str(inside / name) not in folders:
                    os.rmdir(name, dir_fd=descriptor)
            elif str(inside / name) not in stay:
                os.unlink(name, dir_fd=descriptor)


def _extract(stdin: int, place: pathlib.Path, depth: int) -> None:
    words = ["tar", "--extract", "--file=-", "--ignore-zeros", "--no-same-owner"]
    words += ["--no-same-permissions", f"--strip-components={depth}", f"--directory={place}"]
    done = command.run(words, stdin=stdin, check=False, fails=DeliveryError)
    if done.code != 0:
        raise UnkeptError(f"not all files that run.sh sent have arrived: {done.last}")


def _arrived(entry: Entry, place: pathlib.Path) -> bool:
    """Give what has arrived to the builder's user; whether it is as it was when it was listed."""
    path = place / entry.name
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    os.chown(path, BUILDER_UID, BUILDER_UID, follow_symlinks=False)
    if entry.kind != "file":
        return True
    return stat.S_ISREG(status.st_mode) and status.st_size == entry.size


def _check_link(name: str, place: pathlib.Path) -> None:
    """Raise `UnkeptError` for a link that leads out, or that is not the same at another place.

    A link that has not changed may lead elsewhere since another one has.
    """
    path = place / name
    target = path.readlink() if path.is_symlink() else None  # an earlier update may have removed it
    if target and target.is_relative_to("/nix/store"):
        path.unlink()  # as uploads.check_trees does
    elif target and (target.is_absolute() or not path.resolve().is_relative_to(place.resolve())):
        raise UnkeptError(f"{name} leads out of the folder")


# --- records --------------------------------------------------------------------------------------


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
        with contextlib.suppress(UnkeptError), _locked(key, fcntl.LOCK_EX, records):
            engine.remove_volume(tree_volume(key))
            for ending in ("json", "lines", "new"):
                (records / f"{key}.{ending}").unlink(missing_ok=True)
            gone += [record] if record else []
    return gone


def _lines(key: str, records: pathlib.Path) -> set[str]:
    try:
        return set((records / f"{key}.lines").read_text().splitlines())
    except FileNotFoundError:
        return set()


def _write(place: pathlib.Path, record: Record) -> None:
    fresh = place.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(dataclasses.asdict(record)))
    fresh.rename(place)


@contextlib.contextmanager
def _locked(key: str, how: int, records: pathlib.Path) -> Iterator[None]:
    """Hold the copy's lock; raises `UnkeptError` if another process has it."""
    descriptor = _lock(key, how, records)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(key: str, how: int, records: pathlib.Path) -> int:
    records.mkdir(exist_ok=True)
    descriptor = os.open(records / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UnkeptError("another run uses the copy") from None
    return descriptor


# --- a run that uses copies -----------------------------------------------------------------------


def hold(who: Caller, engine: Stored, records: pathlib.Path = RECORDS) -> None:
    """Keep the run's copies as they are until this process ends.

    Raises `DeliveryError` if another run has changed one since run.sh had it compared.
    """
    for one in mounted(who):
        try:
            _lock(one.key, fcntl.LOCK_SH, records)  # open until the end
            record = read_record(one.key, engine, records)
        except UnkeptError:
            record = None
        if not record or record.generation != one.generation:
            raise DeliveryError(
                f"{one.path}: another run has changed the copy of this folder meanwhile",
                hint="run the command again",
            )
        if received(who, one.path) not in mount_points():
            raise DeliveryError(f"{one.path}: the copy of this folder is not there")


def hashed(who: Caller, engine: Stored, records: pathlib.Path = RECORDS) -> dict[str, Hashed]:
    """Return Nix' hashes of the run's copies by their places; only new copies are read.

    This process holds the copies (`hold`), which are mounted read-only.
    """
    found = {}
    for one in mounted(who):
        place, record = received(who, one.path), read_record(one.key, engine, records)
        if not record or record.generation != one.generation:
            continue
        if not record.nar_hash:
            nar_hash, modified = hash_folder(place)
            record = dataclasses.replace(record, nar_hash=nar_hash, modified=modified)
            _write(records / f"{one.key}.json", record)
        found[os.fspath(place)] = Hashed(record.nar_hash, record.modified)
    return found


def volumes(found: tuple[Mounted, ...], who: Caller) -> dict[str, object]:
    """Return Compose's words for the copies in the builder: read-only, at the files' places."""
    mounts = [
        {
            "type": "volume",
            "source": f"tree-{one.key}",
            "target": os.fspath(received(who, one.path)).replace("$", "$$"),
            "read_only": True,
        }
        for one in found
    ]
    named = {f"tree-{one.key}": {"external": True, "name": tree_volume(one.key)} for one in found}
    return {"services": {"builder": {"volumes": mounts}}, "volumes": named}


def answer(words: list[str], engine: Stored, stream: int) -> int:
    """Do what run.sh asks for: `compare KEY` or `update KEY DIGEST`; returns the exit code."""
    _action, key, *digest = words
    if not KEY.fullmatch(key):
        raise UsageError(f"{key!r} is not the key of a copy", hint="./run.sh help")
    try:
        if digest:
            text = update(key, digest[0], engine, sys.stdin.fileno()) + "\n"
        else:
            forget(engine)
            text = compare(key, sys.stdin.read(), engine)
    except UnkeptError as error:
        sys.stderr.write(f"{error}\n")
        return DeliveryError.exit_code
    os.write(stream, text.encode())
    return 0
