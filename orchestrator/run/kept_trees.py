"""Keeps large folders that the caller sends, so that only changes are sent again.

Each folder has a volume of its own, named after the caller's computer, user and path
(caller/trees.sh). Only runs of that caller mount it, read-only. What the caller's files were like
is recorded on the volume that only orchestrators mount: a line for each, with its inode, its size,
and the times of its content and of itself. The second time is the kernel's: a folder cannot lie by
setting times. And a line counts for the same computer, user and path only.
"""

import dataclasses
import fcntl
import hashlib
import os
import pathlib
import secrets
import stat
import sys
import time

from orchestrator.ask.request import Caller
from orchestrator.ask.uploads import Mounted, forget_folder_times, mounted, received
from orchestrator.docker.labels import tree_volume
from orchestrator.docker.stored import Stored
from orchestrator.docker.workspace import BUILDER_UID, mount_points
from orchestrator.run.tree_facts import (
    CHANGED,
    Entry,
    UnkeptError,
    mount_of,
    read_facts,
    sum_of,
    time_of,
)
from orchestrator.run.tree_records import (
    KEY,
    RECORDS,
    Record,
    forget,
    lock,
    locked,
    read_lines,
    read_record,
    write_record,
)
from orchestrator.shared import command
from orchestrator.shared.errors import DeliveryError, UsageError
from orchestrator.shared.nar import Hashed, hash_folder

#: Mount point of a copy that is brought up to date.
PLACE = pathlib.Path("/tree")

# --- what has changed -----------------------------------------------------------------------------


def compare(key: str, text: str, engine: Stored, records: pathlib.Path = RECORDS) -> str:
    """Return the answer to run.sh: `same GENERATION`, or `changed` or `new` and the lines to send.

    Lines are told by their numbers, from 1. Raises `UnkeptError`.
    """
    listed = sum_of(text)
    with locked(key, fcntl.LOCK_SH, records):
        record = read_record(key, engine, records)
        # Reading 90,000 lines takes longer than the rest: they need not be read if none is new.
        same = record and record.facts == listed and record.found <= time_of(text)
        if not same:
            _tree, entries = read_facts(text)
            known = read_lines(key, record, mount_of(text), records)
            new = {entry.kept for entry in entries}
            same = record and known == new and not any(entry.racy for entry in entries)
        if record and same:
            now = dataclasses.replace(record, used=time.time(), facts=listed, found=time_of(text))
            write_record(records / f"{key}.json", now)
            return f"same {record.generation}\n"
    with locked(key, fcntl.LOCK_EX, records):  # no run may use the copy that is going to change
        pass
    (records / f"{key}.new").write_bytes(os.fsencode(text))
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
    with locked(key, fcntl.LOCK_EX, records):
        data = (records / f"{key}.new").read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise UnkeptError("another run has had the folder compared since")
        text = os.fsdecode(data)
        tree, entries = read_facts(text)
        record = read_record(key, engine, records)
        known = read_lines(key, record, mount_of(text), records)
        (records / f"{key}.json").unlink(missing_ok=True)  # until all has arrived
        fresh = [entry for entry in entries if entry.kept not in known or entry.racy]
        _remove_others(place, entries, {entry.name for entry in fresh})
        for entry in entries:
            if entry.kind == "folder":
                (place / entry.name).mkdir(parents=True, exist_ok=True)
        _extract(stdin, place, len(pathlib.PurePosixPath(tree).parts))
        _remove_others(place, entries, set())  # what has come without being listed
        kept = {entry.kept for entry in entries}
        for entry in fresh:
            if not _arrived(entry, place):
                kept = kept - {entry.kept} | {CHANGED + entry.line}
        for entry in entries:
            if entry.kind == "link":
                _check_link(entry.name, place)
        os.chown(place, BUILDER_UID, BUILDER_UID)
        forget_folder_times(place)
        lines = "".join(f"{line}\n" for line in sorted(kept))
        (records / f"{key}.lines").write_bytes(os.fsencode(lines))
        files = [entry for entry in entries if entry.kind == "file"]
        made = Record(
            tree,
            engine.volume_made(tree_volume(key)),
            secrets.token_hex(16),
            len(files),
            sum(entry.size for entry in files),
            time.time(),
            facts="" if any(line.startswith(CHANGED) for line in kept) else sum_of(text),
            found=time_of(text),
            mount=mount_of(text),
        )
        write_record(records / f"{key}.json", made)
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


# --- a run that uses copies -----------------------------------------------------------------------


def hold(who: Caller, engine: Stored, records: pathlib.Path = RECORDS) -> None:
    """Keep the run's copies as they are until this process ends.

    Raises `DeliveryError` if another run has changed one since run.sh had it compared.
    """
    for one in mounted(who):
        try:
            lock(one.key, fcntl.LOCK_SH, records)  # open until the end
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
            write_record(records / f"{one.key}.json", record)
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
            text = compare(key, os.fsdecode(sys.stdin.buffer.read()), engine)
    except UnkeptError as error:
        sys.stderr.write(f"{error}\n")
        return DeliveryError.exit_code
    os.write(stream, text.encode())
    return 0
